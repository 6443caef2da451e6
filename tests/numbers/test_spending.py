"""Spend per application: exact to the cent, from who had which number when it was charged."""

from datetime import date, timedelta
from itertools import pairwise

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chirp_dashboard.billing.models import Charge, Invoice, Rental
from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.numbers.spending import NOT_INVOICED, Spending, SpendingOf
from chirp_dashboard.organizations.models import Actor, Application

from .conftest import NOON

PATH = "/o/northwind/billing/applications/"
OPERATOR = Actor.system("tests")
DECEMBER, JANUARY = date(2026, 12, 1), date(2027, 1, 1)
LATER = NOON + timedelta(days=1)

pytestmark = pytest.mark.django_db


def run(day):
    Rental.objects.charge_due(on=day, at=NOON + (day - NOON.date()))


def shares(organization, month=""):
    spending = Spending(organization, JANUARY, {"month": month})
    return {share.name: share.amount for share in spending.shares}


@pytest.fixture
def billing(organization):
    return Application.objects.create(organization=organization, name="Billing", slug="billing")


def test_shared_number_is_split_and_the_odd_cents_go_to_the_earliest(
    number, organization, storefront, alerts, billing, owner
):
    for hours, application in enumerate((alerts, storefront, billing), start=1):
        number.assign(application, by=owner, at=NOON + timedelta(hours=hours))
    run(DECEMBER)
    # Purchased before it was assigned: fee 1.00 and 0.27. Then 1.00 in December among three.
    assert shares(organization) == {
        "Alerts": 34, "Storefront": 33, "Billing": 33, "Not assigned": 127,
    }  # fmt: skip


def test_charges_follow_the_assignments_of_their_moment(
    number, organization, storefront, alerts, owner
):
    number.assign(storefront, by=owner, at=LATER)
    run(DECEMBER)
    number.move(storefront, alerts, by=owner, at=NOON + timedelta(days=20))
    run(JANUARY)
    assert shares(organization, "2026-12") == {"Storefront": 100, "Not assigned": 127}
    assert shares(organization, "2027-01") == {"Alerts": 100}


def test_number_purchased_for_an_application_is_its_from_the_first_cent(
    purchase, stock, organization, storefront
):
    purchase(stock[0], application=storefront)
    run(DECEMBER)
    assert shares(organization) == {"Storefront": 227}


def test_charge_written_by_a_release_is_still_of_those_that_had_the_number(
    purchase, stock, organization, storefront, owner
):
    number = purchase(stock[0], application=storefront)[0]
    number.release(when="now", by=owner, at=NOON + timedelta(days=9))  # 2 December, before the run
    run(JANUARY)
    assert shares(organization, "2027-01") | shares(organization, "2026-12") == {"Storefront": 227}


def test_archived_application_keeps_what_it_spent(
    purchase, stock, organization, storefront, owner, owner_client
):
    purchase(stock[0], application=storefront)
    run(DECEMBER)
    Assignment.objects.archive(storefront, by=owner, at=NOON + timedelta(days=10))
    run(JANUARY)
    assert shares(organization, "2026-12") == {"Storefront": 227}
    assert shares(organization, "2027-01") == {"Not assigned": 100}
    page = owner_client.get(PATH, {"month": "2026-12"}).content.decode()
    assert "Archived" in page
    assert "$2.27" in page


def test_credit_follows_the_charge_it_corrects(
    purchase, stock, organization, storefront, alerts, owner
):
    number = purchase(stock[0], application=storefront)[0]
    number.assign(alerts, by=owner, at=LATER)
    fee = Charge.objects.get(kind="purchase_fee")
    Charge.objects.issue_credit(
        organization, amount=100, reason="Late", by=OPERATOR, at=LATER, corrects=fee
    )
    Charge.objects.issue_credit(organization, amount=7, reason="Sorry", by=OPERATOR, at=LATER)
    run(DECEMBER)
    assert shares(organization) == {"Storefront": 27 + 50, "Alerts": 50, "Not assigned": -7}


def test_what_is_not_invoiced_is_a_month_of_its_own(purchase, stock, organization, storefront):
    purchase(stock[0], application=storefront)
    assert shares(organization) == shares(organization, NOT_INVOICED) == {"Storefront": 127}
    run(DECEMBER)
    assert shares(organization, NOT_INVOICED) == {}


