"""What becomes of stored events: Stripe is asked for the object, whatever the event says of it."""

import subprocess
import sys
import time
from datetime import UTC, datetime, timedelta

import pytest
import requests
from django.conf import settings
from django.db import connection
from django.test import Client

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.models import Customer, InboxEvent, Payment, Refund
from chirp_dashboard.billing.models import inbox as inbox_module
from chirp_dashboard.billing.models.inbox import BACKOFF, LEASE
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import Activity, Mail

from ...numbers.conftest import NOON, prices  # noqa: F401 - a fixture
from ..conftest import DECEMBER, noon
from .conftest import pay_by_card, signed
from .faults import Fault
from .trading import buy, collect, invoice_everybody, later, plant_answer, stock_up

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("prices")]

INTENTS = "/v1/payment_intents"
READ_INTENT = f"GET {INTENTS}*"


def deliver(*events):
    """Send `events` as Stripe would; all are answered with 200."""
    for event in events:
        body, headers = signed(event)
        sent = Client().post("/billing/stripe/webhook", body, "application/json", headers=headers)
        assert sent.status_code == 200, sent.content


def an_event(about, *, type, number=1, **facts):
    return {
        "id": f"evt_planted_{number}", "object": "event", "type": type, "created": int(time.time()),
        "livemode": False, "data": {"object": about},
    } | facts  # fmt: skip


def work(at=None):
    """Work what is due, as the task does."""
    while InboxEvent.objects.work_due(at=at or later()):
        pass


def work_at(at):
    """Work what is due as if all of it had been delivered at `at`."""
    InboxEvent.objects.filter(state="received").update(next_try_at=at)
    work(at=at)


def states():
    return dict(InboxEvent.objects.values_list("event_id", "state"))


@pytest.fixture
def unheard(payer, owner, stripe_world):
    """An order whose authorisation was done, and the answer never came."""
    stripe_world.fault(f"POST {INTENTS}", Fault.ANSWER_LOST, times=3)
    stripe_world.fault(READ_INTENT, Fault.TIME_OUT, times=3)
    order = buy(payer, owner, *stock_up(1))
    stripe_world.faults.clear()
    payment = order.payments.get()
    assert (order.state, payment.state, payment.gateway_id) == ("placed", "unknown", "")
    return order


# What an event leads to -------------------------------------------------------------------------


def test_event_of_a_purchase_takes_its_order_on(unheard, stripe_world):
    deliver(*stripe_world.events())
    work()
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED
    assert Payment.objects.get().state == Payment.State.CAPTURED
    assert set(states().values()) == {"worked"}
    assert check_books(at=later()) == []


def test_order_of_events_is_of_no_account(unheard, stripe_world):
    deliver(*reversed(stripe_world.events()))
    work()
    deliver(*reversed(stripe_world.events()))
    work()
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED
    assert len(stripe_world.all(INTENTS)) == 1


@pytest.mark.parametrize("claim", ["succeeded", "canceled", "requires_payment_method"])
def test_what_an_event_says_is_never_believed(payer, owner, stripe_world, claim):
    pay_by_card(payer, stripe_world, "tok_threeDSecure2Required")
    order = buy(payer, owner, *stock_up(1))
    payment = order.payments.get()
    assert payment.state == Payment.State.ACTION_REQUIRED
    lie = stripe_world.ask("GET", f"{INTENTS}/{payment.gateway_id}")
    lie |= {"status": claim, "amount_received": payment.amount, "amount": 1}
    deliver(an_event(lie, type="payment_intent.succeeded"))
    work_at(NOON + timedelta(minutes=5))
    payment.refresh_from_db()
    assert (payment.state, payment.captured) == (Payment.State.ACTION_REQUIRED, 0)
    assert states() == {"evt_planted_1": "worked"}


def test_payment_confirmed_by_the_customer_is_taken_on(payer, owner, stripe_world):
    pay_by_card(payer, stripe_world, "tok_threeDSecure2Required")
    order = buy(payer, owner, *stock_up(1))
    action = order.payments.get().action_url
    requests.get(action, params={"ok": 1}, allow_redirects=False, timeout=20)
    deliver(*stripe_world.events())
    work_at(NOON + timedelta(minutes=5))
    order.refresh_from_db()
    assert order.state == Order.State.COMPLETED


