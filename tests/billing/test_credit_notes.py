"""Credit notes: what they take back, in which order, and what is refused."""

from datetime import UTC, date, datetime
from decimal import Decimal

import pytest
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chirp_dashboard.billing.models import (
    Charge,
    Entry,
    Invoice,
    InvoiceSequence,
    Payment,
    Posting,
    Standing,
)
from chirp_dashboard.billing.models.books import CreditRefused
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Activity, Mail, Organization

from ..numbers import test_at_once as at_once
from .conftest import DECEMBER, JANUARY, NOON, OPERATOR, noon, rent, run

LATER = noon(date(2026, 12, 5))


@pytest.fixture
def invoice(organization):
    """Two numbers: fees 100, first periods 27, December 100, each; at 19.5 per cent."""
    Organization.objects.filter(pk=organization.pk).update(tax_rate=Decimal("19.5"))
    organization.refresh_from_db()
    return invoiced(organization)


def invoiced(organization, **terms):
    rent(organization, on=date(2026, 11, 23), **{"numbers": 2} | terms)
    run(DECEMBER)
    return organization.invoices.get(billing_date=DECEMBER)


def charges_of(invoice, **which):
    return list(Charge.objects.filter(invoice_line__invoice=invoice, **which).order_by("pk"))


def credit(invoice, charges, *, reason="Never worked", at=LATER, **how):
    return invoice.credit(charges, reason=reason, by=OPERATOR, at=at, **how)


def pay(organization, amount, reference="transfer"):
    return Payment.objects.record_transfer(
        organization,
        amount=amount,
        received_on=date(2026, 12, 2),
        reference=reference,
        by=OPERATOR,
        at=LATER,
    )


def everything():
    """How many rows there are of all that a credit writes, and what the standing says."""
    return (
        Charge.objects.count(),
        Entry.objects.count(),
        Posting.objects.count(),
        Invoice.objects.count(),
        Activity.objects.count(),
        Mail.objects.count(),
        list(InvoiceSequence.objects.values_list("last_number")),
        list(Standing.objects.values_list("balance", "closed_through")),
    )


# What it writes -------------------------------------------------------------------------------


def test_credit_note_takes_back_charges_and_their_tax(invoice):
    fee, other = charges_of(invoice, kind="purchase_fee")
    note = credit(invoice, [fee, other])
    assert (note.kind, note.corrects, note.number) == ("credit_note", invoice, 2)
    assert (note.net, note.tax, note.total) == (-200, -39, -239)
    assert (note.tax_rate, note.line_count) == (invoice.tax_rate, 2)
    assert note.sums == [{"type": "local", "kind": "credit", "count": 2, "amount": -200}]
    credits = charges_of(note)
    assert [line.corrects for line in credits] == [fee, other]
    assert {line.description for line in credits} == {"Never worked"}
    assert check_books(at=LATER) == []


def test_credit_note_lowers_what_is_owed(invoice):
    before = Standing.objects.get().balance
    note = credit(invoice, charges_of(invoice, kind="purchase_fee"))
    assert Standing.objects.get().balance == before + note.total
    taxes = Posting.objects.filter(account="tax").order_by("pk").values_list("amount", flat=True)
    assert list(taxes) == [-invoice.tax, 39]


def test_part_of_a_charge_can_be_credited(invoice):
    fee = charges_of(invoice, kind="purchase_fee")[0]
    assert credit(invoice, {fee: 30}).net == -30
    assert credit(invoice, [fee]).net == -70
    assert check_books(at=LATER) == []


def test_tax_is_given_back_at_the_rate_of_the_corrected_invoice(invoice, organization):
    Organization.objects.update(tax_rate=7)
    note = credit(invoice, charges_of(invoice))
    assert (note.tax_rate, note.tax) == (invoice.tax_rate, -invoice.tax)


def test_credits_of_a_note_join_no_other_invoice(invoice):
    note = credit(invoice, charges_of(invoice, kind="purchase_fee"))
    run(JANUARY)
    january = Invoice.objects.get(billing_date=JANUARY)
    assert january.net == 200
    assert set(charges_of(note)).isdisjoint(charges_of(january))
    assert check_books(at=noon(JANUARY)) == []


def test_each_number_shows_its_credit_and_the_mail_is_written(invoice, owner):
    fee = charges_of(invoice, kind="purchase_fee")[0]
    note = credit(invoice, [fee])
    noted = Activity.objects.get(verb="credited")
    assert noted.subject == fee.phone_number.public_id
    assert noted.after == {"amount": -100, "currency": "USD", "reason": "Never worked"}
    mail = Mail.objects.get(kind="credit_note")
    assert mail.subject == "Credit note 000002: −$1.20"
    assert note.public_id in mail.text
    assert "000001" in mail.text
    assert "Never worked" in mail.text


@st.composite
def credited_in_parts(draw):
    """A rate, the sums of some charges, and how each is credited bit by bit."""
    rate = draw(st.integers(0, 100_000).map(lambda thousandths: Decimal(thousandths).scaleb(-3)))
    amounts = draw(st.lists(st.integers(1, 5_000), min_size=1, max_size=3))
    steps = draw(st.lists(st.tuples(st.integers(0, 2), st.integers(1, 3_000)), max_size=4))
    return rate, amounts, steps


