"""Errors in one shape, limits, repeats."""

import pytest

from chirp_dashboard.api import door
from chirp_dashboard.api.models import Answer, Window
from chirp_dashboard.organizations.models import Application

pytestmark = pytest.mark.django_db


def error_of(response):
    assert response.headers["Content-Type"] == "application/json"
    assert set(response.json()) == {"error"}
    error = response.json()["error"]
    assert {"type", "message"} <= set(error) <= {"type", "message", "code", "param", "doc_url"}
    return error


def test_unknown_address_is_404_in_shape(client):
    for path in ("/v1/", "/v1/nothing", "/v1/organization/apps/"):
        response = client.get(path)
        assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


def test_other_method_is_405_in_shape(admin_call):
    response = admin_call("PATCH", "/organization/apps")
    assert response.status_code == 405
    assert error_of(response)["type"] == "invalid_request_error"
    assert "GET" in response.headers["Allow"]


def test_other_content_type_is_415(admin_call):
    response = admin_call.client.post(
        "/v1/organization/apps", "slug=x", content_type="application/x-www-form-urlencoded",
        headers={"Authorization": f"Bearer {admin_call.secret}"},
    )  # fmt: skip
    assert response.status_code == 415
    error_of(response)


@pytest.mark.parametrize("body", ["", "{", "[]", "null", '"x"', '{"slug": "\\ud800"}', "\xff"])
def test_body_that_is_no_object_is_400(admin_call, body):
    response = admin_call.client.post(
        "/v1/organization/apps", body, content_type="application/json",
        headers={"Authorization": f"Bearer {admin_call.secret}"},
    )  # fmt: skip
    assert response.status_code == 400, response.content
    error_of(response)
    assert not Application.objects.exists()


def test_huge_body_is_413(admin_call):
    response = admin_call("POST", "/organization/apps", {"slug": "x", "name": "x" * 2_000_000})
    assert response.status_code == 413
    error_of(response)


def test_wrong_field_is_named(admin_call):
    response = admin_call("POST", "/organization/apps", {"slug": "Not a slug", "name": "Shop"})
    assert response.status_code == 400
    assert error_of(response)["param"] == "slug"
    response = admin_call("PUT", "/organization/phone-numbers/ph_x/apps", {"appIds": ["a", 7]})
    assert error_of(response)["param"] == "appIds[1]"


def test_failure_of_ours_is_500_in_shape(admin_call, monkeypatch):
    def fail(*args, **options):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(Application.objects.__class__, "open", fail)
    response = admin_call("GET", "/organization/apps")
    assert response.status_code == 500
    assert error_of(response)["type"] == "api_error"
    assert b"secret detail" not in response.content


# Limits ---------------------------------------------------------------------------------------


def test_limit_stands_in_the_headers_and_is_kept(admin_call, monkeypatch):
    monkeypatch.setitem(door.PER_MINUTE, "management", 2)
    answers = [admin_call("GET", "/organization/apps") for _ in range(3)]
    assert [answer.status_code for answer in answers] in ([200, 200, 429], [200, 200, 200])
    last = answers[-1]
    assert last.headers["X-RateLimit-Limit"] == "2"
    if last.status_code == 429:
        assert error_of(last)["code"] == "rate_limit_exceeded"
        assert 1 <= int(last.headers["Retry-After"]) <= 60
        assert last.headers["X-RateLimit-Remaining"] == "0"


def test_limits_of_two_kinds_are_apart(admin_call):
    first = admin_call("GET", "/organization/apps")
    other = admin_call("GET", "/organization/phone-numbers")
    assert first.headers["X-RateLimit-Limit"] == "60"
    assert other.headers["X-RateLimit-Limit"] == "120"
    assert set(Window.objects.values_list("bucket", flat=True)) == {"management", "general"}


# Repeats --------------------------------------------------------------------------------------

SHOP = {"slug": "shop", "name": "Shop"}


def test_repeat_gets_the_first_answer(admin_call):
    first = admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    again = admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert again.headers["Idempotent-Replayed"] == "true"
    assert Application.objects.count() == 1


def test_another_body_is_422(admin_call):
    admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    other = admin_call("POST", "/organization/apps", SHOP | {"slug": "b"}, Idempotency_Key="k1")
    assert other.status_code == 422
    assert error_of(other)["code"] == "idempotency_conflict"
    assert Application.objects.count() == 1


def test_refusal_is_repeated_too(admin_call):
    admin_call("POST", "/organization/apps", SHOP)
    first = admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    Application.objects.all().update(slug="elsewhere")
    again = admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    assert first.status_code == again.status_code == 409


def test_keys_of_two_callers_do_not_meet(admin_call, rival_call):
    admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    theirs = rival_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1")
    assert theirs.status_code == 201
    assert "Idempotent-Replayed" not in theirs.headers


def test_failure_of_ours_is_worked_again(admin_call, monkeypatch):
    add = Application.objects.add

    def fail_after(*args, **options):
        add(*args, **options)
        raise RuntimeError

    with monkeypatch.context() as patched:
        patched.setattr(
            Application.objects.__class__, "add", lambda self, *a, **o: fail_after(*a, **o)
        )
        assert (
            admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1").status_code == 500
        )
    assert not Application.objects.exists()
    assert admin_call("POST", "/organization/apps", SHOP, Idempotency_Key="k1").status_code == 201


@pytest.mark.parametrize("name", ["", "x" * 256, "a\tb", "ü"])
def test_unusable_key_is_refused(admin_call, name):
    response = admin_call("POST", "/organization/apps", SHOP, Idempotency_Key=name)
    assert response.status_code == 400
    assert error_of(response)["param"] == "Idempotency-Key"
    assert not Answer.objects.exists()
    assert not Application.objects.exists()


def test_app_with_a_nul_in_its_id_is_found_nowhere_also_with_a_key(admin_call):
    wanted = {"phoneNumber": "+12125550142", "numberType": "local"}
    path = "/organization/phone-numbers/a%00b/purchase"
    response = admin_call("POST", path, wanted, Idempotency_Key="nul")
    assert (response.status_code, error_of(response)["code"]) == (404, "not_found")


def test_parameter_that_nothing_reads_is_400(admin_call):
    response = admin_call("GET", "/organization/available-phone-numbers?areacode=212")
    assert response.status_code == 400
    assert error_of(response)["param"] == "areacode"
