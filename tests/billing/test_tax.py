"""Tax: once per document, on the sum of its charges, posted with it."""

from datetime import date
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chirp_dashboard.billing.models import Charge, Entry, Invoice, Payment, Posting, Standing
from chirp_dashboard.billing.models.books import CreditLimitReached
from chirp_dashboard.billing.models.invoices import BooksDisagree
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import Mail

from .conftest import DECEMBER, JANUARY, NOON, OPERATOR, noon, rent, run

RATES = st.integers(0, 100_000).map(lambda thousandths: Decimal(thousandths).scaleb(-3))
SUMS = st.integers(-(10**15), 10**15)


@pytest.fixture
def taxed(organization):
    """The organization pays 19.5 per cent."""
    organization.tax_rate = Decimal("19.500")
    organization.save()
    return organization


# The arithmetic -------------------------------------------------------------------------------


@given(SUMS, RATES)
def test_tax_is_the_nearest_whole_and_halves_go_away_from_zero(net, rate):
    exact = Fraction(net) * Fraction(rate) / 100
    tax = tax_on(net, rate)
    assert abs(tax - exact) <= Fraction(1, 2)
    if abs(tax - exact) == Fraction(1, 2):
        assert abs(tax) > abs(exact)


@given(SUMS, RATES)
def test_what_is_given_back_is_taxed_as_what_was_asked_for(net, rate):
    assert tax_on(-net, rate) == -tax_on(net, rate)


@given(st.lists(st.integers(0, 10**9), max_size=20), RATES)
def test_tax_of_the_sum_is_within_half_a_cent_per_part_of_the_taxes_of_the_parts(parts, rate):
    taxed_alone = sum(tax_on(part, rate) for part in parts)
    assert abs(tax_on(sum(parts), rate) - taxed_alone) <= (len(parts) + 1) / 2


@pytest.mark.parametrize(
    ("net", "rate", "tax"),
    [
        (100, "19", 19),
        (250, "0.200", 1),  # half a cent
        (-250, "0.200", -1),
        (249, "0.200", 0),
        (999, "8.875", 89),
        (1, "49.999", 0),
        (1, "50", 1),
        (12345, "0", 0),
        (10**15, "100", 10**15),
    ],
)
def test_tax_in_known_cases(net, rate, tax):
    assert tax_on(net, Decimal(rate)) == tax


# Invoices -------------------------------------------------------------------------------------


def test_invoice_adds_tax_once_on_the_sum_of_its_charges(taxed):
    rent(taxed, on=date(2026, 11, 23), numbers=3)
    run(DECEMBER)
    invoice = Invoice.objects.get()
    net = 3 * (100 + 27 + 100)
    assert (invoice.net, invoice.tax, invoice.total) == (net, 133, net + 133)  # 132.795
    assert invoice.tax_rate == Decimal("19.5")
    assert check_books(at=noon(DECEMBER)) == []


def test_tax_is_posted_with_the_invoice(taxed):
    rent(taxed, on=date(2026, 11, 23))
    assert not Posting.objects.filter(account="tax").exists()
    run(DECEMBER)
    invoice, entry = Invoice.objects.get(), Entry.objects.get(kind="tax")
    postings = dict(entry.postings.values_list("account", "amount"))
    assert postings == {"receivable": invoice.tax, "tax": -invoice.tax}
    assert Standing.objects.get().balance == invoice.total


def test_no_rate_means_no_tax_line(organization):
    rent(organization, on=date(2026, 11, 23))
    run(DECEMBER)
    assert (Invoice.objects.get().tax, Entry.objects.filter(kind="tax").count()) == (0, 0)


def test_invoice_below_zero_gives_tax_back(taxed):
    Charge.objects.issue_credit(taxed, amount=1000, reason="Outage", by=OPERATOR, at=NOON)
    run(DECEMBER)
    invoice = Invoice.objects.get()
    assert (invoice.net, invoice.tax, invoice.paid) == (-1000, -195, -1195)
    assert Standing.objects.get().balance == -1195
    assert check_books(at=noon(DECEMBER)) == []


def test_changed_rate_holds_for_later_invoices_only(taxed):
    rent(taxed, on=date(2026, 11, 23))
    run(DECEMBER)
    taxed.tax_rate = Decimal("7")
    taxed.save()
    run(JANUARY)
    assert list(Invoice.objects.order_by("number").values_list("tax", "tax_rate")) == [
        (44, Decimal("19.5")),
        (7, Decimal("7")),
    ]
    assert check_books(at=noon(JANUARY)) == []


def test_invoice_keeps_who_sold_and_who_bought_as_they_were(taxed, settings):
    settings.SELLER_TAX_ID, settings.TAX_NAME = "DE123", "VAT"
    taxed.tax_id, taxed.billing_address = "NW-9", "1 Main Street"
    taxed.save()
    rent(taxed, on=date(2026, 11, 23))
    run(DECEMBER)
    settings.SELLER_TAX_ID, taxed.tax_id = "other", "other"
    taxed.save()
    invoice = Invoice.objects.get()
    assert (invoice.seller["tax_id"], invoice.seller["tax_name"]) == ("DE123", "VAT")
    assert invoice.buyer == {"name": "Northwind", "address": "1 Main Street", "tax_id": "NW-9"}


