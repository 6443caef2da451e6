"""What a person sees when something is wrong: a page that says so, and no details."""

import pytest
from django.contrib.auth.decorators import login_not_required
from django.test import Client
from django.urls import path

from chirp_dashboard import urls


@login_not_required
def breaks(request):
    raise RuntimeError("password hunter2")


urlpatterns = [path("breaks/", breaks), *urls.urlpatterns]


@pytest.fixture(autouse=True)
def pages(settings):
    settings.ROOT_URLCONF = __name__


def test_an_address_that_leads_nowhere_says_so(owner_client):
    response = owner_client.get("/o/northwind/nowhere/")
    assert response.status_code == 404
    assert "404.html" in [template.name for template in response.templates]


def test_a_stale_form_says_what_to_do(owner):
    client = Client(enforce_csrf_checks=True)
    response = client.post("/accounts/login/", {"login": owner.email, "password": "anything"})
    assert response.status_code == 403
    assert "403_csrf.html" in [template.name for template in response.templates]


def test_a_mistake_of_ours_is_owned_up_to_without_its_details(db):
    response = Client(raise_request_exception=False).get("/breaks/")
    assert response.status_code == 500
    assert b"<h1" in response.content
    assert b"hunter2" not in response.content


def test_a_foreign_host_is_refused(db):
    response = Client().get("/accounts/login/", headers={"Host": "evil.example"})
    assert response.status_code == 400


@pytest.mark.parametrize("address", ["/accounts/login/", "/nowhere/", "/breaks/"])
def test_every_page_forbids_foreign_and_inline_code(address, db):
    policy = Client(raise_request_exception=False).get(address).headers["Content-Security-Policy"]
    assert "script-src 'self'" in policy
    assert "unsafe" not in policy
