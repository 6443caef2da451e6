"""The main story told by Tab, Enter, Space and Escape alone; where one is can always be seen."""

import re
from datetime import date

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.billing.models import Price
from chirp_dashboard.numbers.models import InventoryNumber, PhoneNumber

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "(212) 555-0142"
STEPS = 120  # more Tabs than any page here has stops

WORDS = """() => {
    const here = document.activeElement;
    const words = here.getAttribute('aria-label') ?? here.labels?.[0]?.innerText ?? here.innerText;
    return words.replace(/\\s+/g, ' ').trim();
}"""
RING = """() => {
    const here = document.activeElement;
    const drawn = [[here], [here, '::after'], [here.closest('.option') ?? here]];
    return drawn.map((of) => getComputedStyle(...of)).some(
        (style) => style.outlineStyle !== 'none' && parseFloat(style.outlineWidth) >= 2);
}"""


@pytest.fixture
def shop(db):
    Price.objects.create(
        country="US", number_type="local", purchase_fee=100, rental=100, valid_from=date(2020, 1, 1)
    )
    for number in ("+12125550142", "+12125550143"):
        InventoryNumber.objects.create(
            country="US",
            number=number,
            number_type="local",
            region="NY",
            city="New York",
            area_code="212",
            capabilities=["SMS", "Voice"],
        )


def focused(page):
    return page.evaluate(WORDS)


def tab_to(page, name, *, key="Tab"):
    """Press Tab until the focus is on what is called `name`, and see it at every stop."""
    for _ in range(STEPS):
        page.keyboard.press(key)
        words = focused(page)
        assert page.evaluate(RING), f"The focus on {words!r} cannot be seen."
        if re.search(name, words):
            return
    pytest.fail(f"Tab never came to {name!r}.")


def go(page, name, *, key="Enter"):
    """Press what is called `name` and be on the page it leads to."""
    before = page.url
    tab_to(page, name)
    page.keyboard.press(key)
    page.wait_for_url(lambda url: url != before)


def heard(page, text):
    expect(page.locator("#live")).to_contain_text(text)


def comes_to(page, name):
    """Wait until the focus is on what is called `name`."""
    for _ in range(100):
        if re.search(name, focused(page)):
            return
        page.wait_for_timeout(50)
    pytest.fail(f"The focus is on {focused(page)!r}, not on {name!r}.")


def returned(page, name):
    """The dialog is closed and the focus where it was opened."""
    expect(page.locator("#dialog")).to_be_hidden()
    comes_to(page, name)


def test_the_story_needs_no_mouse(visit, shop, owner, storefront):
    page = visit(owner, path="/o/northwind/")
    purchase(page)
    assign(page)
    remove(page)
    assert PhoneNumber.objects.get().assignment_count == 0


def purchase(page):
    tab_to(page, "^Skip to content$")
    page.keyboard.press("Enter")
    go(page, "^Purchase Number$")
    go(page, "^Local$")
    tab_to(page, f"^Select {re.escape(NUMBER)}$")
    page.keyboard.press("Space")
    heard(page, f"{NUMBER} is held for you")
    comes_to(page, f"^Remove {re.escape(NUMBER)}$")
    go(page, "^See quote$")
    go(page, "^Complete purchase$", key="Space")
    assert "/orders/" in page.url


def assign(page):
    tab_to(page, "^Assign to…$")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Assign {NUMBER} to an application")
    expect(dialog).to_be_visible()
    expect(dialog.get_by_label("Storefront")).to_be_focused()
    page.keyboard.press("Escape")
    returned(page, "^Assign to…")

    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Storefront")).to_be_focused()
    tab_to(page, "^Assign$")
    page.keyboard.press("Enter")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.locator(".toast")).to_contain_text("Assigned to Storefront.")


def remove(page):
    page.reload()
    go(page, "^Storefront$")
    tab_to(page, f"^Actions for {re.escape(NUMBER)}$")
    page.keyboard.press("Enter")
    tab_to(page, "^Remove")
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog", name=f"Remove {NUMBER} from Storefront?")
    expect(dialog).to_be_visible()
    comes_to(page, "^Keep it$")  # what loses something is not one Enter away
    page.keyboard.press("Enter")
    returned(page, "^Actions for")

    page.keyboard.press("Space")
    tab_to(page, "^Remove")
    page.keyboard.press("Enter")
    comes_to(page, "^Keep it$")
    tab_to(page, "^Remove from Storefront$", key="Shift+Tab")
    page.keyboard.press("Enter")
    heard(page, "Removed from Storefront.")
    expect(page.locator("#dialog")).to_be_hidden()
    expect(page.get_by_role("row").filter(has_text=NUMBER)).to_have_count(0)
    page.wait_for_function("document.activeElement !== document.body")


def test_the_dialog_keeps_the_focus(visit, shop, owner, storefront):
    number = PhoneNumber.objects.create(
        organization=owner.memberships.get().organization,
        country="US", number="+12125550142", number_type="local", rental_amount=100,
        currency="USD", purchased_at=timezone.now(),
    )  # fmt: skip
    page = visit(owner, path=f"/o/northwind/numbers/{number.public_id}/")
    tab_to(page, "^Assign to…$")
    page.keyboard.press("Enter")
    expect(page.get_by_role("dialog")).to_be_visible()
    inside = "document.getElementById('dialog').contains(document.activeElement)"
    outside = "document.activeElement === document.body"  # the browser's own controls
    for key in ["Tab"] * 6 + ["Shift+Tab"] * 6:
        page.keyboard.press(key)
        assert page.evaluate(f"{inside} || {outside}")
