"""The whole story through a real browser, as a newcomer would tell it, with and without JavaScript.

Purchase a number, assign it to two applications, remove it from one, see what it cost and what it will
cost, release it and think better of it.
"""

import re
import time
from datetime import date

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.billing.models import Price
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import InventoryNumber, PhoneNumber

pytestmark = pytest.mark.django_db(transaction=True)

NUMBER = "(212) 555-0142"


@pytest.fixture
def shop(db):
    """A price list and two numbers in stock."""
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


def button(place, name):
    return place.get_by_role("button", name=name)


def link(place, name):
    return place.get_by_role("link", name=name)


def row_of(page, text):
    return page.get_by_role("row").filter(has_text=text)


@pytest.mark.parametrize("javascript", [True, False], ids=["with-script", "without-script"])
def test_the_whole_story(visit, shop, owner, storefront, alerts, javascript):
    page = visit(owner, path="/o/northwind/", javascript=javascript)

    purchase(page)
    assign(page, "Storefront")
    assign(page, "Alerts")
    assert PhoneNumber.objects.get().assignment_count == 2

    remove(page, "Alerts")
    number = PhoneNumber.objects.get()
    assert [a.application.name for a in number.assignments.open()] == ["Storefront"]
    assert number.open_rental().ends_on is None

    see_what_it_costs(page, number)
    release_and_keep(page)
    release_and_undo(page)
    assert not check_books(at=timezone.now())


def purchase(page):
    link(page.get_by_role("main"), re.compile("Purchase Number")).first.click()
    link(page.get_by_role("main"), re.compile("Local")).first.click()
    button(row_of(page, NUMBER), re.compile("^Select")).click()
    link(page.locator("#basket"), "See quote").click()
    expect(page.get_by_role("main")).to_contain_text("$1.00")
    button(page, "Complete purchase").click()
    expect(page).to_have_url(re.compile(r"/orders/ord_\w{27}/"))
    expect(page.get_by_role("main")).to_contain_text(NUMBER)
    assert PhoneNumber.objects.get().display == NUMBER


def assign(page, application):
    link(page.get_by_role("navigation").first, application).click()
    link(page.get_by_role("main"), re.compile("Assign Number")).first.click()
    page.get_by_label(re.compile(re.escape(NUMBER))).first.check()
    button(page, "Continue").click()
    button(page, re.compile("^Assign 1 number")).click()
    expect(page.get_by_role("main").or_(page.get_by_role("dialog")).last).to_contain_text(
        f"assigned to {application}"
    )
    page.goto(f"/o/northwind/apps/{application.lower()}/numbers/")
    expect(row_of(page, NUMBER)).to_be_visible()


def remove(page, application):
    page.goto(f"/o/northwind/apps/{application.lower()}/numbers/")
    link(open_number(page), re.compile(f"Remove.*{application}")).first.click()
    expect(page.get_by_text(re.compile("goes on being billed|go on being billed"))).to_be_visible()
    button(page, re.compile("^Remove")).last.click()
    eventually(lambda: PhoneNumber.objects.get().assignment_count == 1)


def open_number(page):
    link(row_of(page, NUMBER), NUMBER).click()
    expect(page.get_by_role("heading", name=NUMBER)).to_be_visible()
    return page.get_by_role("main")


def see_what_it_costs(page, number):
    link(page.get_by_role("navigation").first, "Billing").click()
    main = page.get_by_role("main")
    expect(main).to_contain_text("Next invoice")
    link(main, "See cost per number").click()
    cost = sum(charge.amount for charge in number.charges.all())
    expect(row_of(page, NUMBER)).to_contain_text(f"${cost / 100:.2f}")


def release_and_keep(page):
    link(page.get_by_role("navigation").first, "Phone Numbers").click()
    main = open_number(page)
    link(main, re.compile("^Release")).click()
    button(page, f"Release {NUMBER}").click()
    expect(page.get_by_role("main")).to_contain_text("Releasing")
    link(page.get_by_role("main"), re.compile("Keep|Cancel release")).first.click()
    button(page, re.compile("Keep|Cancel release")).last.click()
    eventually(lambda: PhoneNumber.objects.get().releases_on is None)


def release_and_undo(page):
    page.goto(f"/o/northwind/numbers/{PhoneNumber.objects.get().public_id}/")
    link(page.get_by_role("main"), re.compile("^Release")).click()
    page.get_by_label(re.compile("^Now")).check()
    button(page, f"Release {NUMBER}").click()
    eventually(lambda: PhoneNumber.objects.get().is_released)
    page.goto(f"/o/northwind/numbers/{PhoneNumber.objects.get().public_id}/")
    link(page.get_by_role("main"), re.compile("^Undo release")).first.click()
    button(page, re.compile("Undo release|Bring back")).last.click()
    eventually(lambda: not PhoneNumber.objects.get().is_released)
    number = PhoneNumber.objects.get()
    assert [a.application.name for a in number.assignments.open()] == ["Storefront"]


def eventually(true, *, tries=100):
    """Wait for what the page's request changes in the database."""
    for _ in range(tries):
        if true():
            return
        time.sleep(0.05)
    assert true()