def test_invoice_keeps_its_sums_by_type_and_kind(organization):
    rent(organization, on=date(2026, 11, 23), numbers=2)
    Charge.objects.issue_credit(organization, amount=30, reason="Sorry", by=OPERATOR, at=NOON)
    run(DECEMBER)
    assert Invoice.objects.get().sums == [
        {"type": "local", "kind": "purchase_fee", "count": 2, "amount": 200},
        {"type": "local", "kind": "rental", "count": 4, "amount": 254},
        {"type": "", "kind": "credit", "count": 1, "amount": -30},
    ]


def test_issued_invoice_is_told_once_by_mail(organization, owner):
    rent(organization, on=date(2026, 11, 23))
    run(DECEMBER)
    run(DECEMBER)
    mail = Mail.objects.get(kind="invoice_issued")
    assert mail.subject == "Invoice 000001: $2.27"
    assert mail.to == [owner.email]
    assert Invoice.objects.get().public_id in mail.text


# Orders ---------------------------------------------------------------------------------------


@pytest.fixture
def delivered(taxed, owner):
    """An order at 19.5 per cent whose charges wait for a document of their own; the rate is 7 now."""
    order = Order.objects.create(
        organization=taxed,
        placed_by=owner,
        placed_at=NOON,
        placed_on=NOON.date(),
        gateway="test",
        total=304,
        tax_rate=taxed.tax_rate,
        currency="USD",
        idempotency_key="key",
        state=Order.State.COMPLETED,
        settled_at=NOON,
    )
    rent(taxed, on=NOON.date(), numbers=2, order=order)
    taxed.tax_rate = Decimal("7")
    taxed.save()
    return order


def test_order_that_collected_nothing_is_invoiced_as_it_was_quoted(delivered):
    invoice = Invoice.objects.issue_for_order(delivered, at=NOON)
    assert (invoice.kind, invoice.net, invoice.tax, invoice.paid) == ("order", 254, 50, 0)
    assert invoice.issued_on == invoice.due_on == NOON.date()
    assert invoice.tax_rate == Decimal("19.5")
    assert Mail.objects.filter(kind="invoice_issued").count() == 1
    assert check_books(at=NOON) == []


def test_order_is_invoiced_once_and_never_by_the_run(delivered):
    Invoice.objects.issue_for_order(delivered, at=NOON)
    assert Invoice.objects.issue_for_order(delivered, at=NOON) is None
    run(DECEMBER)
    assert Invoice.objects.get(kind="monthly").net == 200


def test_money_received_before_pays_the_invoice_of_an_order(delivered, taxed):
    Payment.objects.record_transfer(
        taxed, amount=1000, received_on=NOON.date(), reference="early", by=OPERATOR, at=NOON
    )
    assert Invoice.objects.issue_for_order(delivered, at=NOON).is_paid


def test_receipt_of_another_sum_than_collected_is_refused(delivered):
    with pytest.raises(BooksDisagree, match="254 was collected for charges of 304"):
        Invoice.objects.issue_receipt(delivered, captured=254, at=NOON)
    assert not Invoice.objects.exists()
    assert Invoice.objects.issue_receipt(delivered, captured=304, at=NOON).tax == 50


def test_receipt_is_credited_with_what_was_paid_as_tax(delivered):
    receipt = Invoice.objects.issue_receipt(delivered, captured=304, at=NOON)
    fees = Charge.objects.filter(order=delivered, kind="purchase_fee")
    note = receipt.credit(fees, reason="Never worked", by=OPERATOR, at=NOON, to_refund=True)
    assert (note.order, note.net, note.tax) == (delivered, -200, -39)
    rest = Charge.objects.filter(order=delivered, kind="rental")
    rest = receipt.credit(rest, reason="Never worked", by=OPERATOR, at=NOON, to_refund=True)
    assert (rest.net, rest.tax) == (-54, -11)
    run(DECEMBER)
    assert Invoice.objects.get(kind="monthly").net == 200


# The credit limit -----------------------------------------------------------------------------


def test_credit_limit_counts_the_tax_that_is_still_to_come(taxed):
    rent(taxed, on=date(2026, 11, 23))  # 1.27, and 0.25 of tax with the next invoice
    taxed.credit_limit = 1000
    taxed.save()
    standing = Standing.objects.get()
    standing.organization = taxed
    assert standing.owed() == 127 + 25
    standing.check_purchase(1000 - 152, on=NOON.date())
    with pytest.raises(CreditLimitReached):
        standing.check_purchase(1000 - 151, on=NOON.date())


def test_what_is_owed_is_the_same_before_and_after_the_invoice(taxed):
    rent(taxed, on=DECEMBER)
    Standing.objects.get().close(DECEMBER)
    before = Standing.lock(taxed).owed()
    run(JANUARY)
    assert Standing.lock(taxed).owed() == before + 100 + 20
