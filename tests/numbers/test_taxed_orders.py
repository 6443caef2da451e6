"""Tax from the quote to the receipt: what was shown is what is asked for."""

from datetime import date, timedelta
from decimal import Decimal

import pytest

from chirp_dashboard.billing.models import Entry, Invoice, Payment, Rental, Standing
from chirp_dashboard.billing.models.books import CreditLimitReached
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber
from chirp_dashboard.numbers.models.quotes import QuoteChanged
from chirp_dashboard.organizations.models import Organization

from .conftest import NOON, quoted

# Fee 1.00 and 8 of 30 days of 1.00; 8.875 per cent of it is 11.27 cents.
NET, TAX = 127, 11


@pytest.fixture
def taxed(organization):
    organization.tax_rate = Decimal("8.875")
    organization.save()
    return organization


def place(organization, person, *rows, total, key="key"):
    return Order.objects.place(
        organization,
        person=person,
        numbers=[row.key for row in rows],
        expected_total=total,
        idempotency_key=key,
        at=NOON,
    )


def test_quote_shows_net_tax_and_total(taxed, owner, stock):
    with pytest.raises(QuoteChanged) as changed:
        place(taxed, owner, stock[0], total=0)
    quote = changed.value.quote
    assert (quote.net, quote.tax, quote.total) == (NET, TAX, NET + TAX)
    assert quote.tax_rate == Decimal("8.875")


def test_total_without_the_tax_is_refused(taxed, owner, stock):
    with pytest.raises(QuoteChanged):
        place(taxed, owner, stock[0], total=NET)
    assert not Order.objects.exists()


def test_rate_that_changed_refuses_with_the_new_quote(taxed, owner, stock):
    Organization.objects.update(tax_rate=20)
    with pytest.raises(QuoteChanged) as changed:
        place(taxed, owner, stock[0], total=NET + TAX)
    assert (changed.value.quote.total, changed.value.lost) == (NET + 25, {})
    assert not PhoneNumber.objects.exists()


def test_order_keeps_the_rate_it_was_placed_at(taxed, owner, stock):
    order = place(taxed, owner, stock[0], stock[1], total=2 * NET + 23)  # 22.54
    order.refresh_from_db()
    assert (order.total, order.tax_rate) == (277, Decimal("8.875"))
    again = place(taxed, owner, stock[0], stock[1], total=277)
    assert again == order


def test_order_on_account_is_charged_net_and_taxed_with_its_invoice(taxed, owner, stock):
    place(taxed, owner, stock[0], total=NET + TAX)
    assert Standing.objects.get().balance == NET
    assert sum(quoted(taxed, [stock[1]], at=NOON)) == NET
    Rental.objects.charge_due(on=date(2026, 12, 1), at=NOON + timedelta(days=8))
    invoice = Invoice.objects.get()
    assert (invoice.net, invoice.tax) == (NET + 100, 20)
    assert check_books(at=NOON + timedelta(days=8)) == []


def test_credit_limit_counts_the_tax_of_the_purchase(taxed, owner, stock):
    Organization.objects.update(credit_limit=NET + TAX - 1)
    with pytest.raises(CreditLimitReached):
        place(taxed, owner, stock[0], total=NET + TAX)
    Organization.objects.update(credit_limit=NET + TAX)
    place(taxed, owner, stock[0], total=NET + TAX)


def test_daily_cap_counts_the_tax_of_the_purchase(taxed, owner, stock):
    Organization.objects.update(daily_spend_cap=2 * (NET + TAX) - 1)
    place(taxed, owner, stock[0], total=NET + TAX)
    with pytest.raises(CreditLimitReached, match="in a day"):
        place(taxed, owner, stock[1], total=NET + TAX, key="another")


def test_prepaid_order_collects_the_tax_with_its_receipt(taxed, owner, stock):
    Organization.objects.update(gateway="test")
    place(taxed, owner, stock[0], total=NET + TAX)
    payment, receipt = Payment.objects.get(), Invoice.objects.get()
    assert (payment.amount, payment.captured) == (NET + TAX, NET + TAX)
    assert (receipt.kind, receipt.net, receipt.tax) == ("receipt", NET, TAX)
    assert receipt.paid == receipt.total == payment.captured
    assert Standing.objects.get().balance == 0
    assert Entry.objects.filter(kind="tax").count() == 1
    assert check_books(at=NOON) == []