def test_event_of_an_invoice_marks_it_paid(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(1))
    invoice_everybody()
    stripe_world.fault("POST /v1/invoices/*/pay", Fault.ANSWER_LOST, times=3)
    collect()
    assert Payment.objects.get(order=None).state == Payment.State.UNKNOWN
    deliver(*[event for event in stripe_world.events() if event["type"] == "invoice.paid"])
    work()
    payment = Payment.objects.get(order=None)
    assert (payment.state, payment.invoice.is_paid) == (Payment.State.CAPTURED, True)


def test_event_of_a_refund_writes_it(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(1))
    payment = Payment.objects.get()
    payment.order.receipts.update(paid=0)
    refund = Refund.objects.begin(
        payment, amount=10, reason="An outage", by=owner, at=noon(DECEMBER)
    )
    stripe_world.fault("POST /v1/refunds", Fault.ANSWER_LOST, times=3)
    refund.advance(at=noon(DECEMBER))
    assert Refund.objects.get().state == Refund.State.UNKNOWN
    made = stripe_world.all("/v1/refunds")[0]
    deliver(an_event(made, type="refund.created"))
    work()
    assert Refund.objects.get().state == Refund.State.REFUNDED
    assert states() == {"evt_planted_1": "worked"}


def test_event_about_a_card_reads_it_anew(payer, stripe_world):
    customer = Customer.objects.get()
    stripe_world.ask("POST", f"/v1/payment_methods/{customer.payment_method}/detach")
    gone = {"id": customer.payment_method, "object": "payment_method", "customer": None}
    event = an_event(gone, type="payment_method.detached")
    event["data"]["previous_attributes"] = {"customer": customer.gateway_id}
    deliver(event)
    work()
    customer.refresh_from_db()
    assert not customer.has_card


@pytest.mark.parametrize("of_invoice", [False, True])
def test_dispute_is_told_to_the_operator_and_noted(payer, owner, stripe_world, of_invoice):
    buy(payer, owner, *stock_up(1))
    invoice_everybody()
    collect()
    payment = Payment.objects.get(order__isnull=of_invoice)
    dispute = {
        "id": "du_1", "object": "dispute", "status": "needs_response", "reason": "fraudulent",
        "amount": 127, "payment_intent": "pi_of_invoice" if of_invoice else payment.gateway_id,
    }  # fmt: skip
    paid = {"object": "invoice_payment", "id": "inpay_1", "invoice": payment.gateway_id}
    paid = {"object": "list", "data": [paid] if of_invoice else [], "has_more": False}
    plant_answer(stripe_world, "GET /v1/disputes/du_1", dispute)
    plant_answer(stripe_world, "GET /v1/invoice_payments", paid | {"url": "/v1/invoice_payments"})
    deliver(
        an_event(dispute, type="charge.dispute.created"),
        an_event(dispute, type="charge.dispute.funds_withdrawn", number=2),
    )
    work()
    alarm = Mail.objects.get(kind="dispute_alarm")
    assert payment.public_id in alarm.text
    assert "needs_response" in alarm.subject
    activity = Activity.objects.get(verb="disputed")
    assert (activity.subject, activity.after["reason"]) == (payment.public_id, "fraudulent")
    assert Payment.objects.get(pk=payment.pk).state == Payment.State.CAPTURED


def test_dispute_about_a_payment_nobody_knows_is_told_too(payer, stripe_world):
    dispute = {"id": "du_1", "object": "dispute", "status": "lost", "reason": "", "amount": 1}
    plant_answer(stripe_world, "GET /v1/disputes/du_1", dispute)
    deliver(an_event(dispute, type="charge.dispute.closed"))
    work()
    assert "not known here" in Mail.objects.get(kind="dispute_alarm").text


# Nothing of ours --------------------------------------------------------------------------------


def test_payment_that_is_not_ours_is_ignored_with_the_reason(payer, stripe_world):
    foreign = stripe_world.ask("POST", INTENTS, amount=500, currency="usd")
    deliver(an_event(foreign, type="payment_intent.created"))
    work()
    event = InboxEvent.objects.get()
    assert (event.state, event.error) == ("ignored", "No payment of ours is about this.")


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        ({"object": "refund", "id": "re_nobody"}, "No refund of ours"),
        ({"object": "customer", "id": "cus_nobody"}, "No customer of ours"),
        ({"object": "charge", "id": "ch_1", "payment_intent": "pi_nobody"}, "No payment of ours"),
    ],
)
def test_things_of_others_are_ignored(payer, stripe_world, thing, reason):
    deliver(an_event(thing, type=f"{thing['object']}.updated"))
    stripe_world.calls.clear()
    work()
    event = InboxEvent.objects.get()
    assert event.state == "ignored"
    assert reason in event.error
    assert stripe_world.calls == []


