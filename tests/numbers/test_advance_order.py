"""The order machine against a gateway and a carrier that answer late, wrongly, or not at all."""

from datetime import timedelta

import pytest
from django.db import connection

from chirp_dashboard.billing.gateways import GATEWAYS, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.numbers.carriers import CARRIERS, Answer, Outcome, StockCarrier
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.numbers.models.advancing import LEASE, POLL, SILENCE
from chirp_dashboard.organizations.models import Activity, Mail
from chirp_dashboard.organizations.refusals import Refused

from ..crashing import Crash, crashing
from .conftest import NOON, quoted

DUE = 127
LATER = NOON + LEASE


class SlowCarrier(StockCarrier):
    """A carrier out there: it takes its time, and remembers what was ordered by our reference."""

    name = "slow"
    is_local = False

    def __init__(self):
        self.ordered = []
        self.answers = {}  # number → answers of look_up, in order; the last one stays
        self.crash = None

    def order(self, line):
        if self.crash == "before":
            raise Crash
        self.ordered.append(line.public_id)
        if self.crash == "after":
            raise Crash
        return Answer(Outcome.PENDING)

    def look_up(self, line):
        if line.public_id not in self.ordered:
            return Answer(Outcome.NO)
        answers = self.answers.get(line.number, [Outcome.YES])
        return Answer(answers.pop(0) if len(answers) > 1 else answers[0])


def appoint(carrier, monkeypatch):
    """Let `carrier` be the one that holds and orders call by its name."""
    monkeypatch.setitem(CARRIERS, carrier.name, carrier)
    return carrier


@pytest.fixture
def carrier(monkeypatch):
    return appoint(SlowCarrier(), monkeypatch)


@pytest.fixture
def prepaying(organization):
    organization.gateway = "test"
    organization.save()
    return organization


@pytest.fixture
def order(organization, owner):
    """Hold `rows` at `carrier` and place the order as the page does."""

    def order(*rows, carrier="stock"):
        Hold.objects.hold(organization, owner, [row.key for row in rows], at=NOON, carrier=carrier)
        return Order.objects.place(
            organization,
            person=owner,
            numbers=[row.key for row in rows],
            expected_total=sum(quoted(organization, rows, at=NOON)),
            idempotency_key="key",
            at=NOON,
        )

    return order


def settle(order, *, at=LATER):
    order = Order.objects.get(pk=order.pk)
    order.advance(at=at)
    return order


def assert_sold_once(rows=1):
    assert PhoneNumber.objects.count() == rows
    assert Charge.objects.filter(kind="purchase_fee").count() == rows
    assert Standing.objects.get().unsettled == 0


def assert_collected_once(amount):
    known = TestAuthorisation.objects.get()
    assert (known.state, known.captured) == ("captured", amount)
    payment = Payment.objects.get()
    assert (payment.state, payment.captured) == ("captured", amount)
    assert Standing.objects.get().balance == 0
    receipt = Invoice.objects.get()
    assert (receipt.kind, receipt.total, receipt.paid) == ("receipt", amount, amount)


def test_prepaid_order_is_authorised_delivered_and_captured(prepaying, stock, order):
    placed = order(stock[0], stock[1])
    assert placed.state == "completed"
    assert_sold_once(2)
    assert_collected_once(2 * DUE)
    states = Activity.objects.filter(verb="order").order_by("id")
    assert [row.after["state"] for row in states] == [
        "placed", "authorised", "ordered", "completed",
    ]  # fmt: skip


def test_declined_payment_frees_the_numbers_and_writes_no_charge(prepaying, stock, order):
    with TestGateway.misbehaving(authorise=[Fault.DECLINE]):
        placed = order(stock[0])
    assert (placed.state, placed.reason) == ("declined", "The card was declined.")
    assert InventoryNumber.objects.get(number=stock[0].number).status == "for_sale"
    assert not Charge.objects.exists()
    assert Standing.objects.get().unsettled == 0


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT])
@pytest.mark.parametrize("call", ["authorise", "capture"])
def test_lost_answer_has_exactly_one_effect(prepaying, stock, order, call, fault):
    with TestGateway.misbehaving(**{call: [fault]}):
        placed = order(stock[0])
    settled = settle(placed, at=NOON + timedelta(hours=1))
    assert settled.state == "completed"
    assert_sold_once()
    assert_collected_once(DUE)


