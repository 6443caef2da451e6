import re
from html import unescape

import pytest

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.numbers.models import Assignment

from .conftest import NOON

pytestmark = pytest.mark.usefixtures("an_hour_later")

LIST = "/o/northwind/numbers/"
APP = "/o/northwind/apps/storefront/numbers/"


@pytest.fixture
def page(number, storefront, owner):
    """The page of a number that is in the storefront."""
    number.assign(storefront, by=owner, at=NOON)
    return f"{LIST}{number.public_id}/"


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def names(response):
    return [template.name for template in response.templates]


def looking_at(address):
    """The headers htmx sends from a page."""
    return {"HX-Request": "true", "HX-Current-URL": f"http://testserver{address}"}


def test_question_says_that_the_number_stays_and_goes_on_costing(developer_client, page):
    words = text_of(developer_client.get(f"{page}remove/"))
    assert "Remove (212) 555-0142 from Storefront?" in words
    assert "stays in Northwind and goes on being billed $1.00 a month." in words


def test_question_says_what_release_would_do_to_those_who_may(owner_client, developer_client, page):
    assert "release the number" in text_of(owner_client.get(f"{page}remove/"))
    assert "release the number" not in text_of(developer_client.get(f"{page}remove/"))


def test_number_leaves_the_application_and_stays_in_the_organization(
    developer_client, number, page
):
    response = developer_client.post(f"{page}remove/", {"application": "storefront"}, follow=True)
    assert response.redirect_chain == [(page, 302)]
    number.refresh_from_db()
    assert (number.state, number.assignment_count) == ("active", 0)
    assert Rental.objects.get().ends_on is None
    assert "Removed from Storefront." in text_of(response)
    assert f'action="{page}assign/?application=storefront"' in response.content.decode()


def test_undo_button_of_the_toast_assigns_it_again(developer_client, number, page):
    developer_client.post(f"{page}remove/", {"application": "storefront"})
    here = {"Referer": f"http://testserver{LIST}?q=212"}
    response = developer_client.post(f"{page}assign/?application=storefront", headers=here)
    assert response["Location"] == f"{LIST}?q=212"
    number.refresh_from_db()
    assert number.assignment_count == 1


def test_list_gets_the_row_as_it_now_is_with_tabs_and_a_toast(developer_client, number, page):
    response = developer_client.post(
        f"{page}remove/", {"application": "storefront"}, headers=looking_at(f"{LIST}?q=212")
    )
    content = response.content.decode()
    assert names(response)[0] == "numbers/_changed.html"
    assert "base.html" not in names(response)
    assert f'<tr id="{number.public_id}" hx-swap-oob="true">' in content
    assert "Not assigned" in text_of(response)
    assert 'id="number-tabs"' in content
    assert 'id="facts" hx-swap-oob="true"' in content
    assert "Removed from Storefront." in text_of(response)
    assert "close-dialog" in response["HX-Trigger"]


def test_row_leaves_the_list_of_the_application(developer_client, number, page):
    response = developer_client.post(
        f"{page}remove/", {"application": "storefront"}, headers=looking_at(APP)
    )
    assert f'<tr id="{number.public_id}" hx-swap-oob="delete">' in response.content.decode()


def test_row_stays_in_the_list_of_the_other_application(
    developer_client, number, page, alerts, owner
):
    number.assign(alerts, by=owner, at=NOON)
    response = developer_client.post(
        f"{page}remove/", {"application": "alerts"}, headers=looking_at(APP)
    )
    assert f'<tr id="{number.public_id}" hx-swap-oob="true">' in response.content.decode()


def test_other_pages_are_loaded_anew(developer_client, page):
    response = developer_client.post(
        f"{page}remove/", {"application": "storefront"}, headers=looking_at("/o/northwind/orders/")
    )
    assert response["HX-Refresh"] == "true"


def test_of_several_applications_one_is_chosen(developer_client, number, page, alerts, owner):
    number.assign(alerts, by=owner, at=NOON)
    response = developer_client.get(f"{page}remove/")
    assert [each.slug for each in response.context["applications"]] == ["storefront", "alerts"]
    response = developer_client.post(f"{page}remove/")
    assert response.status_code == 422
    assert "Choose an application." in text_of(response)
    assert Assignment.objects.open().count() == 2


def test_list_of_an_application_asks_about_that_one(developer_client, number, page, alerts, owner):
    number.assign(alerts, by=owner, at=NOON)
    response = developer_client.get(f"{page}remove/?application=alerts")
    assert 'value="alerts" checked' in response.content.decode()


def test_removed_meanwhile_is_409_with_the_number_as_it_now_is(
    developer_client, number, page, storefront, owner
):
    number.remove(storefront, by=owner, at=NOON)
    response = developer_client.post(f"{page}remove/", {"application": "storefront"})
    assert response.status_code == 409
    assert "(212) 555-0142 is not assigned to Storefront." in text_of(response)
    assert "Not assigned" in text_of(response)
    response = developer_client.post(
        f"{page}remove/", {"application": "storefront"}, headers=looking_at(APP)
    )
    assert response.status_code == 409
    assert names(response)[0] == "numbers/_refused.html"
    assert 'hx-swap-oob="delete"' in response.content.decode()


def test_nothing_to_remove_is_said_before_the_click(
    developer_client, number, page, storefront, owner
):
    number.remove(storefront, by=owner, at=NOON)
    assert "is in no application" in text_of(developer_client.get(f"{page}remove/"))


def test_removing_is_for_developers_and_stronger(
    viewer_client, billing_client, rival_client, number, page
):
    for client in (viewer_client, billing_client):
        assert client.post(f"{page}remove/", {"application": "storefront"}).status_code == 403
    assert rival_client.post(f"{page}remove/", {"application": "storefront"}).status_code == 404
    assert Assignment.objects.open().count() == 1


def test_remove_and_undo_in_the_browser(visit, organization, storefront, number, developer, page):
    screen = visit(developer, path=APP)
    row = screen.locator(f"tr#{number.public_id}")
    row.get_by_role("button", name="Actions for").click()
    row.get_by_role("link", name="Remove from Storefront…").click()
    screen.get_by_role("button", name="Remove from Storefront").click()
    row.wait_for(state="detached")
    assert screen.locator("#dialog[open]").count() == 0
    toast = screen.locator(".toast")
    assert "Removed from Storefront." in toast.inner_text()
    toast.get_by_role("button", name="Undo").click()
    row.wait_for()
    assert Assignment.objects.open().count() == 1


def test_remove_without_javascript(visit, organization, storefront, number, developer, page):
    screen = visit(developer, path=f"{LIST}?q=212", javascript=False)
    row = screen.locator(f"tr#{number.public_id}")
    row.get_by_role("button", name="Actions for").click()
    row.get_by_role("link", name="Remove from application…").click()
    screen.get_by_role("button", name="Remove from Storefront").click()
    assert screen.url.endswith(f"{LIST}?q=212"), "back where it began"
    assert "Removed from Storefront." in screen.locator("#toasts").inner_text()
    assert "Not assigned" in row.inner_text()
