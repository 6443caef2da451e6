import json

import pytest
from django.test import Client
from django.utils import timezone

from chirp_dashboard.organizations.models import ApiKey


class Caller:
    """A program that shows `secret`; answers carry `.json()`."""

    def __init__(self, secret):
        self.secret = secret
        self.client = Client(raise_request_exception=False)

    def __call__(self, method, path, body=None, **headers):
        given = {"Authorization": f"Bearer {self.secret}"} | {
            name.replace("_", "-"): value for name, value in headers.items()
        }
        content = (
            {} if body is None else {"data": json.dumps(body), "content_type": "application/json"}
        )
        return self.client.generic(method, f"/v1{path}", headers=given, **content)


def make_key(organization, owner, application=None):
    _, secret = ApiKey.objects.issue(
        organization, name="Tests", application=application, by=owner, at=timezone.now()
    )
    return Caller(secret)


@pytest.fixture
def admin_call(organization, owner):
    """Calls with an admin key of the organization."""
    return make_key(organization, owner)


@pytest.fixture
def app_call(organization, owner, storefront):
    """Calls with a key of Storefront."""
    return make_key(organization, owner, storefront)


@pytest.fixture
def rival_call(rival, owner):
    """Calls with an admin key of another organization."""
    return make_key(rival, owner)
