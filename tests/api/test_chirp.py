"""A program written for Chirp: each documented request is answered with the documented status and fields."""

import re

import pytest
from django.test import Client
from django.utils import timezone

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.organizations.models import Application

from ..numbers.conftest import number, prices, purchase, stock
from .conftest import make_key

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db

KSUID = "[a-zA-Z0-9]{27}"
APP = {"id", "slug", "name", "status", "createdAt", "updatedAt"}
KEY = {"id", "name", "keyPreview", "appId", "createdAt", "updatedAt"}
NEW_KEY = {"id", "key", "name", "createdAt", "updatedAt"}
OF_APP = {"phoneNumberId", "appId", "number", "createdAt", "updatedAt"}
FACTS = {"numberType", "location", "features"}
NUMBER = {"phoneNumberId", "number", "apps", "createdAt", "updatedAt"} | FACTS
HOOK = {"id", "appId", "url", "events", "headers", "createdAt", "updatedAt"}
ASSIGNED = "phone_numbers.assigned"


def answered(answer, status, fields):
    """The body of an answer that has `status` and at least `fields`."""
    assert answer.status_code == status, answer.content
    body = answer.json()
    assert fields <= set(body), fields - set(body)
    assert answer.headers["X-RateLimit-Limit"] in {"60", "120"}
    return body


def is_id(prefix, text, *, test=False):
    return re.fullmatch(f"{prefix}_{'test_' if test else ''}{KSUID}", text)


def test_apps_are_made_read_renamed_and_archived(admin_call):
    app = answered(admin_call("POST", "/organization/apps", {"slug": "a", "name": "A"}), 201, APP)
    assert is_id("app", app["id"])
    assert app["status"] == "active"
    path = f"/organization/apps/{app['id']}"
    assert answered(admin_call("GET", path), 200, APP) == app
    listed = answered(
        admin_call("GET", "/organization/apps"), 200, {"apps", "nextCursor", "totalCount"}
    )
    assert listed == {"apps": [app], "nextCursor": None, "totalCount": 1}
    taken = admin_call("GET", "/organization/apps/check-slug?slug=a")
    assert answered(taken, 200, set()) == {"available": False, "slug": "a"}
    renamed = answered(admin_call("PUT", path, {"name": "B", "slug": "b"}), 200, APP)
    assert (renamed["name"], renamed["slug"]) == ("B", "a")
    assert set(answered(admin_call("DELETE", path), 200, set())) == {"message"}
    assert admin_call("PUT", path, {"name": "C"}).status_code == 404


def test_keys_are_made_listed_and_revoked(admin_call, storefront):
    body = {"name": "My App Key", "appId": storefront.public_id}
    made = answered(admin_call("POST", "/organization/app-keys", body), 201, NEW_KEY | {"appId"})
    assert is_id("key_app", made["id"])
    assert made["key"].startswith("sk_live_app_")
    query = f"?limit=5&offset=0&appId={storefront.public_id}"
    listed = answered(
        admin_call("GET", f"/organization/app-keys{query}"), 200, {"keys", "totalCount"}
    )
    (key,) = listed["keys"]
    assert set(key) >= KEY
    assert key["keyPreview"].startswith("sk_live_app_****")
    assert answered(admin_call("GET", "/organization/app-keys?offset=1"), 200, set())["keys"] == []
    assert admin_call("DELETE", f"/organization/app-keys/{made['id']}").status_code == 200
    made = answered(admin_call("POST", "/organization/admin-keys", {"name": "CI"}), 201, NEW_KEY)
    assert is_id("key_admin", made["id"])
    assert made["key"].startswith("sk_admin_")
    assert answered(admin_call("GET", "/organization/admin-keys"), 200, set())["totalCount"] == 2
    assert admin_call("DELETE", f"/organization/admin-keys/{made['id']}").status_code == 200


