"""Archiving an application: its assignments end, its numbers stay and go on being billed."""

import pytest

from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.organizations.models import Activity, Application

from .conftest import NOON

PAGE = "/o/northwind/apps/storefront/archive/"
LIST = "/o/northwind/apps/"
HTMX = {"HX-Request": "true"}


def names(response):
    return [template.name for template in response.templates]


@pytest.fixture
def numbers(purchase, stock, storefront, alerts, owner):
    """Two numbers of the storefront; the second is in alerts as well."""
    numbers = purchase(*stock[:2], application=storefront)
    numbers[1].assign(alerts, by=owner, at=NOON)
    return numbers


def test_question_says_what_happens_to_the_numbers(owner_client, numbers):
    content = owner_client.get(PAGE).content.decode()
    assert "2 phone numbers" in content
    assert "1 of them is then in no application" in content
    assert "go on being billed" in content
    assert Assignment.objects.open().count() == 3


def test_question_alone_is_the_body_of_the_dialog(owner_client, storefront):
    assert names(owner_client.get(PAGE, headers=HTMX))[0] == "numbers/_archive_application.html"
    assert "numbers/archive_application.html" in names(owner_client.get(PAGE))


def test_archiving_keeps_the_numbers(owner_client, numbers, storefront, organization):
    response = owner_client.post(PAGE, follow=True)
    assert response.redirect_chain == [(LIST, 302)]
    assert "Its 2 phone numbers stay in your organization." in response.content.decode()
    storefront.refresh_from_db()
    assert storefront.is_archived
    assert organization.phone_numbers.live().count() == 2
    assert [a.application.slug for a in Assignment.objects.open()] == ["alerts"]
    assert organization.rentals.filter(ends_on=None).count() == 2


def test_dialog_leads_to_the_list(owner_client, storefront):
    assert owner_client.post(PAGE, headers=HTMX).headers["HX-Redirect"] == LIST


def test_archiving_twice_says_so(owner_client, storefront):
    owner_client.post(PAGE)
    assert "has been archived already" in owner_client.get(PAGE).content.decode()
    response = owner_client.post(PAGE)
    assert response.status_code == 409
    assert Activity.objects.filter(verb="archived").count() == 1


def test_slug_stays_taken(owner_client, storefront):
    owner_client.post(PAGE)
    response = owner_client.post(
        "/o/northwind/apps/create/", {"name": "New", "slug": "storefront", "kind": "live"}
    )
    assert response.status_code == 422
    assert Application.objects.count() == 1


@pytest.mark.parametrize("client", ["developer_client", "billing_client", "viewer_client"])
def test_lesser_role_cannot_archive(request, client, storefront):
    client = request.getfixturevalue(client)
    assert client.get(PAGE).status_code == 403
    assert client.post(PAGE).status_code == 403
    storefront.refresh_from_db()
    assert not storefront.is_archived


@pytest.mark.parametrize("client", ["rival_client", "stranger_client"])
def test_application_of_others_is_not_found(request, client, storefront):
    client = request.getfixturevalue(client)
    assert client.get(PAGE).status_code == 404
    assert client.post(PAGE).status_code == 404
    storefront.refresh_from_db()
    assert not storefront.is_archived


def test_own_address_does_not_reach_the_application_of_another(owner_client, rival_application):
    assert owner_client.post("/o/northwind/apps/rival-app/archive/").status_code == 404
