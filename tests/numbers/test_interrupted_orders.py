"""A prepaid order whose process is killed at any statement: one sale, one payment, books that balance."""

import random
from datetime import timedelta

import pytest
from django.db import connection

from chirp_dashboard.billing.gateways import GATEWAYS, Answer, Outcome
from chirp_dashboard.billing.models import Invoice, Payment, Standing, TestAuthorisation
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber

from .conftest import NOON, in_stock

DUE = 127
WAITS = [timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=2)]
pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What a kill is to the database: the connection goes away and its transaction with it."""


class KillAt:
    """Kills the connection's work before statement `number`."""

    def __init__(self, number):
        self.number, self.seen = number, 0

    def __call__(self, execute, sql, parameters, many, context):
        self.seen += 1
        if self.seen == self.number:
            connection.close()
            raise Killed
        return execute(sql, parameters, many, context)


@pytest.fixture
def prepaid(organization, prices):
    organization.gateway = "test"
    organization.save()
    return organization


def place(organization, person, row, *, key):
    return Order.objects.place(
        organization,
        person=person,
        numbers=[row.key],
        expected_total=DUE,
        idempotency_key=key,
        at=NOON,
    )


def orders_killed_at(numbers, organization, person, *, after_placing=lambda order: None):
    """An order for each number, placed by a process killed at that statement and then looked after."""
    for number in numbers:
        row, killing = in_stock(f"+1212556{number:04}"), KillAt(number)
        try:
            with connection.execute_wrapper(killing):
                place(organization, person, row, key=f"key-{number}")
        except Killed:
            pass
        order = place(organization, person, row, key=f"key-{number}")  # the page is sent again
        after_placing(order)
        for wait in WAITS:
            order.refresh_from_db()
            order.advance(at=NOON + wait)
        order.refresh_from_db()
        assert order.state == "completed"
        assert PhoneNumber.objects.filter(number=row.number).count() == 1
        assert order.payments.count() == 1
        yield killing.seen >= number
    assert Standing.objects.get().unsettled == 0
    assert check_books(at=NOON) == []


def sample(count, *, size=5):
    return sorted({1, *random.Random(20261123).sample(range(1, count + 1), size)})


def assert_collected(times):
    collected = Payment.objects.filter(state="captured", captured=DUE)
    assert collected.count() == Invoice.objects.filter(kind="receipt").count() == times
    assert TestAuthorisation.objects.filter(state="captured", captured=DUE).count() == times
    assert Standing.objects.get().balance == 0


def test_an_order_killed_at_some_statements_is_collected_once(prepaid, owner):
    assert all(orders_killed_at(sample(80), prepaid, owner))
    assert_collected(len(sample(80)))


@pytest.mark.slow
def test_an_order_killed_at_every_statement_is_collected_once(prepaid, owner):
    killed = list(orders_killed_at(range(1, 140), prepaid, owner))
    assert not killed[-1]
    assert_collected(len(killed))


def refuse_to_capture(monkeypatch):
    refused = Answer(Outcome.NO, reason="Too late.", state="authorised")
    monkeypatch.setattr(GATEWAYS["test"], "capture", lambda payment, amount: refused)


def assert_invoiced(times):
    assert TestAuthorisation.objects.filter(state="voided").count() == times
    assert Invoice.objects.filter(kind="order", total=DUE, paid=0).count() == times
    assert Standing.objects.get().balance == times * DUE


def test_an_order_that_cannot_be_captured_is_invoiced_once(prepaid, owner, monkeypatch):
    refuse_to_capture(monkeypatch)
    assert all(orders_killed_at(sample(80), prepaid, owner))
    assert_invoiced(len(sample(80)))


@pytest.mark.slow
def test_an_order_that_cannot_be_captured_is_invoiced_once_wherever_it_is_killed(
    prepaid, owner, monkeypatch
):
    refuse_to_capture(monkeypatch)
    killed = list(orders_killed_at(range(1, 140), prepaid, owner))
    assert not killed[-1]
    assert_invoiced(len(killed))


def confirm(order):
    """The customer confirms as soon as there is something to confirm."""
    for wait in WAITS:
        order.refresh_from_db()
        order.advance(at=NOON + wait)
        if order.payments.filter(state="action_required"):
            GATEWAYS["test"].confirm(order.payments.get())


def test_an_order_that_waits_for_the_bank_is_collected_once(prepaid, owner, monkeypatch):
    gateway = GATEWAYS["test"]
    monkeypatch.setattr(
        gateway,
        "authorise",
        lambda payment: gateway._answer(None, lambda: gateway._remember(payment, "confirming")),
    )
    assert all(orders_killed_at(sample(40), prepaid, owner, after_placing=confirm))
    assert_collected(len(sample(40)))
