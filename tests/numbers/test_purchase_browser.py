"""The purchase pages in a real browser: nothing jumps, nothing is lost, and no script is needed."""

import re
from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.numbers.models import Hold, InventoryNumber, PhoneNumber

from .conftest import in_stock, quoted

LOCAL = "/o/northwind/numbers/purchase/local/"

pytestmark = pytest.mark.django_db(transaction=True)


def row(page, number="12125550142"):
    return page.locator(f"#n-{number}")


def select(page, number="12125550142"):
    row(page, number).get_by_role("button", name=re.compile("^Select")).click()


def test_selecting_swaps_the_row_and_the_basket_and_moves_nothing(
    visit, stock, owner, organization
):
    page = visit(owner, path=f"{LOCAL}?digits=555")
    before = page.evaluate("[scrollY, location.href]")
    place = row(page, "12125550145").bounding_box()
    for number in ("12125550142", "12125550143"):
        select(page, number)
        expect(row(page, number)).to_contain_text("Held for you")
    due = sum(quoted(organization, stock[:2], at=timezone.now()))  # rent until the month ends
    expect(page.locator("#basket")).to_contain_text(f"Added to your account${due / 100:.2f}")
    assert page.evaluate("[scrollY, location.href]") == before
    assert row(page, "12125550145").bounding_box() == place
    expect(page.locator("#id_digits")).to_have_value("555")
    expect(page.locator("#pick-12125550143")).to_be_focused()
    expect(page.locator("#live")).to_contain_text("(212) 555-0143 is held for you")


def test_removing_in_the_basket_frees_the_row_too(visit, stock, owner):
    page = visit(owner, path=LOCAL)
    select(page)
    expect(row(page)).to_contain_text("Held for you")
    page.locator("#basket").get_by_role("button", name=re.compile("^Remove")).click()
    expect(row(page).get_by_role("button")).to_have_text(re.compile("^Select"))
    expect(page.locator("#basket")).to_contain_text("Select a number")


def test_a_number_lost_under_the_pointer_offers_the_nearest(visit, stock, owner):
    page = visit(owner, path=LOCAL)
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    select(page)
    expect(page.get_by_role("alert").filter(has_text="Just sold.")).to_be_visible()
    page.get_by_role("button", name="(212) 555-0143 select").click()
    expect(page.locator("#basket")).to_contain_text("(212) 555-0143")
    expect(row(page, "12125550143")).to_contain_text("Held for you")


def test_a_hold_that_runs_out_is_seen_at_once_and_can_be_taken_again(visit, stock, owner):
    page = visit(owner)
    page.clock.install()
    page.goto(LOCAL)
    select(page)
    expect(row(page)).to_contain_text("Held for you")
    Hold.objects.update(held_until=timezone.now() + timedelta(seconds=55))
    page.reload()
    expect(page.locator("#live")).to_contain_text("Hold on (212) 555-0142 ends in")
    Hold.objects.update(held_until=timezone.now())
    page.clock.fast_forward(60_000)
    expect(page.locator("#basket")).to_contain_text("Expired")
    expect(row(page).get_by_role("button")).to_have_text(re.compile("^Select"))
    page.get_by_role("button", name="Hold again (212) 555-0142").click()
    expect(row(page)).to_contain_text("Held for you")


def test_typing_searches_without_losing_the_place(visit, stock, owner):
    page = visit(owner, path=LOCAL)
    page.locator("#id_digits").press_sequentially("0144")
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"digits=0144"))
    expect(page.locator("#id_digits")).to_be_focused()
    expect(page.locator("#live")).to_have_text("1 number.")
    page.go_back()
    expect(page.locator("#results tbody tr")).to_have_count(5)


def test_a_filter_to_mend_is_named_at_its_field_and_cleared_when_mended(visit, stock, owner):
    page = visit(owner, path=LOCAL)
    page.fill("#id_region", "Nwe York")
    page.press("#id_region", "Tab")
    expect(page.locator("#id_region_error")).to_contain_text("Did you mean New York?")
    page.fill("#id_region", "New York")
    page.press("#id_region", "Tab")
    expect(page.locator("#id_region_error")).to_be_empty()
    expect(page.locator("#results tbody tr")).to_have_count(5)


def test_the_map_chooses_a_state(visit, stock, owner):
    in_stock("+13055550142", region="FL", city="Miami", area_code="305")
    page = visit(owner, path=LOCAL)
    page.get_by_role("link", name=re.compile("^Florida")).click()
    expect(page.locator("#results tbody tr")).to_have_count(1)
    expect(page.locator("#id_region")).to_have_value("FL")
    page.get_by_role("link", name=re.compile("Drop filter Florida")).click()
    expect(page.locator("#results tbody tr")).to_have_count(6)
    expect(page.locator("#id_region")).to_have_value("")


@pytest.mark.parametrize("javascript", [True, False])
def test_the_whole_purchase(visit, stock, owner, storefront, javascript):
    page = visit(owner, path="/o/northwind/numbers/purchase/", javascript=javascript)
    page.get_by_role("link", name="Local").click()
    select(page)
    expect(row(page)).to_contain_text("Held for you")
    page.get_by_role("link", name="See quote").click()
    expect(page.get_by_role("main")).to_contain_text("Added to your account")
    page.get_by_label("Assign to").select_option("storefront")
    page.get_by_role("button", name="Complete purchase").click()
    expect(page.get_by_role("main")).to_contain_text("(212) 555-0142 is yours")
    assert PhoneNumber.objects.get().assignment_count == 1
    page.reload()
    assert not Hold.objects.exists()


def test_without_javascript_the_filters_have_a_button(visit, stock, owner):
    page = visit(owner, path=LOCAL, javascript=False)
    page.fill("#id_digits", "0144")
    page.get_by_role("button", name="Search").click()
    expect(page.locator("#results tbody tr")).to_have_count(1)


@pytest.mark.parametrize(("width", "scheme"), [(360, "dark"), (1440, "light")])
def test_no_page_of_the_purchase_has_a_barrier(
    visit, stock, owner, organization, purchase, width, scheme
):
    purchase(stock[4])
    page = visit(owner, path=LOCAL, width=width, scheme=scheme)
    select(page)
    expect(row(page)).to_contain_text("Held for you")
    order = organization.orders.get().public_id
    for path in (
        "/o/northwind/numbers/purchase/",
        LOCAL,
        f"{LOCAL}?place=212&digits=99999",
        f"{LOCAL}?region=nowhere",
        "/o/northwind/numbers/purchase/tollfree/",
        "/o/northwind/numbers/purchase/quote/",
        "/o/northwind/orders/",
        f"/o/northwind/orders/{order}/",
    ):
        page.goto(path)
        violations = Axe().run(page).response["violations"]
        assert not violations, [(v["id"], v["nodes"][0]["html"]) for v in violations]
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