@pytest.mark.parametrize("times", [1, 2])
def test_answer_lost_several_times_running(prepaying, stock, order, times):
    faults = {"authorise": [Fault.ANSWER_LOST], "look_up": [Fault.TIME_OUT] * times}
    with TestGateway.misbehaving(**faults):
        placed = order(stock[0])
        at = NOON
        for _ in range(times + 1):
            at += timedelta(days=1, minutes=1)
            placed = settle(placed, at=at)
    assert placed.state == "completed"
    assert_sold_once()
    assert_collected_once(DUE)


def test_silent_gateway_ends_in_the_operators_queue(prepaying, stock, order):
    with TestGateway.misbehaving(authorise=[Fault.TIME_OUT], look_up=[Fault.TIME_OUT] * 9):
        placed = order(stock[0])
        at = NOON
        for wait in SILENCE:
            assert settle(placed, at=at + wait - timedelta(seconds=1)).state == "placed"
            at += wait
            placed = settle(placed, at=at)
    assert placed.state == "stuck"
    assert placed.next_look_at is None
    mail = Mail.objects.get(kind="order_stuck")
    assert mail.organization is None
    assert placed.public_id in mail.subject
    assert not Charge.objects.exists()


def test_operator_has_a_stuck_order_looked_at_again(prepaying, stock, order, operator):
    with TestGateway.misbehaving(authorise=[Fault.ANSWER_LOST], look_up=[Fault.TIME_OUT] * 3):
        placed = order(stock[0])
        at = NOON
        for wait in SILENCE:
            at += wait
            placed = settle(placed, at=at)
    assert placed.state == "stuck"
    placed.resume(by=operator, at=at)
    placed.advance(at=at)
    assert placed.state == "completed"
    assert_sold_once()
    assert_collected_once(DUE)
    with pytest.raises(Refused, match="not waiting"):
        placed.resume(by=operator, at=at)


@pytest.mark.parametrize("call", ["authorise", "capture", "look_up"])
@pytest.mark.parametrize("moment", ["before", "after"])
def test_crash_around_a_call_to_the_gateway_is_recovered(prepaying, stock, order, call, moment):
    with crashing(GATEWAYS["test"], call, moment=moment):
        order(stock[0])
    placed = Order.objects.get()
    assert placed.is_open, "the intent was committed before the call"
    assert settle(placed, at=NOON + timedelta(seconds=59)).is_open, "the lease has not run out"
    assert settle(placed).state == "completed"
    assert_sold_once()
    assert_collected_once(DUE)


def test_the_sweep_advances_what_a_killed_process_left(prepaying, stock, order):
    with crashing(GATEWAYS["test"], "authorise"):
        order(stock[0])
    assert Order.objects.advance_due(at=NOON) == 0
    assert Order.objects.advance_due(at=LATER) == 1
    assert Order.objects.get().state == "completed"


def test_order_is_advanced_by_one_process_at_a_time(prepaying, stock, order, monkeypatch):
    gateway, calls = GATEWAYS["test"], []
    authorise = gateway.authorise

    def meanwhile(payment):
        calls.append(payment)
        Order.objects.get().advance(at=NOON)  # another worker, while we wait for the answer
        return authorise(payment)

    monkeypatch.setattr(gateway, "authorise", meanwhile)
    assert order(stock[0]).state == "completed"
    assert len(calls) == 1


@pytest.mark.parametrize("call", ["authorise", "capture", "look_up"])
def test_gateway_that_answers_after_the_lease_changes_nothing(
    prepaying, stock, order, monkeypatch, call
):
    gateway, calls = GATEWAYS["test"], []
    answer = getattr(gateway, call)

    def late(*args):
        answered = answer(*args)
        calls.append(call)
        if len(calls) == 1:
            Order.objects.get().advance(at=LATER)
        return answered

    monkeypatch.setattr(gateway, call, late)
    assert order(stock[0]).state == "completed"
    assert_sold_once()
    assert_collected_once(DUE)
    assert Activity.objects.filter(verb="order").count() == 4


