from datetime import date

import pytest
import time_machine
from django.urls import reverse

from chirp_dashboard.billing.models import Charge, Invoice, Payment
from chirp_dashboard.billing.statement import INVOICES, Statement

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

OVERVIEW = "/o/northwind/billing/"
CHARGES = "/o/northwind/billing/charges/"


@pytest.fixture(autouse=True)
def late_december():
    with time_machine.travel(noon(date(2026, 12, 20)), tick=False):
        yield


@pytest.fixture
def invoice(rental):
    run(DECEMBER)
    return Invoice.objects.get()


def text_of(response):
    return " ".join(response.content.decode().split())


def statement(organization, on=date(2026, 12, 20)):
    return Statement(organization, on)


# Statement ------------------------------------------------------------------------------------


def test_forecast_is_what_the_next_invoice_will_ask_for(organization, rental):
    run(DECEMBER)
    rent(organization, on=date(2026, 12, 10), numbers=3, amount=250)
    rent(organization, on=date(2026, 12, 10), ends_on=JANUARY)
    rent(organization, on=date(2026, 10, 1), amount=9_000, months=3)
    Charge.objects.issue_credit(
        organization, amount=40, reason="Outage", by=OPERATOR, at=noon(date(2026, 12, 11))
    )
    expected = statement(organization)
    assert expected.next_invoice_on == JANUARY
    run(JANUARY)
    assert expected.forecast == Invoice.objects.get(billing_date=JANUARY).total


def test_forecast_counts_a_lease_only_when_its_period_begins(organization):
    rent(organization, on=date(2026, 11, 15), amount=9_000, months=3)
    run(DECEMBER)
    assert statement(organization).forecast == 0
    run(date(2027, 2, 1))
    assert statement(organization, on=date(2027, 2, 3)).forecast == 9_000
    run(date(2027, 2, 20))
    assert statement(organization, on=date(2027, 2, 20)).forecast == 9_000


def test_forecast_goes_on_after_a_month_that_was_charged_ahead(organization, rental):
    run(JANUARY)
    ahead = statement(organization, on=date(2026, 12, 20))
    assert (ahead.next_invoice_on, ahead.forecast) == (date(2027, 2, 1), 100)


def test_money_paid_ahead_is_credit_and_not_a_charge(organization, rental):
    Payment.objects.record_transfer(
        organization, amount=500, received_on=date(2026, 11, 24), reference="T", by=OPERATOR,
        at=noon(date(2026, 11, 24)),
    )  # fmt: skip
    now = statement(organization, on=date(2026, 11, 24))
    assert (now.not_invoiced, now.credit, now.due) == (127, 500, 0)
    assert now.used == -373


def test_credit_limit_counts_all_that_is_owed(organization, rental):
    organization.credit_limit = 1000
    run(DECEMBER)
    now = statement(organization)
    assert (now.used, now.left, now.limit) == (227, 773, 1000)


def test_organization_without_anything_has_a_statement(organization):
    now = statement(organization)
    assert (now.due, now.forecast, now.used, now.invoices, now.payments) == (0, 0, 0, [], [])


# Overview -------------------------------------------------------------------------------------


def test_overview_says_what_is_due_and_how_to_pay(billing_client, invoice):
    page = text_of(billing_client.get(OVERVIEW))
    assert "$2.27 to pay by 31 Dec 2026" in page
    assert "northwind 000001" in page
    assert "Next invoice, 1 Jan 2027" in page
    assert "Expected: $1.00 rental" in page


def test_overdue_invoice_is_named(billing_client, invoice):
    with time_machine.travel(noon(date(2027, 1, 2)), tick=False):
        page = text_of(billing_client.get(OVERVIEW))
    assert "Overdue since 31 Dec 2026" in page


def test_paid_invoice_leaves_nothing_to_pay(billing_client, organization, invoice):
    Payment.objects.record_transfer(
        organization, amount=227, received_on=DECEMBER, reference="Bank 7", by=OPERATOR,
        at=noon(DECEMBER),
    )  # fmt: skip
    page = text_of(billing_client.get(OVERVIEW))
    assert "Nothing to pay" in page
    assert "Bank 7" in page


def test_overview_of_nothing_says_when_the_first_invoice_comes(billing_client):
    page = text_of(billing_client.get(OVERVIEW))
    assert "The first invoice is written on 1 Jan 2027" in page
    assert "Nothing is rented at the moment." in page