def test_parts_add_up_to_the_net_of_the_invoices(
    purchase, stock, organization, storefront, alerts, billing, owner
):
    numbers = purchase(*stock)
    organization.tax_rate = 19
    organization.save()
    for at, (first, second) in enumerate(pairwise([storefront, alerts, billing, storefront]), 1):
        for number in numbers[at:]:
            for application in (first, second):
                if not number.assignments.filter(application=application).exists():
                    number.assign(application, by=owner, at=NOON + timedelta(hours=at))
    Charge.objects.issue_credit(
        organization, amount=20, reason="Outage", by=OPERATOR, at=LATER,
        corrects=Charge.objects.filter(kind="rental").first(),
    )  # fmt: skip
    run(DECEMBER)
    run(JANUARY)
    for month, on in (("2026-12", DECEMBER), ("2027-01", JANUARY)):
        invoice = Invoice.objects.get(billing_date=on)
        spending = Spending(organization, JANUARY, {"month": month})
        assert spending.total == invoice.net
        for share in spending.shares:
            rows = SpendingOf(spending, share.application).rows
            assert sum(row["amount"] for row in rows) == share.amount


def test_shares_are_of_the_own_organization_alone(purchase, stock, rival, rival_client, storefront):
    purchase(stock[0], application=storefront)
    run(DECEMBER)
    assert shares(rival) == {}
    assert rival_client.get("/o/rival/billing/applications/").status_code == 200
    theirs = rival_client.get("/o/rival/billing/applications/?application=storefront")
    assert theirs.status_code == 404


def test_numbers_of_an_application_are_paged(owner_client, organization, storefront, rental_rows):
    rental_rows(60, storefront)
    path, seen = f"{PATH}?application=storefront", []
    while path:
        response = owner_client.get(path)
        seen += [row["number"] for row in response.context["part"].rows]
        path = response.context["older"] and PATH + response.context["older"]
    assert len(seen) == len(set(seen)) == 60
    assert seen == sorted(seen)


@pytest.fixture
def rental_rows(organization):
    from .owned import own_many, put

    def rental_rows(count, application):
        numbers = own_many(organization, count)
        put(numbers, application)
        run(DECEMBER)
        return numbers

    return rental_rows


@pytest.mark.parametrize("count", [1, 40])
def test_page_takes_as_many_queries_for_any_number_of_rentals(
    owner_client, rental_rows, storefront, count
):
    rental_rows(count, storefront)
    with CaptureQueriesContext(connection) as queries:
        assert owner_client.get(PATH).status_code == 200
    assert len(queries) == 6


@pytest.mark.parametrize("month", ["2020-01", "x", "2026-13", "\0", "9" * 50, "٢٠٢٦-١٢"])
def test_month_without_invoices_says_which_is_shown(owner_client, number, month):
    run(DECEMBER)
    page = owner_client.get(PATH, {"month": month}).content.decode()
    assert "Nothing was invoiced in that month. This is December 2026." in page


@pytest.mark.parametrize("after", ["x", "-", "-1", "+1-", "a-9" + "9" * 30, "\0-1", "-٣"])
def test_nonsense_pages_show_something_calm(owner_client, number, storefront, after):
    run(DECEMBER)
    for application in ("none", "storefront"):
        query = {"application": application, "after": after}
        assert owner_client.get(PATH, query).status_code == 200
    assert owner_client.get(PATH, {"application": "nobody"}).status_code == 404


def test_panel_is_a_fragment_for_htmx_and_a_page_without(owner_client, number):
    run(DECEMBER)
    panel = owner_client.get(f"{PATH}?panel", headers={"HX-Request": "true"})
    assert next(t.name for t in panel.templates) == "numbers/_spending_panel.html"
    page = owner_client.get(f"{PATH}?panel")
    assert next(t.name for t in page.templates) == "numbers/spending.html"


def test_nothing_charged_yet_teaches_what_will_stand_there(owner_client):
    assert "Nothing was charged yet" in owner_client.get(PATH).content.decode()


def test_csv_has_what_the_page_shows(owner_client, organization, purchase, stock):
    formula = Application.objects.create(organization=organization, name="=1+1", slug="formula")
    purchase(stock[0], application=formula)
    run(DECEMBER)
    with time_machine.travel(NOON + timedelta(days=10), tick=False):
        answer = owner_client.get(f"{PATH}csv/", {"month": "2026-12"})
    assert answer.headers["Content-Disposition"] == (
        'attachment; filename="northwind-applications-2026-12-2026-12-03.csv"'
    )
    assert b"".join(answer.streaming_content).decode() == (
        "Month,Application,Slug,Archived,Numbers,Shared,Currency,Amount\n"
        "2026-12,'=1+1,formula,,1,0,USD,2.27\n"
    )