def test_event_that_comes_before_its_payment_waits_for_it(payer, stripe_world):
    at = later()
    early = {"id": "pi_early", "object": "payment_intent", "metadata": {"reference": "ord_early-1"}}
    deliver(an_event(early, type="payment_intent.succeeded"))
    work(at=at)
    event = InboxEvent.objects.get()
    assert (event.state, event.tries) == ("received", 1)
    assert "ord_early-1" in event.error
    Payment.objects.create(
        organization=payer, gateway="stripe", reference="ord_early-1", amount=500, currency="USD",
        state="voided",
    )  # fmt: skip
    work(at=at)
    assert InboxEvent.objects.get().tries == 1
    work(at=at + BACKOFF[0])
    assert InboxEvent.objects.get().state == "worked"


# One look, one worker ---------------------------------------------------------------------------


def test_many_events_about_one_thing_need_one_look(payer, owner, stripe_world):
    buy(payer, owner, *stock_up(1))
    payment = Payment.objects.get()
    Payment.objects.update(state="voided")  # one that a look asks Stripe about
    intent = {"id": payment.gateway_id, "object": "payment_intent"}
    for number in range(7):
        deliver(an_event(intent, type="payment_intent.succeeded", number=number))
    stripe_world.calls.clear()
    work()
    assert stripe_world.count(READ_INTENT) == 1
    assert set(states().values()) == {"worked"}


@pytest.mark.parametrize("guarded", [True, False])
def test_event_that_a_worker_has_is_left_to_it(unheard, stripe_world, monkeypatch, guarded):
    if not guarded:
        monkeypatch.setattr(inbox_module, "LEASE", timedelta(0))
    deliver(an_event(stripe_world.all(INTENTS)[0], type="payment_intent.succeeded"))
    event, at = InboxEvent.objects.get(), later()
    assert event._take(at=at)
    assert event.work(at=at) == (0 if guarded else 1)


def test_event_whose_worker_is_gone_is_worked_after_the_lease(unheard, stripe_world):
    deliver(an_event(stripe_world.all(INTENTS)[0], type="payment_intent.succeeded"))
    at = later()
    assert InboxEvent.objects.get()._take(at=at)
    assert InboxEvent.objects.work_due(at=at + LEASE - timedelta(seconds=1)) == 0
    assert InboxEvent.objects.work_due(at=at + LEASE) == 1
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED


# Failures ---------------------------------------------------------------------------------------


def test_silent_gateway_is_asked_again_and_in_the_end_an_operator_is_told(unheard, stripe_world):
    intent = stripe_world.all(INTENTS)[0]
    deliver(an_event(intent, type="payment_intent.succeeded"))
    stripe_world.fault(READ_INTENT, Fault.TIME_OUT, times=999)
    at = later()
    for number, wait in enumerate(BACKOFF, start=1):
        work(at=at)
        event = InboxEvent.objects.get()
        assert (event.state, event.tries, event.next_try_at) == ("received", number, at + wait)
        assert not Mail.objects.filter(kind="inbox_alarm").exists()
        at += wait
    work(at=at)
    event = InboxEvent.objects.get()
    assert (event.state, event.tries, event.next_try_at) == ("failed", 6, None)
    assert "still being checked" in event.error
    assert event.error in Mail.objects.get(kind="inbox_alarm").text

    stripe_world.faults.clear()
    event.replay(by=payer_of(unheard), at=at)
    work(at=at + timedelta(days=2))
    assert InboxEvent.objects.get().state == "worked"
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED


def payer_of(order):
    return order.organization.memberships.get().user


def test_silent_gateway_is_not_asked_about_the_rest(unheard, stripe_world):
    intent = stripe_world.all(INTENTS)[0]
    cards = {"id": Customer.objects.get().gateway_id, "object": "customer"}
    deliver(
        an_event(intent, type="payment_intent.succeeded"),
        an_event(cards, type="customer.updated", number=2),
    )
    stripe_world.fault(READ_INTENT, Fault.TIME_OUT, times=999)
    stripe_world.calls.clear()
    assert InboxEvent.objects.work_due(at=later()) == 0
    assert not stripe_world.count("GET /v1/customers/*")
    assert dict(InboxEvent.objects.values_list("event_id", "tries")) == {
        "evt_planted_1": 1,
        "evt_planted_2": 0,
    }


