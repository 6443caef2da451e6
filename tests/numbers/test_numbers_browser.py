"""The pages of owned numbers in a real browser: swaps keep their place, Back works, axe finds nothing."""

import re
from datetime import date

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from chirp_dashboard.numbers.models import Assignment, PhoneNumber

from .owned import own, own_many, put

LIST = "/o/northwind/numbers/"
APP = "/o/northwind/apps/storefront/numbers/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def numbers(organization, storefront, alerts):
    """Numbers in every state, with labels of every length."""
    rows = own_many(organization, 60)
    rows += own(
        organization, "+14035550117", "+18005550110",
        label="Front desk of the branch in Calgary that moved twice and kept its number",
        region="AB", city="Calgary", release_locked=True,
    )  # fmt: skip
    rows += own(organization, "+14165550100", releases_on=date(2099, 12, 1))
    rows += own(organization, "+14165550101", state="suspended", suspended_on=date(2026, 11, 15))
    put(rows[:5] + rows[60:], storefront)
    put(rows[:2], alerts)
    return rows


def settled(page, text):
    expect(page.locator("#live")).to_contain_text(text)


def test_typing_swaps_the_table_and_keeps_the_caret(visit, numbers, viewer):
    page = visit(viewer, path=LIST)
    page.keyboard.press("/")
    page.keyboard.type("403")
    settled(page, "1 number.")
    expect(page.locator("tbody tr")).to_have_count(1)
    expect(page.locator("#q")).to_be_focused()
    page.wait_for_url(f"**{LIST}?q=403")
    page.keyboard.type("9")
    settled(page, "No number matches.")
    page.go_back()
    expect(page.locator("tbody tr")).to_have_count(50)
    page.wait_for_url(f"**{LIST}")  # Back skips the letters


def test_tabs_filters_and_order_hold_together(visit, numbers, viewer):
    page = visit(viewer, path=LIST)
    page.get_by_role("link", name=re.compile("^Not assigned")).click()
    settled(page, "55 numbers.")
    page.get_by_label("Type", exact=True).select_option("local")
    page.wait_for_url(f"**{LIST}?state=unassigned&type=local")
    page.get_by_role("link", name="Label").click()
    page.wait_for_url("**&sort=label")
    expect(page.locator("[aria-sort]")).to_have_text("Label")
    expect(page.locator("#by-label")).to_be_focused()
    page.get_by_role("link", name="Drop filter Local").click()
    page.wait_for_url(f"**{LIST}?state=unassigned&sort=label")
    expect(page.locator("#type")).to_have_value("")  # the form follows
    page.go_back()
    expect(page.locator("#type")).to_have_value("local")
    here = page.get_by_role("link", name=re.compile("^Not assigned"))
    expect(here).to_have_attribute("aria-current", re.compile("."))


def test_pages_lead_there_and_back(visit, numbers, viewer):
    page = visit(viewer, path=LIST)
    first = page.locator("tbody tr").first.inner_text()
    page.get_by_role("link", name="Next").click()
    expect(page.locator("tbody tr")).to_have_count(14)
    page.get_by_role("link", name="Previous").click()
    expect(page.locator("tbody tr")).to_have_count(50)
    expect(page.locator("tbody tr").first).to_have_text(first, use_inner_text=True)


def test_without_javascript_the_form_filters(visit, numbers, viewer):
    page = visit(viewer, path=LIST, javascript=False)
    page.get_by_label("Search digits, label or city").fill("calgary")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("tbody tr")).to_have_count(2)
    page.get_by_role("link", name="Drop filter “calgary”").click()
    expect(page.locator("tbody tr")).to_have_count(50)


def test_label_is_edited_from_the_keyboard_and_focus_returns(visit, numbers, developer):
    page = visit(developer, path=LIST)
    row = page.locator("tbody tr").first
    opener = row.get_by_role("button", name=re.compile("^Actions"))
    opener.focus()
    page.keyboard.press("Enter")
    row.get_by_role("link", name="Edit label").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_visible()
    expect(page.locator("#id_label")).to_be_focused()
    page.keyboard.type("Night line")
    page.keyboard.press("Enter")
    expect(row).to_contain_text("Night line")
    expect(page.locator("#dialog")).not_to_be_visible()
    assert PhoneNumber.objects.filter(label="Night line").count() == 1


def test_numbers_are_searched_chosen_confirmed_and_assigned(visit, numbers, developer):
    page = visit(developer, path=APP)
    before = page.locator("tbody tr").count()
    page.get_by_role("link", name="Assign Number").click()
    dialog = page.locator("#dialog")
    dialog.get_by_label(re.compile("555-0010")).check()
    dialog.get_by_role("searchbox").fill("0031")
    expect(dialog.locator(".option")).to_have_count(2)
    expect(dialog.get_by_label(re.compile("555-0010"))).to_be_checked()
    page.keyboard.press("ArrowDown")
    dialog.get_by_label(re.compile("555-0031")).check()
    dialog.get_by_role("button", name="Continue").click()
    dialog.get_by_role("button", name="Assign 2 numbers").click()
    expect(dialog).to_contain_text("2 numbers assigned to Storefront")
    expect(page.locator("main tbody tr")).to_have_count(before + 2)
    expect(page.locator("#facts")).to_contain_text("11 numbers")
    dialog.get_by_role("link", name="Done").click()
    expect(dialog).not_to_be_visible()
    assert Assignment.objects.open().filter(application__slug="storefront").count() == 11


def test_numbers_are_assigned_without_javascript(visit, numbers, developer):
    page = visit(developer, path=APP, javascript=False)
    page.get_by_role("link", name="Assign Number").click()
    page.get_by_role("searchbox").fill("0031")
    page.get_by_role("button", name="Search").click()
    page.get_by_label(re.compile("555-0031")).check()
    page.get_by_role("button", name="Continue").click()
    page.get_by_role("button", name="Assign 1 number").click()
    expect(page.locator("main")).to_contain_text("1 number assigned to Storefront")
    page.get_by_role("link", name="Done").click()
    expect(page.locator("tbody tr")).to_have_count(10)


def violations(page):
    found = Axe().run(page).response["violations"]
    return [(each["id"], [node["html"] for node in each["nodes"]][:3]) for each in found]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing(visit, numbers, owner, scheme):
    number = numbers[0].public_id
    page = visit(owner, scheme=scheme)
    for address in (
        LIST, f"{LIST}?q=7777&region=NY", f"{LIST}?state=releasing", f"{LIST}{number}/", APP,
        f"{LIST}{number}/release/", f"{LIST}{number}/remove/", f"{APP}assign/?q=calgary",
        f"{APP}assign/?confirm=1",
    ):  # fmt: skip
        page.goto(address)
        assert violations(page) == [], address
    page.goto(LIST)
    for name in ("Release number…", "Move…", "Edit label"):
        row = page.locator(f"tr#{number}")
        row.get_by_role("button", name=re.compile("^Actions")).click()
        row.get_by_role("link", name=name).click()
        page.locator("#dialog h2").wait_for()
        assert violations(page) == [], name
        page.keyboard.press("Escape")
        expect(page.locator("#dialog")).not_to_be_visible()


@pytest.mark.parametrize("width", [360, 700, 1000, 1440, 2560])
def test_nothing_is_wider_than_the_window(visit, numbers, owner, width):
    page = visit(owner, width=width)
    number = numbers[60].public_id
    for address in (LIST, APP, f"{LIST}{number}/", f"{LIST}{number}/move/", f"{APP}assign/"):
        page.goto(address)
        assert page.evaluate("document.documentElement.scrollWidth") <= width, address
