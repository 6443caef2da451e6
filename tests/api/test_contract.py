"""The OpenAPI document: complete, and true of every answer."""

import pytest
from django.test import Client

from chirp_dashboard.api.v1 import api

pytestmark = pytest.mark.django_db


@pytest.fixture
def document():
    return Client().get("/v1/openapi.json").json()


def operations(document):
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_document_is_openapi_31_with_examples_errors_and_auth(document):
    assert document["openapi"].startswith("3.1")
    schemes = document["components"]["securitySchemes"]
    assert {scheme["scheme"] for scheme in schemes.values()} == {"bearer"}
    for path, method, operation in operations(document):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["security"], where
        assert {"400", "401", "429", "500"} <= set(operation["responses"]), where
        error = operation["responses"]["401"]["content"]["application/json"]
        assert error["schema"] == {"$ref": "#/components/schemas/Error"}
        assert error["example"]["error"]["type"] == "authentication_error"


def test_every_documented_path_of_chirp_is_there(document):
    paths = {(method.upper(), path) for path, method, _ in operations(document)}
    for method, path in CHIRP:
        assert (method, f"/v1{path}") in paths, path


CHIRP = [
    ("POST", "/organization/phone-numbers/{appId}/purchase"),
    ("POST", "/phone-numbers"), ("GET", "/phone-numbers"),
    ("DELETE", "/phone-numbers/{phoneNumberId}"),
    ("POST", "/organization/apps/{appId}/phone-numbers"),
    ("DELETE", "/organization/apps/{appId}/phone-numbers/{phoneNumberId}"),
    ("PUT", "/organization/phone-numbers/{phoneNumberId}/apps"),
    ("DELETE", "/organization/phone-numbers/{phoneNumberId}"),
    ("GET", "/organization/phone-numbers"),
    ("GET", "/organization/phone-numbers/{phoneNumberId}"),
    ("GET", "/organization/available-phone-numbers"),
    ("POST", "/organization/orders"), ("GET", "/organization/orders/{orderId}"),
    ("POST", "/organization/apps"), ("GET", "/organization/apps"),
    ("GET", "/organization/apps/{appId}"), ("PUT", "/organization/apps/{appId}"),
    ("DELETE", "/organization/apps/{appId}"), ("GET", "/organization/apps/check-slug"),
    ("POST", "/organization/app-keys"), ("GET", "/organization/app-keys"),
    ("DELETE", "/organization/app-keys/{keyId}"),
    ("POST", "/organization/admin-keys"), ("GET", "/organization/admin-keys"),
    ("DELETE", "/organization/admin-keys/{keyId}"),
    ("POST", "/webhooks"), ("GET", "/webhooks"), ("GET", "/webhooks/{webhookId}"),
    ("PUT", "/webhooks/{webhookId}"), ("DELETE", "/webhooks/{webhookId}"),
    ("POST", "/organization/apps/{appId}/webhooks"),
    ("GET", "/organization/billing/summary"), ("GET", "/organization/billing/records"),
    ("GET", "/organization/billing/records/{recordId}"),
]  # fmt: skip


def test_names_are_camel_case_but_under_billing(document):
    for name, schema in document["components"]["schemas"].items():
        for field in schema.get("properties", {}):
            if name in {"Summary", "Record", "RecordList", "SummaryQuery", "RecordQuery"}:
                assert field == field.lower()
            else:
                assert "_" not in field, (name, field)


def test_no_key_opens_nothing(document):
    """Every operation without a key is 401, whatever it is."""
    client = Client()
    for path, method, _ in operations(document):
        url = path.replace("{", "").replace("}", "")
        response = client.generic(method, url, data="{}", content_type="application/json")
        assert response.status_code == 401, (method, path)


def test_every_operation_says_which_kind_of_key_it_takes(document, admin_call, app_call):
    for path, method, operation in operations(document):
        (scheme,) = operation["security"][0]
        wrong = app_call if "Admin" in scheme else admin_call
        url = path.removeprefix("/v1").replace("{", "").replace("}", "")
        assert wrong(method.upper(), url, {}).status_code == 401, (method, path)
    assert api.urls


def test_reference_is_served_without_foreign_assets(client):
    page = client.get("/v1/docs")
    assert page.status_code == 200
    assert b"http" not in page.content
    assert "default-src 'none'" in page.headers["Content-Security-Policy"]
