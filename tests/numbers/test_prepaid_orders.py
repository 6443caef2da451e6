"""Orders that a payment of their own collects: what was delivered is captured, and has a receipt."""

from datetime import date, timedelta

import pytest

from chirp_dashboard.billing.gateways import TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    Rental,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber

from .conftest import NOON

DUE = 127


@pytest.fixture
def prepaid(organization):
    organization.gateway = "test"
    organization.save()
    return organization


def place(organization, owner, *rows):
    return Order.objects.place(
        organization,
        person=owner,
        numbers=[row.key for row in rows],
        expected_total=DUE * len(rows),
        idempotency_key="key",
        at=NOON,
    )


def test_delivered_numbers_are_collected_with_a_receipt(prepaid, owner, stock):
    order = place(prepaid, owner, stock[0], stock[1])
    assert order.state == Order.State.COMPLETED
    payment, receipt = Payment.objects.get(), Invoice.objects.get()
    assert (payment.state, payment.captured) == (Payment.State.CAPTURED, 2 * DUE)
    assert (receipt.kind, receipt.total, receipt.paid) == ("receipt", 2 * DUE, 2 * DUE)
    assert (receipt.order, receipt.line_count) == (order, 4)
    assert Standing.objects.get().balance == 0
    assert check_books(at=NOON) == []


def test_paid_charges_are_never_due_again(prepaid, owner, stock):
    place(prepaid, owner, stock[0])
    december = date(2026, 12, 1)
    Rental.objects.charge_due(on=december, at=NOON + timedelta(days=8))
    monthly = Invoice.objects.get(kind="monthly")
    assert (monthly.total, monthly.line_count, monthly.paid) == (100, 1, 0)
    assert monthly.due_on == monthly.issued_on
    assert check_books(at=NOON + timedelta(days=8)) == []


def test_declined_order_delivers_and_costs_nothing(prepaid, owner, stock):
    with TestGateway.misbehaving(authorise=[Fault.DECLINE]):
        order = place(prepaid, owner, stock[0])
    assert order.state == Order.State.DECLINED
    assert not PhoneNumber.objects.exists()
    assert not Charge.objects.exists()
    assert Payment.objects.get().state == Payment.State.DECLINED
    assert check_books(at=NOON) == []


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT])
@pytest.mark.parametrize("call", ["authorise", "capture"])
@pytest.mark.parametrize("times", [1, 2])
def test_lost_answers_have_exactly_one_effect(prepaid, owner, stock, call, fault, times):
    with TestGateway.misbehaving(**{call: [fault] * times}):
        order = place(prepaid, owner, stock[0])
        at = NOON
        while order.is_open:
            at += timedelta(hours=2)
            order.advance(at=at)
    assert order.state == Order.State.COMPLETED
    assert TestAuthorisation.objects.get().captured == DUE
    assert Payment.objects.get().captured == DUE
    assert Invoice.objects.get().total == DUE
    assert check_books(at=at) == []


def test_collected_sum_that_differs_gets_no_receipt_but_is_booked(prepaid, owner, stock, caplog):
    order = place(prepaid, owner, stock[0])
    payment = Payment.objects.create(
        organization=prepaid, order=order, gateway="test", reference="again", amount=50,
        currency="USD",
    )  # fmt: skip
    payment.collect(50, at=NOON)
    assert Standing.objects.get().balance == -50
    assert Invoice.objects.count() == 1
    assert f"No receipt for {payment}" in caplog.text
