"""Orders and invoices through the Stripe gateway, from the click to the books."""

from datetime import timedelta

import pytest

from chirp_dashboard.billing.models import Invoice, Payment, Refund, Standing
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order

from ...numbers.conftest import NOON, prices  # noqa: F401 - a fixture
from ..conftest import DECEMBER, noon
from .conftest import change_card, slow
from .faults import Fault
from .trading import buy, collect, invoice_everybody, later, stock_up

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("prices")]

INTENTS, INVOICES = "/v1/payment_intents", "/v1/invoices"
LOOKS = [timedelta(minutes=10), timedelta(hours=2), timedelta(days=2)]


@pytest.fixture(autouse=True)
def balanced(request, db):
    yield
    assert check_books(at=later()) == []


def settle(order):
    """Let the worker look as often as it does while a gateway is silent."""
    for wait in LOOKS:
        order.refresh_from_db()
        order.advance(at=NOON + wait)
    order.refresh_from_db()
    return order


@pytest.mark.parametrize("step", ["", "/*/capture"], ids=["authorise", "capture"])
@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (Fault.ANSWER_LOST, 1),
        (Fault.ANSWER_LOST, 3),
        slow(Fault.ANSWER_LOST, 6),
        (Fault.TIME_OUT, 3),
        slow(Fault.TIME_OUT, 6),
        (Fault.SERVER_ERROR, 1),
        slow(Fault.SERVER_ERROR, 3),
        slow(Fault.SERVER_ERROR_AFTER, 1),
        slow(Fault.SERVER_ERROR_AFTER, 3),
    ],
)
def test_a_purchase_is_paid_once_whatever_gets_lost(fault, times, step, payer, owner, stripe_world):
    stripe_world.fault(f"POST {INTENTS}{step}", fault, times=times)
    order = settle(buy(payer, owner, *stock_up(2)))
    assert order.state == Order.State.COMPLETED
    assert Payment.objects.get().captured == order.total
    collected = [intent["amount_received"] for intent in stripe_world.all(INTENTS)]
    assert collected == [order.total]
    assert Standing.objects.get().balance == 0


def test_a_declined_purchase_gives_the_number_back(payer, owner, stripe_world):
    change_card(payer.customers.get(), stripe_world, "declining")
    [row] = stock_up(1)
    order = buy(payer, owner, row)
    assert (order.state, Payment.objects.get().decline_code) == (
        Order.State.DECLINED,
        "generic_decline",
    )
    assert "Your card was declined." in order.reason
    change_card(payer.customers.get(), stripe_world, "tok_visa")
    row.refresh_from_db()
    again = Order.objects.place(
        payer,
        person=owner,
        numbers=[row.key],
        expected_total=order.total,
        idempotency_key="again",
        at=NOON,
    )
    assert again.state == Order.State.COMPLETED


@pytest.mark.parametrize(("ok", "state"), [("1", "completed"), ("0", "declined")])
def test_a_purchase_waits_for_the_bank_and_ends_as_the_customer_says(
    ok, state, payer, owner, owner_client, stripe_world
):
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    order = buy(payer, owner, *stock_up(1))
    payment = Payment.objects.get()
    assert payment.state == Payment.State.ACTION_REQUIRED
    back = stripe_world.visit(payment.action_url, ok=ok)
    address = back.removeprefix("http://127.0.0.1:8000")
    owner_client.post(address)
    order = settle(order)
    assert order.state == state
    assert owner_client.get(address).status_code == 200


def test_a_purchase_too_small_for_stripe_joins_the_next_invoice(payer, owner, stripe_world):
    rows = stock_up(1)
    payer.prices.create(
        country="US", number_type="local", currency="USD", purchase_fee=10, rental=10,
        valid_from=DECEMBER.replace(year=2020),
    )  # fmt: skip
    order = buy(payer, owner, *rows)
    assert (order.state, Payment.objects.count()) == (Order.State.COMPLETED, 0)
    assert stripe_world.all(INTENTS) == []