@pytest.mark.parametrize("call", ["order", "look_up"])
def test_carrier_that_answers_after_the_lease_changes_nothing(
    prepaying, carrier, stock, order, monkeypatch, call
):
    calls, answer = [], getattr(carrier, call)

    def late(line):
        answered = answer(line)
        calls.append(line)
        if len(calls) == 1:
            Order.objects.get().advance(at=LATER)
            Order.objects.get().advance(at=LATER + LEASE)
        return answered

    monkeypatch.setattr(carrier, call, late)
    assert order(stock[0], stock[1], carrier="slow").state == "completed"
    assert sorted(carrier.ordered) == sorted(set(carrier.ordered)), "each line was ordered once"
    assert_sold_once(2)
    assert_collected_once(2 * DUE)


def test_delivered_order_whose_authorisation_lapsed_is_invoiced(prepaying, stock, order):
    with TestGateway.misbehaving(capture=[Fault.TIME_OUT]):
        placed = order(stock[0])
    TestAuthorisation.objects.update(state="voided")
    placed = settle(placed, at=NOON + timedelta(days=1))
    assert placed.state == "completed"
    assert Payment.objects.get().state == "voided"
    invoice = Invoice.objects.get()
    assert (invoice.kind, invoice.order, invoice.due) == ("order", placed, DUE)
    assert Standing.objects.get().balance == DUE


def test_pending_line_is_delivered_when_the_carrier_has_it(carrier, stock, order):
    carrier.answers[stock[0].number] = [Outcome.PENDING, Outcome.YES]
    placed = order(stock[0], carrier="slow")
    assert placed.state == "ordered"
    assert Standing.objects.get().unsettled == DUE
    assert settle(placed).state == "completed"
    assert_sold_once()
    assert len(carrier.ordered) == 1


def test_late_line_does_not_hide_the_others(carrier, stock, order):
    carrier.answers[stock[1].number] = [Outcome.PENDING]
    placed = order(stock[0], stock[1], carrier="slow")
    assert placed.state == "ordered"
    assert PhoneNumber.objects.get().number == stock[0].number
    assert Standing.objects.get().balance == DUE


def test_only_delivered_lines_are_collected(prepaying, carrier, stock, order):
    carrier.answers[stock[1].number] = [Outcome.NO]
    placed = order(stock[0], stock[1], carrier="slow")
    assert placed.state == "partly_completed"
    assert_sold_once()
    assert_collected_once(DUE)
    lost = placed.lines.get(number=stock[1].number)
    assert lost.state == "unavailable"


def test_order_of_which_nothing_came_is_voided(prepaying, carrier, stock, order):
    carrier.answers[stock[0].number] = [Outcome.NO]
    assert order(stock[0], carrier="slow").state == "failed"
    assert TestAuthorisation.objects.get().state == "voided"
    assert Payment.objects.get().state == "voided"
    assert not Charge.objects.exists()


@pytest.mark.parametrize("moment", ["before", "after"])
def test_crash_around_an_order_at_the_carrier_orders_once(carrier, stock, order, moment):
    carrier.crash = moment
    with pytest.raises(Crash):
        order(stock[0], carrier="slow")
    carrier.crash = None
    settle(Order.objects.get())  # the first look: did it ever arrive?
    assert settle(Order.objects.get(), at=LATER + POLL).state == "completed"
    assert len(carrier.ordered) == 1
    assert_sold_once()


def test_late_delivery_costs_what_was_quoted_and_owes_what_began(carrier, stock, order):
    """Placed on 23 November, delivered on 2 December: both periods are owed, the fee once."""
    carrier.answers[stock[0].number] = [Outcome.PENDING, Outcome.YES]
    placed = order(stock[0], carrier="slow")
    settle(placed, at=NOON + timedelta(days=9))
    rentals = Charge.objects.filter(kind="rental").order_by("period_start")
    assert [(str(c.period_start), c.amount) for c in rentals] == [
        ("2026-11-23", 27),
        ("2026-12-01", 100),
    ]


@pytest.mark.django_db(transaction=True)
def test_no_call_is_made_inside_a_transaction(prepaying, carrier, stock, order, monkeypatch):
    inside = []

    def watched(place, name):
        call = getattr(place, name)

        def watch(*args):
            inside.append((name, connection.in_atomic_block))
            return call(*args)

        monkeypatch.setattr(place, name, watch)

    for name in ("authorise", "capture", "look_up"):
        watched(GATEWAYS["test"], name)
    for name in ("order", "look_up"):
        watched(carrier, name)
    assert order(stock[0], carrier="slow").state == "completed"
    assert {name for name, _ in inside} == {"authorise", "capture", "look_up", "order"}
    assert not any(atomic for _, atomic in inside)
