"""The one dialog of the site, seen through the page that creates an application."""

import re

import pytest
from django.urls import reverse
from playwright.sync_api import expect

from chirp_dashboard.organizations.models import Application


@pytest.fixture
def page(visit, admin, organization):
    return visit(admin, path=reverse("organizations:application_list", args=[organization.slug]))


@pytest.fixture
def dialog(page):
    page.get_by_role("link", name="Create application").first.click()
    dialog = page.get_by_role("dialog", name="Create application")
    expect(dialog).to_be_visible()
    return dialog


def test_focus_goes_in_and_returns_to_the_opener(page, dialog):
    expect(dialog.get_by_label("Name")).to_be_focused()
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    expect(page.get_by_role("link", name="Create application").first).to_be_focused()


def test_click_outside_closes_it(page, dialog):
    page.mouse.click(4, 4)
    expect(dialog).to_be_hidden()


def test_what_was_typed_is_not_lost_by_a_slip(page, dialog):
    dialog.get_by_label("Name").fill("Reminders")
    page.mouse.click(4, 4)
    expect(dialog).to_be_visible()
    page.on("dialog", lambda question: question.dismiss())
    for _ in range(4):  # Chromium by itself leaves no say in the third
        with page.expect_event("dialog") as question:
            page.keyboard.press("Escape")
        assert question.value.message == "Leave and lose this?"
        expect(dialog.get_by_label("Name")).to_have_value("Reminders")
    dialog.get_by_role("link", name="Cancel").click()
    expect(dialog).to_be_hidden()


def test_invalid_form_comes_back_into_it_and_leaves_the_address_alone(page, dialog):
    dialog.get_by_role("button", name="Create application").click()
    expect(dialog.locator(".error-summary")).to_be_focused()
    assert re.search(r"/apps/$", page.url)
    assert not Application.objects.exists()


def test_valid_form_leads_on(page, dialog):
    dialog.get_by_label("Name").fill("Reminders")
    dialog.get_by_role("button", name="Create application").click()
    expect(page).not_to_have_url(re.compile(r"/apps/$"))
    assert Application.objects.get().name == "Reminders"


def test_without_javascript_it_is_a_page_of_its_own(visit, admin, organization):
    path = reverse("organizations:application_list", args=[organization.slug])
    page = visit(admin, path=path, javascript=False)
    page.get_by_role("link", name="Create application").first.click()
    page.get_by_label("Name").fill("Reminders")
    page.get_by_role("button", name="Create application").click()
    assert Application.objects.get().name == "Reminders"


def test_lost_connection_is_said_on_the_page(page, visit):
    page.context.set_offline(True)
    page.get_by_role("link", name="Create application").first.click()
    expect(page.get_by_role("alert")).to_contain_text("The connection was lost")
    page.context.close()
    visit.complaints.clear()  # the browser's console says it as well