def test_a_month_is_collected_from_the_card(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(3))
    invoice_everybody()
    collect()
    invoice = Invoice.objects.get(billing_date=DECEMBER, kind="monthly")
    assert invoice.is_paid
    [at_stripe] = stripe_world.all(INVOICES)
    assert (at_stripe["status"], at_stripe["amount_paid"]) == ("paid", invoice.total)
    assert at_stripe["description"] == invoice.title


def test_a_month_that_is_declined_is_collected_from_the_next_card_and_once(
    payer, owner, stripe_world
):
    buy(payer, owner, *stock_up(3))
    customer = payer.customers.get()
    change_card(customer, stripe_world, "declining")
    invoice_everybody()
    collect()
    invoice = Invoice.objects.get(billing_date=DECEMBER, kind="monthly")
    assert (invoice.is_paid, invoice.payments.get().state) == (False, Payment.State.DECLINED)
    change_card(customer, stripe_world, "tok_visa")
    next_day = noon(DECEMBER) + timedelta(days=1)
    Payment.objects.begin(invoice, at=next_day).advance(at=next_day)
    invoice.refresh_from_db()
    assert invoice.is_paid
    assert sorted(found["status"] for found in stripe_world.all(INVOICES)) == ["paid", "void"]


def test_a_month_the_bank_asks_about_is_paid_on_stripes_page(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(3))
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    invoice_everybody()
    collect()
    payment = Invoice.objects.get(billing_date=DECEMBER, kind="monthly").payments.get()
    assert payment.state == Payment.State.ACTION_REQUIRED
    stripe_world.visit(payment.action_url, ok="1")
    payment.look_again(at=noon(DECEMBER) + timedelta(minutes=5))
    assert payment.state == Payment.State.CAPTURED


def test_a_month_nobody_confirms_is_let_go_of_at_stripe_too(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(3))
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    invoice_everybody()
    collect()
    payment = Invoice.objects.get(billing_date=DECEMBER, kind="monthly").payments.get()
    payment.look_again(at=noon(DECEMBER) + timedelta(days=1))
    assert payment.state == Payment.State.DECLINED
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]


@pytest.mark.parametrize("step", [slow(""), "/*/add_lines", slow("/*/finalize"), "/*/pay"])
def test_a_month_is_collected_once_whatever_gets_lost(step, payer, owner, stripe_world):
    buy(payer, owner, *stock_up(3))
    stripe_world.fault(f"POST {INVOICES}{step}", Fault.ANSWER_LOST, times=3)
    invoice_everybody()
    collect()
    for wait in LOOKS:
        Payment.objects.advance_due(at=noon(DECEMBER) + wait)
    invoice = Invoice.objects.get(billing_date=DECEMBER, kind="monthly")
    assert invoice.is_paid
    assert [found["amount_paid"] for found in stripe_world.all(INVOICES)] == [invoice.total]


def test_a_gateway_that_is_down_declines_nobody(payer, owner, stripe_world, settings):
    buy(payer, owner, *stock_up(3))
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    invoice_everybody()
    collect()
    payment = Invoice.objects.get(billing_date=DECEMBER, kind="monthly").payments.get()
    assert payment.state == Payment.State.UNKNOWN
    settings.STRIPE_API_BASE = stripe_world.url
    Payment.objects.advance_due(at=noon(DECEMBER) + timedelta(hours=1))
    payment.refresh_from_db()
    assert payment.state == Payment.State.CAPTURED


def test_a_refund_goes_back_to_the_card(payer, owner, stripe_world):
    order = buy(payer, owner, *stock_up(2))
    invoice = Invoice.objects.get(order=order)
    at = NOON + timedelta(days=1)
    charges = [line.charge for line in invoice.lines.select_related("charge")]
    note = invoice.credit(charges[:1], reason="Did not work", by=owner, at=at, to_refund=True)
    refund = Refund.objects.begin(
        Payment.objects.get(),
        amount=-note.total,
        reason="Did not work",
        by=owner,
        at=at,
        credit_note=note,
    )
    refund.advance(at=at)
    assert refund.state == Refund.State.REFUNDED
    assert [made["amount"] for made in stripe_world.all("/v1/refunds")] == [-note.total]
