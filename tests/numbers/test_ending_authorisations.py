"""An authorisation ends before every line is settled: what is delivered is collected, the rest later."""

from contextlib import suppress
from datetime import timedelta

import pytest
from django.db import connection

from chirp_dashboard.billing.gateways import GATEWAYS, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import Invoice, Payment, Standing, TestAuthorisation
from chirp_dashboard.billing.models.payments import ONE_DAY, WINDOW
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.carriers import Outcome
from chirp_dashboard.numbers.models import Hold, Order, PhoneNumber
from chirp_dashboard.numbers.models.advancing import LEASE, SILENCE
from chirp_dashboard.organizations.models import Mail

from ..crashing import crashing
from .conftest import NOON, quoted
from .test_advance_order import SlowCarrier, appoint, prepaying
from .test_interrupted_orders import KillAt, Killed

__all__ = ["prepaying"]

DUE = 127
MINUTE = timedelta(minutes=1)
COLLECT_BY = NOON + WINDOW - ONE_DAY
LATER = COLLECT_BY + timedelta(hours=20)


class FarCarrier(SlowCarrier):
    """Its numbers are not in our stock: what is ordered there leaves no row here."""

    def set_aside(self, lines):
        self.inventory.among([line.key for line in lines]).delete()

    def let_go(self, lines):
        """Nothing here was claimed."""


@pytest.fixture
def carrier(monkeypatch):
    return appoint(FarCarrier(), monkeypatch)


@pytest.fixture
def place(prepaying, owner, carrier, stock):
    """Order `count` numbers by card; the carrier has the first at once and goes on promising the others."""

    def place(*answers):
        rows = stock[: len(answers)]
        for row, answer in zip(rows, answers, strict=True):
            carrier.answers[row.number] = [answer]
        keys = [row.key for row in rows]
        Hold.objects.hold(prepaying, owner, keys, at=NOON, carrier="slow")
        return Order.objects.place(
            prepaying, person=owner, numbers=keys, at=NOON, idempotency_key="key",
            expected_total=sum(quoted(prepaying, rows, at=NOON)),
        )  # fmt: skip

    return place


@pytest.fixture
def waiting(place):
    """One line is delivered, one pending."""
    return place(Outcome.YES, Outcome.PENDING)


def advance(order, *, at):
    order = Order.objects.get(pk=order.pk)
    order.advance(at=at)
    return order


def named(*, at):
    return {broken.invariant for broken in check_books(at=at)}


def deliver_the_rest(order, carrier, *, at=LATER):
    carrier.answers.clear()
    return advance(order, at=at)


def assert_collected(amount, *, at):
    payment, known = Payment.objects.get(), TestAuthorisation.objects.get()
    assert (payment.state, payment.captured) == ("captured", amount)
    assert (known.state, known.captured) == ("captured", amount)
    receipt = Invoice.objects.get(kind="receipt")
    assert (receipt.total, receipt.paid) == (amount, amount)
    assert check_books(at=at) == []


def assert_rest_invoiced(order, amount, *, at):
    assert order.state == "completed"
    invoice = Invoice.objects.get(kind="order")
    assert (invoice.order, invoice.due, invoice.due_on) == (order, amount, at.date())
    standing = Standing.objects.get()
    assert (standing.balance, standing.unsettled) == (amount, 0)
    assert not Mail.objects.filter(kind="payment_differs").exists()
    assert check_books(at=at) == []


def test_what_is_delivered_is_collected_a_day_before_the_authorisation_ends(waiting):
    advance(waiting, at=COLLECT_BY - MINUTE)
    assert Payment.objects.get().state == "authorised"
    order = advance(waiting, at=COLLECT_BY)
    assert order.state == "ordered"
    assert_collected(DUE, at=COLLECT_BY)
    assert named(at=NOON + 2 * WINDOW).isdisjoint({"I4", "I7"})


def test_without_it_the_authorisation_would_pass_its_window(waiting, monkeypatch):
    monkeypatch.setattr(Payment, "is_ending", lambda self, *, at: False)
    late = NOON + WINDOW + MINUTE
    advance(waiting, at=late)
    assert named(at=late) == {"I7"}


def test_a_line_delivered_later_is_authorised_anew_by_its_invoice(waiting, carrier):
    advance(waiting, at=COLLECT_BY)
    order = deliver_the_rest(waiting, carrier)
    assert PhoneNumber.objects.count() == 2
    assert_collected(DUE, at=LATER)
    assert_rest_invoiced(order, DUE, at=LATER)
    assert Payment.objects.collect_due(at=LATER) == 1
    Payment.objects.advance_due(at=LATER)
    assert sum(payment.captured for payment in Payment.objects.all()) == 2 * DUE
    assert Invoice.objects.get(kind="order").is_paid
    assert Standing.objects.get().balance == 0
    assert check_books(at=LATER) == []


