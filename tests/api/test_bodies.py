"""Bodies and addresses that no honest client sends: refused in the documented shape, and nothing changes."""

import gzip
import json

import pytest

from ..numbers.conftest import number, prices, purchase, stock
from .probing import belongings

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db

TAKING = [
    ("POST", "/phone-numbers", "phoneNumberId"),
    ("POST", "/organization/apps", "slug"),
    ("PUT", "/organization/apps/{app}", "name"),
    ("POST", "/organization/apps/{app}/phone-numbers", "phoneNumberId"),
    ("POST", "/organization/app-keys", "name"),
    ("POST", "/organization/admin-keys", "name"),
    ("PUT", "/organization/phone-numbers/{number}/apps", "appIds"),
    ("POST", "/organization/orders", "expectedTotal"),
    ("POST", "/organization/phone-numbers/{app}/purchase", "phoneNumber"),
    ("POST", "/webhooks", "url"),
    ("POST", "/organization/apps/{app}/webhooks", "headers"),
]
"""Everything that takes a body, and a field of it."""

WHOLE = {
    "nothing": b"",
    "no JSON": b"slug=x",
    "half of it": b'{"slug": "sh',
    "more than one": b"{} {}",
    "null": b"null",
    "list": b"[]",
    "text": b'"x"',
    "not UTF-8": b'{"FIELD": "\xff\xfe"}',
    "gzip": gzip.compress(b'{"FIELD": "x"}'),
    "comment": b'{"FIELD": "x"} // please',
    "NUL": b'{"FIELD": "a\\u0000b"}',
    "raw NUL": b'{"FIELD": "a\x00b"}',
    "half a character": b'{"FIELD": "\\ud800"}',
    "half a character as a name": b'{"\\ud800": "\\ud800", "FIELD": {"\\udc00": 1}}',
    "NaN": b'{"FIELD": NaN}',
    "Infinity": b'{"FIELD": -Infinity}',
    "beyond every float": b'{"FIELD": 1e999}',
    "5,000 digits": b'{"FIELD": ' + b"9" * 5_000 + b"}",
    "deep list": b'{"FIELD": ' + b"[" * 200_000 + b"]" * 200_000 + b"}",
    "deep object": b'{"FIELD": ' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
    "deep from the start": b"[" * 400_000,
    "one of many fields": json.dumps({f"f{n}": n for n in range(50_000)}).encode(),
    "a long list": b'{"FIELD": [' + b"1," * 200_000 + b"1]}",
}


@pytest.fixture
def ask(admin_call, app_call, storefront, number):
    """`ask("POST", "/webhooks", b"…")` with the key that the address takes."""

    def ask(method, path, body, **headers):
        call = admin_call if path.startswith("/organization") else app_call
        return call.client.generic(
            method, "/v1" + path.format(app=storefront.public_id, number=number.public_id), body,
            headers={"Authorization": f"Bearer {call.secret}"} | headers,
            content_type="application/json",
        )  # fmt: skip

    return ask


def refusal(response):
    assert response.headers["Content-Type"] == "application/json"
    assert set(response.json()) == {"error"}, response.content
    error = response.json()["error"]
    assert {"type", "message"} <= set(error) <= {"type", "message", "code", "param"}
    return error


@pytest.mark.parametrize("body", WHOLE)
def test_body_that_makes_no_sense_is_400_and_changes_nothing(body, ask):
    before = belongings()
    for method, path, field in TAKING:
        response = ask(method, path, WHOLE[body].replace(b"FIELD", field.encode()))
        assert response.status_code == 400, (method, path, response.content[:200])
        assert refusal(response)["type"] == "invalid_request_error"
    assert belongings() == before


def test_body_over_a_megabyte_is_413_everywhere(ask):
    before = belongings()
    for method, path, field in TAKING:
        response = ask(method, path, json.dumps({field: "x" * 2**20}).encode())
        assert response.status_code == 413, (method, path)
        refusal(response)
    assert belongings() == before


def test_of_a_field_that_is_given_twice_the_last_one_counts(ask):
    response = ask("POST", "/organization/apps", b'{"slug": "a", "name": "First", "name": "Last"}')
    assert (response.status_code, response.json()["name"]) == (201, "Last")


@pytest.mark.parametrize(
    "odd", [b"{}", b'{"a": NaN}', b'{"b": "\\ud800"}', b"[" * 500 + b"]" * 500]
)
def test_what_is_accepted_and_not_used_may_be_anything_json_can_say(odd, ask, number):
    body = b'{"phoneNumberId": "%s", "telnyxMessagingProfile": %s}'
    response = ask("POST", "/phone-numbers", body % (number.public_id.encode(), odd))
    assert response.status_code in {201, 400}, response.content


ODD = ["%00", "a%00b", "%FF", "%ED%A0%80", "%2E%2E", "%20", "x" * 4_000, "'%22--", "%F0%9F%93%9E"]
NAMED = [
    "/organization/apps/{}", "/organization/phone-numbers/{}", "/organization/orders/{}",
    "/organization/phone-numbers/{}/timeline", "/organization/billing/records/{}",
    "/organization/apps/{}/webhooks", "/webhooks/{}",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:12])
def test_odd_id_is_found_nowhere(odd, ask):
    for path in NAMED:
        response = ask("GET", path.format(odd), b"")
        assert response.status_code == 404, (path, response.content)
        assert refusal(response)["code"] == "not_found"


SEARCHED = [
    "/organization/available-phone-numbers?city={}", "/organization/available-phone-numbers?cursor={}",
    "/organization/phone-numbers?q={}", "/organization/phone-numbers?cursor={}",
    "/organization/apps/check-slug?slug={}", "/organization/billing/records?start_date={}",
    "/phone-numbers?limit={}",
]  # fmt: skip


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: odd[:12])
def test_odd_parameter_is_refused_or_finds_nothing(odd, ask):
    for path in SEARCHED:
        response = ask("GET", path.format(odd), b"")
        assert response.status_code in {200, 400}, (path, response.content)
        if response.status_code == 400:
            assert refusal(response)["param"]


@pytest.mark.parametrize("path", ["/organization/app-keys", "/organization/admin-keys"])
def test_older_lists_take_an_offset(path, ask):
    keys = ask("GET", path, b"").json()["keys"]
    assert ask("GET", f"{path}?offset=0&limit=1", b"").json()["keys"] == keys[:1]
    assert ask("GET", f"{path}?offset=1", b"").json()["keys"] == keys[1:]


def test_newer_lists_say_that_they_take_a_cursor(ask):
    """An offset that nothing reads would give the first page for ever."""
    for path in ("/organization/apps", "/organization/phone-numbers", "/phone-numbers"):
        response = ask("GET", f"{path}?offset=20", b"")
        assert response.status_code == 400
        assert refusal(response)["param"] == "offset"
