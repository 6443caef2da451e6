"""Keys: format, what is stored, who may what, and that a wrong one is 401 in every case."""

import re

import pytest
from django.utils import timezone

from chirp_dashboard.api.models import Answer
from chirp_dashboard.organizations.models import Activity, ApiKey
from chirp_dashboard.organizations.models.keys import (
    KEYS_AT_MOST,
    TooManyKeys,
    is_well_formed,
    make_secret,
)

pytestmark = pytest.mark.django_db


def test_key_is_shown_once_and_stored_hashed(admin_call, organization):
    key = ApiKey.objects.get()
    assert re.fullmatch(r"sk_admin_[0-9A-Za-z]{36}", admin_call.secret)
    stored = " ".join(str(value) for value in ApiKey.objects.values_list().get())
    assert admin_call.secret not in stored
    assert key.preview == f"sk_admin_****{admin_call.secret[-4:]}"
    assert admin_call.secret not in str(Activity.objects.filter(verb="key_created").values())


@pytest.mark.parametrize("prefix", ApiKey.PREFIXES)
def test_checksum_tells_a_mistyped_key(prefix):
    secret = make_secret(prefix)
    assert is_well_formed(secret)
    for place in range(len(prefix), len(secret)):
        other = "a" if secret[place] != "a" else "b"
        assert not is_well_formed(secret[:place] + other + secret[place + 1 :])


@pytest.mark.parametrize(
    "header",
    ["", "Bearer", "Bearer ", "Bearer x", "Basic abc", "Bearer sk_admin_" + "a" * 36,
     "Bearer sk_admin_" + "é" * 36, "Bearer sk_live_app_", "bearer sk_admin_\x00"],
)  # fmt: skip
def test_malformed_key_is_refused_without_a_query(client, django_assert_num_queries, header):
    with django_assert_num_queries(0):
        response = client.get("/v1/organization/apps", headers={"Authorization": header})
    assert response.status_code == 401
    assert response.json()["error"]["type"] == "authentication_error"
    assert response.headers["WWW-Authenticate"] == "Bearer"


def test_key_nobody_made_is_refused(client, db):
    headers = {"Authorization": f"Bearer {make_secret('sk_admin_')}"}
    assert client.get("/v1/organization/apps", headers=headers).status_code == 401


def test_revoked_key_ends_at_once(admin_call, owner):
    assert admin_call("GET", "/organization/apps").status_code == 200
    ApiKey.objects.get().revoke(by=owner, at=timezone.now())
    assert admin_call("GET", "/organization/apps").status_code == 401


def test_wrong_kind_is_401(admin_call, app_call):
    assert app_call("GET", "/organization/apps").status_code == 401
    assert admin_call("GET", "/phone-numbers").status_code == 401


def test_use_is_remembered(admin_call):
    assert ApiKey.objects.get().used_at is None
    admin_call("GET", "/organization/apps")
    assert ApiKey.objects.get().used_at is not None


def test_keys_are_made_listed_and_revoked(admin_call, storefront):
    made = admin_call(
        "POST", "/organization/app-keys", {"name": "CI", "appId": storefront.public_id}
    )
    assert made.status_code == 201
    assert made.json()["key"].startswith("sk_live_app_")
    listed = admin_call("GET", f"/organization/app-keys?appId={storefront.public_id}").json()
    assert listed["totalCount"] == 1
    (key,) = listed["keys"]
    assert key["id"] == made.json()["id"]
    assert "key" not in key
    assert admin_call("DELETE", f"/organization/app-keys/{key['id']}").status_code == 200
    assert admin_call("DELETE", f"/organization/app-keys/{key['id']}").status_code == 404
    assert admin_call("GET", "/organization/app-keys").json() == {"keys": [], "totalCount": 0}


def test_key_is_revoked_where_keys_of_its_kind_are(admin_call, app_call):
    admin, app = (ApiKey.objects.get(kind=kind).public_id for kind in ("admin", "app"))
    assert admin_call("DELETE", f"/organization/admin-keys/{app}").status_code == 404
    assert admin_call("DELETE", f"/organization/app-keys/{admin}").status_code == 404
    assert not ApiKey.objects.exclude(revoked_at=None).exists()


def test_key_of_an_archived_application_opens_nothing(app_call, storefront):
    assert app_call("GET", "/phone-numbers").status_code == 200
    storefront.archived_at = timezone.now()
    storefront.save(update_fields=["archived_at"])
    assert not ApiKey.objects.exclude(revoked_at=None).exists(), "it was not revoked"
    assert app_call("GET", "/phone-numbers").status_code == 401


def test_stored_answer_holds_no_key(admin_call):
    made = admin_call("POST", "/organization/admin-keys", {"name": "CI"}, Idempotency_Key="k")
    stored = Answer.objects.get().body
    assert made.json()["key"] not in stored
    assert f"sk_admin_****{made.json()['key'][-4:]}" in stored


def test_key_of_another_organization_is_404(admin_call, rival_call):
    theirs = ApiKey.objects.exclude(organization__slug="northwind").get()
    assert admin_call("DELETE", f"/organization/admin-keys/{theirs.public_id}").status_code == 404
    assert rival_call("GET", "/organization/apps").status_code == 200


def test_keys_are_limited(organization, owner):
    for _ in range(KEYS_AT_MOST):
        ApiKey.objects.issue(organization, name="k", by=owner, at=timezone.now())
    with pytest.raises(TooManyKeys):
        ApiKey.objects.issue(organization, name="k", by=owner, at=timezone.now())
