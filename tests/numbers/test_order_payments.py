"""Orders paid by card whose money takes a detour: confirmed late, too small, not collected after all."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS, Answer, Outcome, TestGateway
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
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.numbers.models.advancing import CONFIRM_WITHIN, LEASE
from chirp_dashboard.numbers.models.orders import CardNeeded
from chirp_dashboard.organizations.models import Mail

from .conftest import NOON, quoted

DUE = 127
MINUTE = timedelta(minutes=1)


@pytest.fixture
def prepaid(organization):
    organization.gateway = "test"
    organization.daily_spend_cap = 3 * DUE
    organization.save()
    return organization


@pytest.fixture
def place(prepaid, owner, stock):
    placed = []

    def place(*rows, at=NOON):
        placed.append(rows)
        return Order.objects.place(
            prepaid,
            person=owner,
            numbers=[row.key for row in rows],
            expected_total=total_of(prepaid, rows),
            idempotency_key=f"key-{len(placed)}",
            at=at,
        )

    return place


def total_of(organization, rows):
    net = sum(quoted(organization, rows, at=NOON))
    return Order(tax_rate=organization.tax_rate).with_tax(net)


def again(order, *, at):
    order = Order.objects.get(pk=order.pk)
    order.advance(at=at)
    return order


def assert_books(order, *, at):
    assert Standing.objects.get().unsettled == 0
    assert check_books(at=at) == []


# The customer's bank asks ------------------------------------------------------------------------


@pytest.fixture
def asked(place, stock):
    """An order whose payment waits for the customer."""
    with TestGateway.misbehaving(authorise=[Fault.ACTION]):
        return place(stock[0])


def test_an_order_waits_for_the_customer_to_confirm(asked, owner):
    payment = Payment.objects.get()
    assert (asked.state, payment.state) == ("placed", "action_required")
    assert not PhoneNumber.objects.exists()
    assert InventoryNumber.objects.get(number=asked.lines.get().number).status == "claimed"
    mail = Mail.objects.get(kind="payment_action")
    assert mail.to == [owner.email]
    assert f"/payments/{payment.public_id}/" in mail.text


def test_a_confirmed_order_is_delivered_and_collected(asked):
    GATEWAYS["test"].confirm(Payment.objects.get())
    order = again(asked, at=NOON + MINUTE)
    assert order.state == "completed"
    assert Payment.objects.get().captured == DUE
    assert Invoice.objects.get().kind == "receipt"
    assert_books(order, at=NOON)


def test_an_order_is_asked_about_once_however_often_it_is_looked_at(asked):
    for minutes in range(1, 30):
        again(asked, at=NOON + minutes * MINUTE)
    assert Mail.objects.filter(kind="payment_action").count() == 1
    assert Order.objects.get().state == "placed"


def test_coming_back_from_the_bank_wakes_the_order(asked):
    payment = Payment.objects.get()
    GATEWAYS["test"].confirm(payment)
    payment.look_again(at=NOON + timedelta(seconds=5))
    assert payment.state == "captured"
    assert Order.objects.get().state == "completed"


def test_an_order_nobody_confirms_is_declined_after_an_hour(asked, stock):
    assert again(asked, at=NOON + CONFIRM_WITHIN - MINUTE).state == "placed"
    order = again(asked, at=NOON + CONFIRM_WITHIN)
    assert (order.state, order.reason) == (
        "declined",
        "The payment was not confirmed within 60 minutes.",
    )
    assert TestAuthorisation.objects.get().state == "voided"
    assert Payment.objects.get().state == "declined"
    assert InventoryNumber.objects.get(number=stock[0].number).status == "for_sale"
    assert not Charge.objects.exists()
    mail = Mail.objects.get(kind="payment_failed")
    assert mail.to == [order.placed_by.email]
    assert "nothing was purchased" in mail.text
    assert_books(order, at=NOON + CONFIRM_WITHIN)


def test_a_confirmation_in_the_last_second_buys_the_numbers(asked, monkeypatch):
    gateway = GATEWAYS["test"]

    def too_late(payment):
        gateway.confirm(payment)
        return Answer(Outcome.NO, state="authorised")

    monkeypatch.setattr(gateway, "void", too_late)
    order = again(asked, at=NOON + CONFIRM_WITHIN)
    assert order.state == "completed"
    assert Payment.objects.get().captured == DUE


def test_a_gateway_silent_about_the_confirmation_settles_nothing(asked):
    with TestGateway.misbehaving(look_up=[None, Fault.TIME_OUT], void=[Fault.TIME_OUT]):
        order = again(asked, at=NOON + CONFIRM_WITHIN)
        assert order.state == "placed"
        order = again(asked, at=NOON + CONFIRM_WITHIN + timedelta(minutes=5))
        assert order.state == "placed"
    order = again(asked, at=NOON + CONFIRM_WITHIN + timedelta(hours=2))
    assert order.state == "declined"


def test_the_order_page_shows_where_to_confirm(asked, owner_client, viewer_client):
    address = f"/o/northwind/orders/{asked.public_id}/"
    page = owner_client.get(address).content.decode()
    assert "Your bank asks you to confirm this payment" in page
    assert f'href="{Payment.objects.get().action_url}"' in page
    page = viewer_client.get(address).content.decode()
    assert "Your bank asks you to confirm this payment" in page
    assert "gateway.example" not in page


def test_money_taken_for_an_order_that_was_given_up_is_booked(asked):
    again(asked, at=NOON + CONFIRM_WITHIN)
    TestAuthorisation.objects.update(state="captured", captured=DUE)
    payment = Payment.objects.get()
    payment.look_again(at=NOON + timedelta(hours=3))
    assert (payment.state, payment.captured) == ("captured", DUE)
    assert Standing.objects.get().balance == -DUE
    assert Mail.objects.filter(kind="payment_differs").exists()
    assert check_books(at=NOON + timedelta(hours=3)) == []


# Declined ----------------------------------------------------------------------------------------


def test_a_declined_order_does_not_count_against_the_days_cap(place, stock):
    with TestGateway.misbehaving(authorise=[Fault.DECLINE] * 4):
        for _ in range(4):
            assert place(stock[0]).state == "declined"
    assert Standing.objects.get().spent == 0
    assert place(*stock[:3]).state == "completed"
    assert Standing.objects.get().spent == 3 * DUE


def test_a_decline_of_yesterday_gives_nothing_back_to_today(asked):
    tomorrow = NOON + timedelta(days=1)
    Standing.objects.update(spent=DUE, spent_on=tomorrow.date())
    again(asked, at=tomorrow)
    assert Order.objects.get().state == "declined"
    assert Standing.objects.get().spent == DUE


def test_an_authorisation_cancelled_at_the_gateway_declines_the_order(place, stock):
    with TestGateway.misbehaving(authorise=[Fault.ANSWER_LOST]):
        order = place(stock[0])
    TestAuthorisation.objects.update(state="voided")
    order = again(order, at=NOON + timedelta(minutes=5))
    assert (order.state, order.reason) == ("declined", "The payment was cancelled.")
    assert_books(order, at=NOON)


def test_what_never_arrived_is_authorised_anew_with_another_key(place, stock):
    with TestGateway.misbehaving(authorise=[Fault.TIME_OUT]):
        order = place(stock[0])
    assert Payment.objects.get().tries == 0
    order = again(order, at=NOON + timedelta(minutes=5))
    assert order.state == "completed"
    assert Payment.objects.get().tries == 1
    assert_books(order, at=NOON)


# Too small ---------------------------------------------------------------------------------------


@pytest.fixture
def at_least(monkeypatch):
    def at_least(minimum):
        monkeypatch.setattr(TestGateway, "minimum", lambda self, currency: minimum)

    return at_least


def test_an_order_below_the_minimum_joins_the_next_invoice(place, stock, at_least):
    at_least(DUE + 1)
    order = place(stock[0])
    assert order.state == "completed"
    assert not Payment.objects.exists()
    assert not order.is_prepaid
    at_least(0)
    assert not Order.objects.get().is_prepaid, "it stays as it was decided when it was placed"
    Rental.objects.charge_due(on=NOON.date() + timedelta(days=8), at=NOON + timedelta(days=8))
    assert Invoice.objects.get().total == DUE + 100
    assert check_books(at=NOON + timedelta(days=8)) == []


def test_the_quote_says_how_a_small_order_is_paid(place, stock, owner, owner_client, at_least):
    Hold.objects.hold(
        owner.memberships.get().organization, owner, [stock[0].key], at=timezone.now()
    )
    assert "Due now" in owner_client.get("/o/northwind/numbers/purchase/quote/").content.decode()
    at_least(10_000)
    page = owner_client.get("/o/northwind/numbers/purchase/quote/").content.decode()
    assert "Added to your account" in page


def test_an_order_at_the_minimum_is_paid_by_card(place, stock, at_least):
    at_least(DUE)
    assert place(stock[0]).is_prepaid
    assert Payment.objects.get().captured == DUE


def test_an_order_placed_before_the_minimum_rose_is_invoiced_if_it_cannot_be_captured(
    place, stock, at_least
):
    with TestGateway.misbehaving(capture=[Fault.TIME_OUT]):
        order = place(stock[0])
    at_least(DUE + 1)
    order = again(order, at=NOON + timedelta(minutes=5))
    assert order.state == "completed"
    assert TestAuthorisation.objects.get().state == "voided"
    invoice = Invoice.objects.get()
    assert (invoice.kind, invoice.due, invoice.due_on) == ("order", DUE, order.placed_on)
    at_least(0)
    Payment.objects.collect_due(at=NOON + timedelta(hours=1))
    Payment.objects.advance_due(at=NOON + timedelta(hours=1))
    invoice.refresh_from_db()
    assert invoice.is_paid
    assert_books(order, at=NOON)


def test_a_gateway_that_refuses_to_capture_leaves_no_order_stuck(place, stock, monkeypatch):
    refused = Answer(Outcome.NO, reason="Too late.", state="authorised")
    monkeypatch.setattr(GATEWAYS["test"], "capture", lambda payment, amount: refused)
    order = place(stock[0])
    assert order.state == "completed"
    assert Payment.objects.get().state == "voided"
    assert Invoice.objects.get().due == DUE
    assert_books(order, at=NOON)


def test_an_operator_who_captured_by_hand_is_believed(place, stock):
    with TestGateway.misbehaving(capture=[Fault.TIME_OUT]):
        order = place(stock[0])
    TestAuthorisation.objects.update(state="captured", captured=100)
    order = again(order, at=NOON + timedelta(minutes=5))
    assert order.state == "completed"
    assert Payment.objects.get().captured == 100
    invoice = Invoice.objects.get()
    assert (invoice.kind, invoice.total, invoice.due) == ("order", DUE, DUE - 100)
    assert Mail.objects.filter(kind="payment_differs").exists()
    assert_books(order, at=NOON)


def test_tax_is_part_of_what_is_captured(place, stock, prepaid):
    prepaid.tax_rate = 19
    prepaid.save()
    order = place(stock[0], stock[1])
    assert order.total == 302  # 254 + 48.26
    assert Payment.objects.get().captured == 302
    receipt = Invoice.objects.get()
    assert (receipt.total, receipt.tax) == (302, 48)
    assert_books(order, at=NOON)


# No card -----------------------------------------------------------------------------------------


def test_without_a_card_nothing_is_ordered(place, stock, monkeypatch):
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    with pytest.raises(CardNeeded, match="Save a card"):
        place(stock[0])
    assert not Order.objects.exists()
    assert not Payment.objects.exists()
    assert InventoryNumber.objects.get(number=stock[0].number).status == "for_sale"


# Waking ------------------------------------------------------------------------------------------


def test_waking_an_order_that_a_process_has_in_hand_leaves_it_alone(place, stock, monkeypatch):
    gateway, calls = GATEWAYS["test"], []
    authorise = gateway.authorise

    def meanwhile(payment):
        calls.append(payment)
        Payment.objects.get().look_again(at=NOON + timedelta(seconds=1))
        return authorise(payment)

    monkeypatch.setattr(gateway, "authorise", meanwhile)
    assert place(stock[0]).state == "completed"
    assert len(calls) == 1


def test_news_takes_an_order_out_of_the_operators_queue(place, stock):
    with TestGateway.misbehaving(authorise=[Fault.ANSWER_LOST], look_up=[Fault.TIME_OUT] * 3):
        order = place(stock[0])
        at = NOON
        for _ in range(3):
            at += timedelta(days=1, minutes=1)
            order = again(order, at=at)
    assert order.state == "stuck"
    Payment.objects.get().look_again(at=at)
    assert Order.objects.get().state == "completed"
    assert Payment.objects.get().captured == DUE


def test_waking_a_settled_order_does_nothing(place, stock):
    order = place(stock[0])
    order.wake(at=NOON + LEASE)
    assert order.state == "completed"
    assert Payment.objects.get().events.count() == 3


def test_the_quote_says_where_to_save_a_card(prepaid, stock, owner, owner_client, monkeypatch):
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    Hold.objects.hold(prepaid, owner, [stock[0].key], at=timezone.now())
    net = sum(quoted(prepaid, stock[:1], at=timezone.now()))
    response = owner_client.post(
        "/o/northwind/numbers/purchase/quote/",
        {"number": ":".join(stock[0].key), "expected_total": net, "idempotency_key": "once"},
    )
    assert response.status_code == 409
    page = response.content.decode()
    assert "Save a card, then complete the purchase." in page
    assert 'href="/o/northwind/billing/card/"' in page