def test_prepaying_organization_is_not_told_to_transfer(billing_client, organization, invoice):
    organization.gateway = "test"
    organization.save()
    page = text_of(billing_client.get(OVERVIEW))
    assert "Transfer it" not in page
    assert "Purchases are paid at once" in page


@pytest.mark.parametrize("numbers", [1, 30])
def test_pages_take_five_queries(billing_client, organization, django_assert_num_queries, numbers):
    rental = rent(organization, on=date(2026, 11, 23), numbers=numbers)[0]
    run(DECEMBER)
    invoice = Invoice.objects.get()
    paths = [
        OVERVIEW,
        CHARGES,
        f"{CHARGES}?number={rental.phone_number.public_id}",
        invoice_path(invoice),
    ]
    for path in paths:
        with django_assert_num_queries(4 if path == CHARGES else 5):
            assert billing_client.get(path).status_code == 200


def test_swap_of_the_numbers_returns_them_alone(billing_client, rental):
    headers = {"HX-Request": "true", "HX-Target": "per-number"}
    response = billing_client.get(OVERVIEW, {"q": "nothing"}, headers=headers)
    assert next(t.name for t in response.templates) == "billing/_per_number.html"
    assert "No number matches “nothing”" in text_of(response)


def test_numbers_are_found_by_digits_and_label(billing_client, organization):
    first, second = rent(organization, on=date(2026, 11, 23), numbers=2)
    organization.phone_numbers.filter(pk=second.phone_number_id).update(label="Sales desk")
    number = first.phone_number
    for q in (number.number[-7:], number.display, "sales desk", "SALES"):
        page = text_of(billing_client.get(OVERVIEW, {"q": q}))
        found = second.phone_number if "ales" in q.lower() else number
        other = number if found != number else second.phone_number
        assert found.display in page
        assert other.display not in page


def test_numbers_are_paged_by_key(billing_client, organization):
    rentals = rent(organization, on=date(2026, 11, 23), numbers=60)
    path, seen, pages = OVERVIEW, [], 0
    while path:
        listed = billing_client.get(path).context["list"]
        seen += [row["public_id"] for row in listed.rows]
        path, pages = listed.older and OVERVIEW + listed.older, pages + 1
    assert (pages, len(seen), len(set(seen))) == (3, 60, 60)
    back = billing_client.get(OVERVIEW + listed.newer).context["list"]
    assert [row["public_id"] for row in back.rows] == seen[25:50]
    assert {rental.phone_number.public_id for rental in rentals} == set(seen)


def test_invoices_are_paged_by_number(billing_client, organization):
    rent(organization, on=date(2025, 1, 15))
    run(date(2026, 12, 20))
    first = billing_client.get(OVERVIEW).context["statement"]
    assert [invoice.number for invoice in first.invoices] == list(range(23, 23 - INVOICES, -1))
    swap = {"HX-Request": "true", "HX-Target": "invoices"}
    older = billing_client.get(OVERVIEW + first.older_invoices, headers=swap)
    assert next(t.name for t in older.templates) == "billing/_invoices.html"
    assert [i.number for i in older.context["statement"].invoices] == list(range(11, 0, -1))
    assert older.context["statement"].older_invoices == ""


@pytest.mark.parametrize("before", ["x", "-1", "9" * 30, "٣", "0"])
def test_nonsense_pages_show_something_calm(billing_client, invoice, before):
    assert billing_client.get(OVERVIEW, {"invoices": before}).status_code == 200
    assert billing_client.get(OVERVIEW, {"after": before, "before": before}).status_code == 200
    assert billing_client.get(OVERVIEW, {"q": "\0" + before}).status_code == 200


def test_chart_shows_months_and_what_is_expected(billing_client, invoice):
    chart = billing_client.get(OVERVIEW).context["chart"]
    assert (chart.bars[-2].name, chart.bars[-2].text) == ("December 2026", "$2.27")
    assert (chart.bars[-1].name, chart.bars[-1].text) == ("January 2027, forecast", "$1.00")
    assert chart.top == 500
    assert all(bar.y + bar.height == pytest.approx(176, abs=0.2) for bar in chart.bars)


# Charges --------------------------------------------------------------------------------------