def test_nothing_more_is_asked_for_what_never_comes(waiting, carrier, stock):
    advance(waiting, at=COLLECT_BY)
    carrier.answers[stock[1].number] = [Outcome.NO]
    assert advance(waiting, at=LATER).state == "partly_completed"
    assert Standing.objects.get().unsettled == 0
    assert Invoice.objects.count() == 1
    assert_collected(DUE, at=LATER)


def test_an_authorisation_for_nothing_yet_is_let_go(place, carrier):
    order = place(Outcome.PENDING)
    assert advance(order, at=COLLECT_BY).state == "ordered"
    assert Payment.objects.get().state == TestAuthorisation.objects.get().state == "voided"
    assert not Invoice.objects.exists()
    assert_rest_invoiced(deliver_the_rest(order, carrier), DUE, at=LATER)


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT])
def test_what_comes_while_the_gateway_is_silent_is_not_mixed_with_it(waiting, carrier, fault):
    with TestGateway.misbehaving(capture=[fault]):
        advance(waiting, at=COLLECT_BY)
    assert Payment.objects.get().state == "authorised"
    order = deliver_the_rest(waiting, carrier)
    assert_collected(DUE, at=LATER)
    assert_rest_invoiced(order, DUE, at=LATER)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("call", ["look_up", "capture"])
def test_a_crash_around_a_call_is_harmless(waiting, carrier, call, moment):
    with crashing(GATEWAYS["test"], call, moment=moment):
        advance(waiting, at=COLLECT_BY)
    advance(waiting, at=COLLECT_BY + LEASE)
    assert_collected(DUE, at=COLLECT_BY + LEASE)
    assert_rest_invoiced(deliver_the_rest(waiting, carrier), DUE, at=LATER)


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("statement", [2, 12, 25, 40])
def test_a_kill_at_any_statement_is_harmless(waiting, carrier, statement):
    for at in (COLLECT_BY, LATER):
        with suppress(Killed), connection.execute_wrapper(KillAt(statement)):
            advance(waiting, at=at)
        advance(waiting, at=at + LEASE)
        carrier.answers.clear()
    assert_collected_and_invoiced(waiting)


def assert_collected_and_invoiced(order):
    order = advance(order, at=LATER + ONE_DAY)
    assert order.state == "completed"
    receipt, invoice = Invoice.objects.order_by("number")
    assert (receipt.kind, receipt.total, receipt.due) == ("receipt", DUE, 0)
    assert (invoice.kind, invoice.total, invoice.due) == ("order", DUE, DUE)
    assert TestAuthorisation.objects.get().captured == Payment.objects.get().captured == DUE
    assert PhoneNumber.objects.count() == 2
    assert check_books(at=LATER) == []


def test_waiting_in_silence_ends_in_time(waiting, carrier, stock):
    carrier.answers[stock[1].number] = [Outcome.UNKNOWN]
    Order.objects.update(attempts=len(SILENCE) - 1)
    order = advance(waiting, at=COLLECT_BY - 2 * MINUTE)
    assert order.next_look_at == COLLECT_BY
    order = advance(waiting, at=COLLECT_BY)
    assert_collected(DUE, at=COLLECT_BY)


def test_a_stuck_order_is_tried_once_more_while_the_authorisation_holds(place, carrier):
    order, at = place(Outcome.YES, Outcome.UNKNOWN), NOON
    for wait in SILENCE:
        at += wait
        order = advance(order, at=at)
    assert order.state == "stuck"
    assert Order.objects.advance_due(at=COLLECT_BY - MINUTE) == 0
    assert Order.objects.advance_due(at=COLLECT_BY) == 1
    assert_collected(DUE, at=COLLECT_BY)
    at = COLLECT_BY
    for wait in SILENCE:
        at += wait
        order = advance(order, at=at)
    assert order.state == "stuck"
    assert Order.objects.advance_due(at=at + MINUTE) == 0


def test_a_stuck_order_that_cannot_be_collected_is_not_tried_for_ever(place):
    order, at = place(Outcome.YES, Outcome.PENDING), COLLECT_BY
    with TestGateway.misbehaving(look_up=[Fault.TIME_OUT] * 99):
        for wait in SILENCE:
            order = advance(order, at=at)
            at += wait
        assert advance(order, at=at).state == "stuck"
        assert Order.objects.advance_due(at=at) == 0


def test_the_pages_say_what_was_collected_and_what_is_asked_for(waiting, carrier, owner_client):
    advance(waiting, at=COLLECT_BY)
    deliver_the_rest(waiting, carrier)
    page = " ".join(
        owner_client.get(f"/o/northwind/orders/{waiting.public_id}/").content.decode().split()
    )
    assert "<dt>Collected</dt><dd>$1.27</dd>" in page
    assert "<dt>Delivered later</dt><dd>$1.27, asked for by an invoice of its own</dd>" in page
    receipt, invoice = Invoice.objects.order_by("number")
    for document, collected in ((receipt, True), (invoice, False)):
        assert document.title in page
        shown = owner_client.get(f"/o/northwind/billing/invoices/{document.public_id}/")
        assert bool(shown.context["document"].payments) is collected
