"""Adding a test number in Chromium: in the dialog and without script."""

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import Application

APP = "/o/northwind/apps/sandbox/numbers/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def sandbox(organization):
    return Application.objects.create(
        organization=organization, name="Sandbox", slug="sandbox", kind="test"
    )


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found]


def test_test_number_is_added_in_the_dialog(visit, owner, sandbox):
    page = visit(owner, path=APP)
    page.get_by_role("link", name="Add a test number").click()
    dialog = page.get_by_role("dialog", name="Add a test number to Sandbox")
    number = dialog.get_by_label("Number")

    number.fill("my own")
    dialog.get_by_role("button", name="Add test number").click()
    expect(dialog.locator(".error-summary")).to_be_focused()
    expect(number).to_have_value("my own")

    number.fill("(212) 555-0142")
    dialog.get_by_role("button", name="Add test number").click()
    expect(dialog).not_to_be_visible()
    expect(page.locator("#toasts")).to_contain_text("Added (212) 555-0142. It costs nothing.")
    row = page.locator("main tbody tr")
    expect(row).to_contain_text("Test")
    expect(row).to_contain_text("free")
    expect(page.locator("#facts")).to_contain_text("1 number")
    expect(page.get_by_role("link", name="Add test number")).to_be_focused()


def test_number_that_is_there_already_is_said_and_another_is_added(visit, owner, sandbox):
    page = visit(owner, path=APP)
    page.get_by_role("link", name="Add test number").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Local")).to_be_checked()
    PhoneNumber.objects.add_test(
        sandbox, "+15005550100", number_type="local", by=owner, at=sandbox.created_at
    )
    dialog.get_by_role("button", name="Add test number").click()
    expect(dialog.get_by_role("alert")).to_contain_text("one of your test numbers already")
    expect(page.locator("main tbody tr")).to_have_count(1)
    assert violations(page) == []
    expect(dialog.get_by_role("link", name="Open it")).to_be_visible()
    dialog.get_by_label("Short code").check()
    dialog.get_by_role("button", name="Add test number").click()
    expect(dialog).not_to_be_visible()
    expect(page.locator("main tbody tr")).to_have_count(2)


def test_number_that_is_there_already_opens_as_a_page(visit, owner, sandbox):
    PhoneNumber.objects.add_test(
        sandbox, "+15005550100", number_type="local", by=owner, at=sandbox.created_at
    )
    page = visit(owner, path=APP)
    page.get_by_role("link", name="Add test number").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Number").fill("+15005550100")
    dialog.get_by_role("button", name="Add test number").click()
    dialog.get_by_role("link", name="Open it").click()
    page.wait_for_url(f"**/o/northwind/numbers/{PhoneNumber.objects.get().public_id}/")
    expect(page.get_by_role("heading", level=1)).to_contain_text("(500) 555-0100")


def test_test_number_is_added_and_released_without_javascript(visit, owner, sandbox):
    page = visit(owner, path=APP, javascript=False)
    page.get_by_role("link", name="Add test number").click()
    page.get_by_label("Toll-free").check()
    page.get_by_role("button", name="Add test number").click()
    expect(page.locator("#toasts")).to_contain_text("Added (888) 555-0100.")
    page.get_by_role("link", name="(888) 555-0100").click()
    expect(page.get_by_role("main")).to_contain_text("A test number costs nothing")
    page.get_by_role("link", name="Release number…").click()
    page.get_by_role("button", name="Release (888) 555-0100").click()
    expect(page.get_by_role("main")).to_contain_text("This number was released")
    assert PhoneNumber.objects.get().is_released