def test_charges_say_where_each_was_asked_for(billing_client, organization, invoice):
    rent(organization, on=date(2026, 12, 10))
    page = text_of(billing_client.get(CHARGES))
    assert "Invoice 000001" in page
    assert "Not yet invoiced" in page
    assert "1–31 Dec 2026" in page
    assert "23–30 Nov 2026" in page


def test_charges_of_one_number(billing_client, organization, rental):
    other = rent(organization, on=date(2026, 12, 10))[0]
    page = text_of(billing_client.get(CHARGES, {"number": rental.phone_number.public_id}))
    assert f"Charges of {rental.phone_number}" in page
    assert other.phone_number.display not in page


def test_charges_of_a_rivals_number_are_not_found(billing_client, rival):
    theirs = rent(rival, on=DECEMBER)[0].phone_number
    assert billing_client.get(CHARGES, {"number": theirs.public_id}).status_code == 404
    assert billing_client.get(CHARGES, {"number": "\0ph_x"}).status_code == 404


def test_swap_of_charges_returns_them_alone(billing_client, rental):
    response = billing_client.get(CHARGES, headers={"HX-Request": "true"})
    assert next(t.name for t in response.templates) == "billing/_ledger.html"


# Invoice --------------------------------------------------------------------------------------


def invoice_path(invoice):
    return reverse("billing:invoice", args=[invoice.organization.slug, invoice.public_id])


def test_invoice_shows_seller_buyer_lines_and_total(billing_client, settings, organization, rental):
    settings.SELLER_NAME, settings.SELLER_ADDRESS = "Chirp Ltd", "1 Wire Street\nLondon"
    run(DECEMBER)
    page = text_of(billing_client.get(invoice_path(Invoice.objects.get())))
    for words in (
        "Chirp Ltd",
        "1 Wire Street",
        "Northwind",
        "Purchase fee",
        "23–30 Nov 2026",
        "$2.27",
    ):
        assert words in page
    assert 'with the reference <b class="nowrap">northwind 000001</b>' in page


def test_issued_invoice_keeps_the_seller_it_was_issued_by(billing_client, settings, invoice):
    settings.SELLER_NAME = "Somebody else"
    assert "Somebody else" not in text_of(billing_client.get(invoice_path(invoice)))


def test_lines_of_a_long_invoice_are_paged(billing_client, organization):
    rent(organization, on=date(2026, 11, 23), numbers=70)
    run(DECEMBER)
    path = invoice_path(Invoice.objects.get())
    first = billing_client.get(path).context["list"]
    rest = billing_client.get(path + first.older, headers={"HX-Request": "true"})
    third = billing_client.get(path + rest.context["list"].older).context["list"]
    assert [len(page.rows) for page in (first, rest.context["list"], third)] == [100, 100, 10]
    assert next(t.name for t in rest.templates) == "billing/_lines.html"


def test_rivals_invoice_is_not_found(billing_client, rival):
    rent(rival, on=date(2026, 11, 23))
    run(DECEMBER)
    theirs = Invoice.objects.get()
    path = reverse("billing:invoice", args=["northwind", theirs.public_id])
    assert billing_client.get(path).status_code == 404
    assert billing_client.get(invoice_path(theirs)).status_code == 404


# Who may --------------------------------------------------------------------------------------


@pytest.fixture
def paths(invoice):
    return [OVERVIEW, CHARGES, invoice_path(invoice)]


@pytest.mark.parametrize("role", ["owner", "admin", "billing"])
def test_payers_see_billing(request, paths, role):
    client = request.getfixturevalue(f"{role}_client")
    assert [client.get(path).status_code for path in paths] == [200] * 3


@pytest.mark.parametrize("role", ["viewer", "developer"])
def test_other_roles_are_refused(request, paths, role):
    client = request.getfixturevalue(f"{role}_client")
    assert [client.get(path).status_code for path in paths] == [403] * 3


def test_strangers_find_nothing(rival_client, stranger_client, paths):
    for client in (rival_client, stranger_client):
        assert [client.get(path).status_code for path in paths] == [404] * 3


def test_signed_out_people_sign_in_first(client, paths):
    assert [client.get(path).status_code for path in paths] == [302] * 3


def test_nothing_is_changed_by_posting(owner_client, paths):
    assert [owner_client.post(path).status_code for path in paths] == [405] * 3