def test_number_is_purchased_shared_removed_and_released(
    admin_call, organization, owner, stock, storefront, alerts
):
    app_call = make_key(organization, owner, storefront)
    body = {"phoneNumber": stock[0].number, "numberType": "local"}
    path = f"/organization/phone-numbers/{storefront.public_id}/purchase"
    bought = answered(
        admin_call("POST", path, body), 201,
        {"phoneNumberId", "appId", "number", "purchaseHistoryId", "createdAt"},
    )  # fmt: skip
    assert is_id("ph", bought["phoneNumberId"])
    assert is_id("ph_purch", bought["purchaseHistoryId"])
    assert (bought["appId"], bought["number"]) == (storefront.public_id, stock[0].number)
    ours, theirs = (
        f"/phone-numbers/{bought['phoneNumberId']}",
        {"phoneNumberId": bought["phoneNumberId"]},
    )
    envelope = {"phoneNumbers", "nextCursor", "totalCount"}
    (mine,) = answered(app_call("GET", "/phone-numbers"), 200, envelope)["phoneNumbers"]
    assert set(mine) == OF_APP
    assert set(answered(app_call("DELETE", ours), 200, set())) == {"message"}
    answered(app_call("POST", "/phone-numbers", theirs), 201, OF_APP)
    named = f"/organization/apps/{alerts.public_id}/phone-numbers"
    answered(admin_call("POST", named, theirs), 201, OF_APP | FACTS)
    answered(admin_call("DELETE", f"{named}/{bought['phoneNumberId']}"), 200, {"message"})
    shared = admin_call(
        "PUT", f"/organization{ours}/apps", {"appIds": [storefront.public_id, alerts.public_id]}
    )
    apps = answered(shared, 200, NUMBER)["apps"]
    assert {frozenset(app) for app in apps} == {frozenset({"appId", "appName", "appSlug"})}
    (listed,) = answered(admin_call("GET", "/organization/phone-numbers"), 200, envelope)[
        "phoneNumbers"
    ]
    one = answered(admin_call("GET", f"/organization{ours}"), 200, NUMBER)
    assert listed == one
    assert (one["location"], one["features"]) == ("New York, NY", ["SMS", "MMS", "Voice"])
    gone = answered(admin_call("DELETE", f"/organization{ours}"), 200, {"success", "phoneNumberId"})
    assert (gone["success"], gone["affectedApps"]) == (True, apps)


@pytest.mark.parametrize("kind", ["app", "admin"])
def test_webhooks_are_made_read_changed_and_removed(
    admin_call, organization, owner, storefront, kind
):
    call, path = admin_call, f"/organization/apps/{storefront.public_id}/webhooks"
    if kind == "app":
        call, path = make_key(organization, owner, storefront), "/webhooks"
    body = {"url": "https://example.com/a", "events": [ASSIGNED], "headers": {"X-App": "7"}}
    made = answered(call("POST", path, body), 201, HOOK)
    assert is_id("whk", made["id"])
    assert (made["appId"], made["events"]) == (storefront.public_id, [ASSIGNED])
    path_of = f"{path}/{made['id']}"
    answered(call("GET", path_of), 200, HOOK)
    assert [each["id"] for each in answered(call("GET", path), 200, {"webhooks"})["webhooks"]] == [
        made["id"]
    ]
    changed = answered(call("PUT", path_of, {"url": "https://example.com/b"}), 200, HOOK)
    assert (changed["url"], changed["events"]) == ("https://example.com/b", [ASSIGNED])
    assert set(answered(call("DELETE", path_of), 200, set())) == {"message"}
    missing = call("GET", path_of)
    assert (missing.status_code, missing.json()["error"]["param"]) == (404, "webhookId")


def test_billing_is_in_snake_case_and_decimals(admin_call, number):
    summary = answered(
        admin_call("GET", "/organization/billing/summary?start_date=2026-02-01&end_date=2026-12-31"),
        200, {"total_cost", "currency", "period", "by_product", "record_count"},
    )  # fmt: skip
    assert (summary["total_cost"], summary["currency"]) == ("1.27", "USD")
    assert summary["period"] == {"start": "2026-02-01", "end": "2026-12-31"}
    assert summary["by_product"] == {"phone-numbers": "1.27"}
    records = answered(admin_call("GET", "/organization/billing/records"), 200, {"records"})[
        "records"
    ]
    facts = {
        "id", "organization_id", "app_id", "record_type", "product", "cost_amount", "cost_currency",
        "occurred_at", "created_at",
    }  # fmt: skip
    one = answered(
        admin_call("GET", f"/organization/billing/records/{records[0]['id']}"), 200, facts
    )
    assert is_id("org", one["organization_id"])


