"""Billing in Chromium: with script and without, wide and narrow, light and dark."""

import re
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.billing.models import Invoice, Rental

from .conftest import rent

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
OVERVIEW = "/o/northwind/billing/"
PER_NUMBER = f"{OVERVIEW}numbers/"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def billed(organization):
    """Sixty numbers since three months ago, billed until today."""
    rentals = rent(organization, on=timezone.now().date() - timedelta(days=92), numbers=60)
    Rental.objects.charge_due(at=timezone.now())
    return rentals


def invoice_path():
    return f"{OVERVIEW}invoices/{Invoice.objects.order_by('number').first().public_id}/"


@pytest.mark.parametrize(("width", "scheme"), [(1440, "light"), (1440, "dark"), (360, "light")])
def test_axe_finds_nothing(visit, billing_person, billed, width, scheme):
    page = visit(billing_person, width=width, scheme=scheme)
    parts = ("", "charges/", "documents/", "payments/", "numbers/", "forecast/", "calendar/")
    for path in (*(OVERVIEW + part for part in parts), f"{OVERVIEW}applications/", invoice_path()):
        page.goto(path)
        found = Axe().run(page, options={"runOnly": RULES}).response["violations"]
        assert [(path, each["id"], each["nodes"][0]["html"]) for each in found] == []
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path


def test_search_swaps_the_numbers_and_keeps_the_rest(visit, billing_person, billed):
    page = visit(billing_person, path=PER_NUMBER)
    wanted = billed[30].phone_number
    box = page.get_by_label("Search digits or label")
    digits = wanted.number[-7:]  # fewer may stand in the area code, too
    box.press_sequentially(digits)
    expect(page.locator("#per-number tbody tr")).to_have_count(1)
    expect(page.locator("#per-number")).to_contain_text(wanted.display)
    expect(box).to_be_focused()
    expect(page).to_have_url(re.compile(f"q={digits}"))


def test_pages_of_numbers_turn_in_place_and_back(visit, billing_person, billed):
    page = visit(billing_person, path=PER_NUMBER)
    first = page.locator("#per-number tbody tr").first.inner_text()
    page.locator("#per-number").get_by_role("link", name="Next").click()
    expect(page.locator("#per-number")).not_to_contain_text(first)
    page.locator("#per-number").get_by_role("link", name="Previous").click()
    expect(page.locator("#per-number tbody tr").first).to_have_text(first, use_inner_text=True)


def test_everything_is_found_without_script(visit, billing_person, billed):
    page = visit(billing_person, path=OVERVIEW, javascript=False)
    page.get_by_role("link", name="on a page of its own").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Spend by application")
    page.goto(OVERVIEW)
    page.get_by_role("link", name="See cost per number").click()
    wanted = billed[30].phone_number
    page.get_by_label("Search digits or label").fill(wanted.display)
    page.get_by_role("button", name="Search").click()
    page.get_by_role("link", name=f"Charges of {wanted.display}").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(f"Charges of {wanted.display}")
    page.get_by_role("link", name="Invoice 000001").first.click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Invoice 000001")
    page.locator("#lines").get_by_role("link", name="Next").click()
    expect(page.locator("#lines tbody tr")).not_to_have_count(0)


def test_spend_comes_after_the_page(visit, billing_person, billed):
    page = visit(billing_person, path=OVERVIEW)
    expect(page.locator("#spending .shares li")).to_have_count(1)
    expect(page.locator("#spending")).to_contain_text("Not assigned")


def test_spend_that_cannot_be_added_up_leaves_a_link(visit, billing_person, billed):
    page = visit(billing_person)
    page.route("**/applications/?panel", lambda route: route.abort())
    page.goto(OVERVIEW)
    expect(page.locator("#alert")).to_contain_text("The connection was lost.")
    expect(page.get_by_role("link", name="on a page of its own")).to_be_visible()
    expect(page.get_by_text("Adding up…")).to_be_hidden()
    page.context.close()
    visit.complaints.clear()  # the browser's console says it as well


def test_bars_say_exact_sums_to_the_keyboard(visit, billing_person, billed):
    page = visit(billing_person, path=OVERVIEW)
    bar = page.locator(".chart .point").last
    expect(bar.locator(".tip")).to_have_css("opacity", "0")
    bar.focus()
    expect(bar.locator(".tip")).to_have_css("opacity", "1")
    expect(bar.locator(".tip")).to_contain_text("$60.00")
    expect(bar).to_have_attribute("aria-label", re.compile(r"\$60\.00"))


def test_calendar_is_a_grid_when_wide_and_a_list_when_narrow(visit, billing_person, billed):
    page = visit(billing_person, path=f"{OVERVIEW}calendar/")
    expect(page.get_by_role("columnheader", name="Mon").first).to_be_visible()
    page.set_viewport_size({"width": 360, "height": 900})
    expect(page.locator(".days th").first).to_be_hidden()
    expect(page.get_by_text("Invoice, about $60.00").first).to_be_visible()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")


def test_calendar_address_is_shown_once(visit, billing_person, billed):
    page = visit(billing_person, path=f"{OVERVIEW}calendar/")
    page.get_by_role("button", name="Make an address").click()
    expect(page.locator(".secret")).to_contain_text(".ics")
    page.goto(f"{OVERVIEW}calendar/")
    expect(page.locator(".secret")).to_have_count(0)
    page.get_by_role("button", name="Stop it").click()
    expect(page.get_by_role("button", name="Make an address")).to_be_visible()


def test_printed_invoice_has_no_frame(visit, billing_person, billed):
    page = visit(billing_person, path=invoice_path())
    page.emulate_media(media="print")
    expect(page.get_by_role("navigation", name="Main")).to_be_hidden()
    expect(page.get_by_role("button", name="Print")).to_be_hidden()
    expect(page.locator(".sheet")).to_be_visible()
