import pytest
from django.contrib.auth.decorators import login_not_required
from django.http import HttpResponse
from django.test import Client
from django.urls import path

from chirp_dashboard import urls


@login_not_required
def open_page(request):
    return HttpResponse("open")


def closed_page(request, org=None):
    return HttpResponse("closed")


urlpatterns = [
    path("open/", open_page),
    path("closed/", closed_page),
    path("o/<slug:org>/closed/", closed_page),
    *urls.urlpatterns,
]


@pytest.fixture(autouse=True)
def pages(settings):
    settings.ROOT_URLCONF = __name__


def test_a_view_asks_for_sign_in_unless_it_is_marked_open(db):
    assert Client().get("/open/").status_code == 200
    response = Client().get("/closed/?page=2")
    assert response.status_code == 302
    assert response.headers["Location"] == "/accounts/login/?next=/closed/%3Fpage%3D2"


def test_htmx_is_sent_to_the_sign_in_page_and_back_to_the_page_that_was_open(db):
    response = Client().get(
        "/closed/",
        headers={"HX-Request": "true", "HX-Current-URL": "http://testserver/open/?sort=label"},
    )
    assert response.status_code == 200
    assert response.content == b""
    assert response.headers["HX-Redirect"] == "/accounts/login/?next=/open/%3Fsort%3Dlabel"


def test_htmx_from_a_foreign_page_comes_back_to_the_start(db):
    response = Client().get(
        "/closed/", headers={"HX-Request": "true", "HX-Current-URL": "https://evil.example/"}
    )
    assert response.headers["HX-Redirect"] == "/accounts/login/?next=/"


def test_signed_in_pages_are_kept_out_of_every_cache(stranger_client):
    response = stranger_client.get("/closed/")
    assert response.headers["Cache-Control"] == "no-store"
    assert "HX-Request" in response.headers["Vary"]


def test_open_pages_tell_caches_that_fragments_differ(db):
    response = Client().get("/open/")
    assert "HX-Request" in response.headers["Vary"]
    assert "no-store" not in response.headers.get("Cache-Control", "")


def test_a_member_reaches_the_organization(owner_client):
    assert owner_client.get("/o/northwind/closed/").status_code == 200


@pytest.mark.parametrize("client", ["rival_client", "stranger_client", "operator_client"])
def test_for_everybody_else_the_organization_does_not_exist(client, organization, request):
    assert request.getfixturevalue(client).get("/o/northwind/closed/").status_code == 404


def test_an_unknown_organization_does_not_exist(owner_client):
    assert owner_client.get("/o/nowhere/closed/").status_code == 404