def test_things_of_a_test_app_say_so(admin_call, organization, owner):
    sandbox = Application.objects.add(
        organization, name="Sandbox", slug="sandbox", kind=Application.Kind.TEST, by=owner,
        at=timezone.now(),
    )  # fmt: skip
    key = admin_call(
        "POST", "/organization/app-keys", {"name": "T", "appId": sandbox.public_id}
    ).json()
    assert key["key"].startswith("sk_test_app_")
    assert is_id("key_app", key["id"], test=True)
    body = {"phoneNumber": "+15005550142", "numberType": "local"}
    path = f"/organization/phone-numbers/{sandbox.public_id}/purchase"
    bought = answered(admin_call("POST", path, body), 201, {"purchaseHistoryId"})
    assert is_id("app", bought["appId"], test=True)
    assert is_id("ph", bought["phoneNumberId"], test=True)
    assert is_id("ph_purch", bought["purchaseHistoryId"], test=True)
    assert not Rental.objects.exists()


# Errors ---------------------------------------------------------------------------------------


def error_of(answer, status):
    assert answer.status_code == status, answer.content
    return answer.json()["error"]


@pytest.mark.parametrize(
    ("number", "code"),
    [("2125550142", "invalid_phone_number"), ("+1 212 555 0142", "invalid_phone_number"),
     ("", "invalid_phone_number"), (12125550142, "invalid_phone_number")],
)  # fmt: skip
def test_number_that_is_not_e164_has_a_code(admin_call, storefront, number, code):
    body = {"phoneNumber": number, "numberType": "local"}
    path = f"/organization/phone-numbers/{storefront.public_id}/purchase"
    error = error_of(admin_call("POST", path, body), 400)
    assert (error["code"], error["param"]) == (code, "phoneNumber")
    error = error_of(admin_call("POST", "/organization/orders", {"lines": [body]}), 400)
    assert (error["code"], error["param"]) == (code, "lines[0].phoneNumber")


def test_removing_what_is_not_assigned_has_a_code(admin_call, number, storefront):
    path = f"/organization/apps/{storefront.public_id}/phone-numbers/{number.public_id}"
    error = error_of(admin_call("DELETE", path), 400)
    assert (error["code"], error["param"]) == ("phone_number_not_assigned", "phoneNumberId")


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [({"slug": "x"}, "name", "This is missing."), ({"slug": "", "name": "X"}, "slug", "This is empty."),
     ({"slug": 7, "name": "X"}, "slug", "Write a text."),
     ({"slug": "x" * 51, "name": "X"}, "slug", "Write at most 50 characters.")],
)  # fmt: skip
def test_messages_are_fit_for_an_end_user(admin_call, body, param, message):
    error = error_of(admin_call("POST", "/organization/apps", body), 400)
    assert (error.get("param", ""), error["message"]) == (param, message)


@pytest.mark.parametrize(
    ("query", "message"),
    [("limit=0", "Use 1 or more."), ("limit=101", "Use 100 or less."),
     ("numberType=fax", "Use local, tollfree, shortcode or mobile.")],
)  # fmt: skip
def test_messages_of_parameters_say_what_is_allowed(admin_call, query, message):
    assert (
        error_of(admin_call("GET", f"/organization/phone-numbers?{query}"), 400)["message"]
        == message
    )


@pytest.mark.parametrize(
    ("day", "message"),
    [("2026-13-01", "There is no such day."), ("2026-02-30", "There is no such day."),
     ("tomorrow", "Write a date as 2026-12-31."), ("", "Write a date as 2026-12-31.")],
)  # fmt: skip
def test_day_that_is_none_is_400(admin_call, day, message):
    error = error_of(admin_call("GET", f"/organization/billing/summary?start_date={day}"), 400)
    assert (error["param"], error["message"]) == ("start_date", message)


def test_test_number_of_another_type_is_400(admin_call, organization, owner):
    sandbox = Application.objects.add(
        organization, name="Sandbox", slug="sandbox", kind=Application.Kind.TEST, by=owner,
        at=timezone.now(),
    )  # fmt: skip
    path = f"/organization/phone-numbers/{sandbox.public_id}/purchase"
    body = {"phoneNumber": "+12125550142", "numberType": "tollfree"}
    assert error_of(admin_call("POST", path, body), 400)["param"] == "numberType"


@pytest.mark.parametrize("path", ["/v1/docs", "/v1/openapi.json"])
def test_reference_takes_only_get(path):
    answer = Client(enforce_csrf_checks=True).delete(path)
    assert error_of(answer, 405)["type"] == "invalid_request_error"
    assert "GET" in answer.headers["Allow"]


def test_wrong_kind_of_key_is_401_in_every_case(admin_call, organization, owner, storefront):
    app_call = make_key(organization, owner, storefront)
    for call, path in ((admin_call, "/phone-numbers"), (app_call, "/organization/apps")):
        assert error_of(call("GET", path), 401)["type"] == "authentication_error"