@settings(
    max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(case=credited_in_parts())
def test_all_parts_together_give_back_exactly_the_tax(organization, case):
    rate, amounts, steps = case
    with transaction.atomic():
        Organization.objects.update(tax_rate=rate)
        for amount in amounts:
            rent(organization, on=date(2026, 12, 1), fee=0, amount=amount)
        run(JANUARY)
        invoice = Invoice.objects.get()
        fees = charges_of(invoice, kind="rental")
        for place, amount in steps:
            charge = fees[place % len(fees)]
            if part := min(
                amount, Charge.objects.left_of([charge])[charge], invoice.left_to_credit
            ):
                note = credit(invoice, {charge: part}, at=noon(JANUARY))
                assert note.tax <= 0
        if invoice.left_to_credit:
            credit(invoice, fees, at=noon(JANUARY))
        notes = invoice.credit_notes.all()
        assert -sum(note.tax for note in notes) == invoice.tax == tax_on(invoice.net, rate)
        assert -sum(note.total for note in notes) == invoice.total
        assert Standing.objects.get().balance == 0
        transaction.set_rollback(True)


# Its money ------------------------------------------------------------------------------------


def test_money_of_a_note_pays_the_corrected_invoice_first(invoice, organization):
    run(JANUARY)
    january = Invoice.objects.get(billing_date=JANUARY)
    note = credit(january, charges_of(january)[:1], at=noon(JANUARY))
    invoice.refresh_from_db()
    january.refresh_from_db()
    assert (invoice.paid, january.paid, note.paid) == (0, 120, -120)
    assert check_books(at=noon(JANUARY)) == []


def test_money_of_a_note_on_a_paid_invoice_pays_the_others(invoice, organization):
    pay(organization, invoice.total)
    run(JANUARY)
    january = Invoice.objects.get(billing_date=JANUARY)
    credit(invoice, charges_of(invoice, kind="purchase_fee"), at=noon(JANUARY))
    january.refresh_from_db()
    assert january.is_paid
    assert Invoice.objects.unused_money(organization) == 0
    assert check_books(at=noon(JANUARY)) == []


def test_money_that_nothing_asks_for_stays_as_credit(invoice, organization):
    pay(organization, invoice.total)
    note = credit(invoice, charges_of(invoice))
    assert Invoice.objects.unused_money(organization) == -note.total == invoice.total
    run(JANUARY)
    january = Invoice.objects.get(billing_date=JANUARY)
    assert january.is_paid
    assert Standing.objects.get().balance == january.total - invoice.total


def test_money_that_is_given_back_pays_no_other_invoice(invoice, organization):
    pay(organization, invoice.total)
    run(JANUARY)
    note = credit(invoice, charges_of(invoice), at=noon(JANUARY), to_refund=True)
    assert Invoice.objects.unused_money(organization) == -note.total
    assert Invoice.objects.get(billing_date=JANUARY, kind="monthly").paid == 0


# What is refused ------------------------------------------------------------------------------


def refused(invoice, charges, match, **how):
    before = everything()
    with pytest.raises(CreditRefused, match=match):
        credit(invoice, charges, **how)
    assert everything() == before


def test_more_than_is_left_is_refused(invoice):
    fee = charges_of(invoice, kind="purchase_fee")[0]
    credit(invoice, {fee: 70})
    refused(invoice, {fee: 31}, r"\$0.30 of the charge can still be credited")
    credit(invoice, {fee: 30})
    refused(invoice, [fee], "Nothing of it is left to credit")


def test_what_was_credited_on_a_later_invoice_is_not_credited_again(invoice, organization):
    fee = charges_of(invoice, kind="purchase_fee")[0]
    Charge.objects.issue_credit(
        organization, amount=60, reason="Sorry", by=OPERATOR, at=LATER, corrects=fee
    )
    refused(invoice, {fee: 41}, r"\$0.40 of the charge")
    assert credit(invoice, [fee]).net == -40


def test_more_than_the_invoice_asked_for_is_refused(organization):
    Charge.objects.issue_credit(organization, amount=50, reason="Gift", by=OPERATOR, at=NOON)
    invoice = invoiced(organization, numbers=1)
    assert (invoice.net, invoice.left_to_credit) == (177, 177)
    charged = charges_of(invoice, amount__gt=0)
    refused(invoice, charged, r"\$1.77 of Invoice 000001 can still be credited")


@pytest.mark.parametrize("reason", ["", "  \n", "x" * 201])
def test_credit_needs_a_reason_that_fits(invoice, reason):
    refused(invoice, charges_of(invoice), "reason|why", reason=reason)


@pytest.mark.parametrize("amount", [0, -1])
def test_credit_of_nothing_is_refused(invoice, amount):
    refused(invoice, {charges_of(invoice)[0]: amount}, "more than zero")
    refused(invoice, [], "Nothing of it")


def test_charge_of_another_organization_is_refused(invoice, rival):
    theirs = invoiced(rival)
    refused(invoice, charges_of(theirs), "has to stand on Invoice 000001")


def test_charge_of_another_invoice_is_refused(invoice):
    run(JANUARY)
    january = Invoice.objects.get(billing_date=JANUARY)
    refused(invoice, charges_of(january)[:1] + charges_of(invoice)[:1], "has to stand on")


def test_credit_note_is_not_credited_itself(invoice):
    note = credit(invoice, charges_of(invoice)[:1])
    refused(note, charges_of(note), "not credited itself")


def test_credit_on_an_invoice_is_not_credited(organization):
    given = Charge.objects.issue_credit(
        organization, amount=50, reason="Gift", by=OPERATOR, at=NOON
    )
    invoice = invoiced(organization, numbers=1)
    refused(invoice, [given], "Nothing of it is left")
    refused(invoice, {given: 1}, "can still be credited")


# Credits that join the next invoice -----------------------------------------------------------


def refused_credit(organization, match, **how):
    before = everything()
    given = {"amount": 10, "reason": "Sorry", "by": OPERATOR, "at": LATER} | how
    with pytest.raises(CreditRefused, match=match):
        Charge.objects.issue_credit(organization, **given)
    assert everything() == before


def test_credit_in_another_currency_is_refused(invoice, organization):
    refused_credit(organization, "Northwind is billed in USD, not EUR", currency="EUR")


def test_credit_dated_into_a_closed_billing_day_is_refused(invoice, organization):
    refused_credit(organization, "Everything before 1 Dec 2026", on=date(2026, 11, 30))
    refused_credit(organization, "in the future", on=date(2026, 12, 6))
    given = Charge.objects.issue_credit(
        organization, amount=10, reason="Sorry", by=OPERATOR, at=LATER, on=DECEMBER
    )
    run(JANUARY)
    assert given.invoice_line.invoice.billing_date == JANUARY
    assert check_books(at=noon(JANUARY)) == []


def test_credit_never_falls_into_a_closed_billing_day_by_itself(invoice, organization):
    early = datetime(2026, 11, 30, 12, tzinfo=UTC)  # a clock that is slow
    given = Charge.objects.issue_credit(
        organization, amount=10, reason="Sorry", by=OPERATOR, at=early
    )
    assert given.on == DECEMBER


# At once --------------------------------------------------------------------------------------


class Meanwhile(at_once.Meanwhile):
    """As there, but a refusal is an answer."""

    def ends(self):
        self.thread.join(at_once.DEADLINE)
        assert not self.thread.is_alive()
        return self.failure


@pytest.fixture(params=["locked", "unlocked"])
def is_locked(request, monkeypatch):
    """With the lock on the standing, and, as the control that must go wrong, without it."""
    if request.param == "unlocked":

        def read(cls, organization):
            return cls.objects.get_or_create(organization=organization)[0]

        monkeypatch.setattr(Standing, "lock", classmethod(read))
    return request.param == "locked"


@pytest.mark.django_db(transaction=True)
def test_a_charge_is_credited_once_by_two_at_once(invoice, is_locked):
    fee = charges_of(invoice, kind="purchase_fee")[0]
    with transaction.atomic():
        credit(invoice, [fee])
        second = Meanwhile(lambda: credit(Invoice.objects.get(pk=invoice.pk), [fee]))
        assert second.waits()
    refusal = second.ends()
    assert isinstance(refusal, CreditRefused) == is_locked
    assert Charge.objects.filter(corrects=fee).count() == (1 if is_locked else 2)


@pytest.mark.django_db(transaction=True)
def test_credit_beside_a_run_is_not_dated_into_what_the_run_closes(organization, is_locked):
    rent(organization, on=date(2026, 11, 23))
    before = datetime(2026, 12, 1, 4, 59, tzinfo=UTC)  # a minute to midnight in New York
    with transaction.atomic():
        run(DECEMBER)
        crediting = Meanwhile(
            lambda: Charge.objects.issue_credit(
                organization, amount=10, reason="Sorry", by=OPERATOR, at=before
            )
        )
        assert crediting.waits()
    assert crediting.ends() is None
    given = Charge.objects.get(kind="credit")
    assert (given.on == DECEMBER) == is_locked
    lost = [broken for broken in check_books(at=LATER) if "is on an invoice" in broken.rule]
    assert bool(lost) != is_locked


@pytest.mark.django_db(transaction=True)
def test_note_beside_a_run_leaves_the_books_balanced(invoice):
    with transaction.atomic():
        run(JANUARY)
        crediting = Meanwhile(lambda: credit(invoice, charges_of(invoice), at=noon(JANUARY)))
        assert crediting.waits()
    assert crediting.ends() is None
    numbers = list(Invoice.objects.order_by("number").values_list("number", "kind"))
    assert numbers == [(1, "monthly"), (2, "monthly"), (3, "credit_note")]
    assert check_books(at=noon(JANUARY)) == []
