from datetime import date

import pytest

from chirp_dashboard.billing.models import (
    BillingRun,
    Charge,
    Entry,
    Invoice,
    InvoiceLine,
    Rental,
)

from .conftest import DECEMBER, JANUARY, noon, rent


def run(on):
    return Rental.objects.charge_due(on=on, at=noon(on))


def periods(rental):
    charges = rental.charges.order_by("period_start")
    return [(str(charge.period_start), str(charge.period_end), charge.amount) for charge in charges]


@pytest.mark.django_db(transaction=True)
def test_run_charges_each_period_that_has_begun(rental):
    run(DECEMBER)
    assert periods(rental) == [
        ("2026-11-23", "2026-12-01", 27),
        ("2026-12-01", "2027-01-01", 100),
    ]


def test_repeat_changes_nothing(rental):
    first = run(DECEMBER)
    again = run(DECEMBER)
    assert (first.charges, again.charges, again.invoices) == (1, 0, 0)
    assert Charge.objects.count() == 3
    assert Entry.objects.count() == 2
    assert BillingRun.objects.count() == 1


def test_invoice_gathers_what_was_posted_before_and_what_begins(rental):
    run(DECEMBER)
    invoice = Invoice.objects.get()
    assert (invoice.number, invoice.total, invoice.line_count) == (1, 100 + 27 + 100, 3)
    assert (invoice.billing_date, invoice.due_on) == (DECEMBER, date(2026, 12, 31))
    assert InvoiceLine.objects.count() == 3


def test_missed_months_are_caught_up_with_an_invoice_each(rental):
    run(date(2027, 3, 5))
    assert [start for start, _, _ in periods(rental)] == [
        "2026-11-23", "2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01",
    ]  # fmt: skip
    invoices = Invoice.objects.order_by("number").values_list("number", "billing_date", "total")
    assert [(number, str(on), total) for number, on, total in invoices] == [
        (1, "2026-12-01", 227), (2, "2027-01-01", 100), (3, "2027-02-01", 100), (4, "2027-03-01", 100),
    ]  # fmt: skip


def test_purchase_on_the_billing_date_joins_the_following_invoice(organization, rental):
    late = rent(organization, on=DECEMBER)[0]
    run(DECEMBER)
    assert Invoice.objects.get().total == 227
    after = rent(organization, on=DECEMBER)[0]
    run(JANUARY)
    assert Invoice.objects.get(number=2).total == 100 + 2 * (100 + 100 + 100)
    for one in (late, after):
        assert [start for start, _, _ in periods(one)] == ["2026-12-01", "2027-01-01"]