def test_many_failures_are_one_alarm_a_day(payer, stripe_world):
    nobody = {"object": "payment_intent", "metadata": {"reference": "ord_nobody-1"}}
    for number in range(3):
        deliver(an_event(nobody, type="payment_intent.succeeded", number=number))
    InboxEvent.objects.update(tries=len(BACKOFF))
    work()
    assert set(states().values()) == {"failed"}
    assert Mail.objects.filter(kind="inbox_alarm").count() == 1


def test_event_that_breaks_its_handler_keeps_no_other_waiting(
    unheard, stripe_world, monkeypatch, caplog
):
    def broken(gateway, notice, *, at):
        raise ZeroDivisionError("a bug of ours\0")

    monkeypatch.setitem(inbox_module.HANDLERS, "card", broken)
    cards = {"id": "cus_1", "object": "customer"}
    deliver(an_event(cards, type="customer.updated"), *stripe_world.events())
    work()
    event = InboxEvent.objects.get(event_id="evt_planted_1")
    assert (event.state, event.error) == ("received", "ZeroDivisionError: a bug of ours")
    assert "could not be worked" in caplog.text
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED


def test_event_of_a_gateway_that_is_gone_waits(payer, stripe_world, monkeypatch):
    from chirp_dashboard.billing.gateways import GATEWAYS

    deliver(an_event({"id": "pi_1", "object": "payment_intent"}, type="payment_intent.created"))
    monkeypatch.delitem(GATEWAYS, "stripe")
    work()
    event = InboxEvent.objects.get()
    assert (event.state, event.tries) == ("received", 1)
    assert "not set up here" in event.error


@pytest.mark.parametrize("state", ["worked", "ignored", "failed", "received"])
def test_every_event_can_be_replayed(payer, owner, stripe_world, state):
    buy(payer, owner, *stock_up(1))
    intent = {"id": Payment.objects.get().gateway_id, "object": "payment_intent"}
    deliver(an_event(intent, type="payment_intent.succeeded"))
    InboxEvent.objects.update(state=state, tries=4, next_try_at=None, error="before")
    event, at = InboxEvent.objects.get(), later()
    event.replay(by=owner, at=at)
    event.refresh_from_db()
    assert (event.state, event.tries, event.next_try_at) == ("received", 0, at)
    assert str(owner) in event.error
    work(at=at)
    event.refresh_from_db()
    assert (event.state, event.error) == ("worked", "")


def test_replay_of_what_is_not_for_us_is_ignored_again(payer, owner):
    deliver(an_event({"id": "pi_1", "object": "payment_intent"}, type="x.y", livemode=True))
    InboxEvent.objects.get().replay(by=owner, at=later())
    work()
    event = InboxEvent.objects.get()
    assert event.state == "ignored"
    assert "live mode" in event.error


# The worker -------------------------------------------------------------------------------------


def test_task_works_until_nothing_is_due(unheard, stripe_world, monkeypatch):
    deliver(*stripe_world.events())
    monkeypatch.setattr("django.utils.timezone.now", later)
    monkeypatch.setattr(inbox_module, "BATCH", 2)
    tasks.work_inbox(timestamp=0)
    assert "received" not in states().values()


@pytest.fixture
def start_worker(stripe_environment):
    started = []

    def start():
        worker = subprocess.Popen(
            [sys.executable, settings.BASE_DIR / "manage.py", "worker"], env=stripe_environment
        )
        started.append(worker)
        return worker

    yield start
    for worker in started:
        worker.kill()
        worker.wait()


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.1)


@pytest.mark.django_db(transaction=True)
def test_event_of_a_killed_worker_is_worked_by_another(unheard, stripe_world, start_worker):
    Order.objects.update(next_look_at=datetime(2999, 1, 1, tzinfo=UTC))  # only an event wakes it
    stripe_world.fault(READ_INTENT, Fault.SILENCE, times=1)
    deliver(an_event(stripe_world.all(INTENTS)[0], type="payment_intent.succeeded"))
    worker = start_worker()
    eventually(lambda: InboxEvent.objects.get().tries == 1)
    eventually(lambda: stripe_world.faults_left == 0)
    worker.kill()
    worker.wait()
    event = InboxEvent.objects.get()
    assert (event.state, event.tries) == ("received", 1)

    work(at=event.next_try_at - timedelta(seconds=1))
    assert InboxEvent.objects.get().tries == 1, "somebody has it"
    work(at=event.next_try_at + timedelta(minutes=1))
    assert InboxEvent.objects.get().state == "worked"
    unheard.refresh_from_db()
    assert unheard.state == Order.State.COMPLETED
    assert len(stripe_world.all(INTENTS)) == 1
    connection.close()
