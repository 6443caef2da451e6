"""An order that somebody outside has still to settle: waited for, then 202, and found again later."""

import json
import threading
from datetime import timedelta

import pytest
import time_machine
from django.db import connection
from django.utils import timezone
from psycopg.pq import TransactionStatus

from chirp_dashboard.api import waiting
from chirp_dashboard.api.models import Answer as Given
from chirp_dashboard.billing.gateways import GATEWAYS, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import Charge, Payment
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.carriers import CARRIERS, Outcome
from chirp_dashboard.numbers.models import Order, PhoneNumber

from ..numbers.conftest import NOON, prices, stock
from ..numbers.test_advance_order import SlowCarrier

__all__ = ["prices", "stock"]

pytestmark = pytest.mark.django_db
ORDERS = "/organization/orders"
PENDING, YES, NO, UNKNOWN = Outcome.PENDING, Outcome.YES, Outcome.NO, Outcome.UNKNOWN


class Time:
    """A clock that only waiting moves; `during` is done in every pause."""

    def __init__(self, traveller):
        self.traveller, self.waited, self.during = traveller, 0.0, lambda: None

    def now(self):
        return self.waited

    def sleep(self, seconds):
        self.waited += seconds
        self.traveller.shift(seconds)
        self.during()


@pytest.fixture
def clock(monkeypatch):
    with time_machine.travel(NOON, tick=False) as traveller:
        clock = Time(traveller)
        patience = waiting.Patience(now=clock.now, sleep=clock.sleep)
        monkeypatch.setattr(waiting, "PATIENCE", patience)
        yield clock


@pytest.fixture
def carrier(monkeypatch, stock):
    """In place of the stock: a carrier that takes orders and says later what became of them."""

    class Later(SlowCarrier):
        name = "stock"

    carrier = Later()
    monkeypatch.setitem(CARRIERS, "stock", carrier)
    return carrier


def says(carrier, row, *answers):
    carrier.answers[row.number] = list(answers)


def purchase(call, application, row, **headers):
    path = f"/organization/phone-numbers/{application.public_id}/purchase"
    return call("POST", path, {"phoneNumber": row.number, "numberType": "local"}, **headers)


def order(call, row, **headers):
    body = {"lines": [{"phoneNumber": row.number}], "expectedTotal": 127}
    return call("POST", ORDERS, body, **headers)


def test_purchase_waits_for_a_carrier_that_answers_in_time(
    admin_call, storefront, stock, carrier, clock
):
    says(carrier, stock[0], PENDING, PENDING, YES)
    answer = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert answer.status_code == 201, answer.content
    assert answer.json()["phoneNumberId"] == PhoneNumber.objects.get().public_id
    assert 0 < clock.waited < 10
    assert len(carrier.ordered) == 1


def test_purchase_that_is_not_settled_in_ten_seconds_is_202(
    admin_call, storefront, stock, carrier, clock
):
    says(carrier, stock[0], PENDING)
    answer = purchase(admin_call, storefront, stock[0])
    assert answer.status_code == 202
    assert clock.waited == 10
    placed = Order.objects.get()
    assert (answer.json()["phoneNumberId"], answer.json()["orderId"]) == (None, placed.public_id)
    assert answer.headers["Location"] == f"/v1/organization/orders/{placed.public_id}"
    assert 1 <= int(answer.headers["Retry-After"]) <= 15
    shown = admin_call.client.get(
        answer.headers["Location"], headers={"Authorization": f"Bearer {admin_call.secret}"}
    )
    assert (shown.json()["state"], shown.json()["lines"][0]["state"]) == ("ordered", "ordered")


def test_repeat_finds_the_order_settled_and_that_is_kept(
    admin_call, storefront, stock, carrier, clock
):
    says(carrier, stock[0], PENDING)
    first = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert first.status_code == 202
    assert not Given.objects.exists()
    assert purchase(admin_call, storefront, stock[0], Idempotency_Key="k").status_code == 202
    says(carrier, stock[0], YES)
    clock.traveller.shift(60)
    settled = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert settled.status_code == 201
    assert settled.json()["orderId"] == first.json()["orderId"]
    assert settled.json()["phoneNumberId"]
    again = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert (again.json(), again.headers["Idempotent-Replayed"]) == (settled.json(), "true")
    assert Order.objects.count() == PhoneNumber.objects.count() == len(carrier.ordered) == 1
    assert check_books(at=timezone.now()) == []


def test_number_that_the_carrier_refuses_in_the_end_is_409(admin_call, stock, carrier, clock):
    says(carrier, stock[0], PENDING, NO)
    answer = order(admin_call, stock[0], Idempotency_Key="k")
    assert (answer.status_code, answer.json()["error"]["code"]) == (409, "number_unavailable")
    assert order(admin_call, stock[0], Idempotency_Key="k").status_code == 409
    assert not Charge.objects.exists()


def test_order_tells_the_outcome_of_each_line_while_one_is_open(admin_call, stock, carrier, clock):
    says(carrier, stock[1], PENDING)
    body = {
        "lines": [{"phoneNumber": row.number} for row in stock[:2]],
        "expectedTotal": 254,
    }
    answer = admin_call("POST", ORDERS, body)
    assert answer.status_code == 202
    assert answer.headers["Location"].endswith(answer.json()["id"])
    assert [line["state"] for line in answer.json()["lines"]] == ["delivered", "ordered"]


# Where waiting is no use ----------------------------------------------------------------------


@pytest.fixture
def prepaying(organization):
    organization.gateway = "test"
    organization.save()


def test_gateway_that_is_silent_is_not_waited_for(admin_call, stock, prepaying, clock):
    with TestGateway.misbehaving(authorise=[Fault.ANSWER_LOST]):
        answer = order(admin_call, stock[0], Idempotency_Key="k")
    assert (answer.status_code, answer.json()["state"]) == (202, "placed")
    assert (clock.waited, answer.headers["Retry-After"]) == (0, "300")
    clock.traveller.shift(300)
    assert order(admin_call, stock[0], Idempotency_Key="k").status_code == 201
    assert Payment.objects.get().captured == 127


def test_customer_who_is_to_confirm_is_not_waited_for(
    admin_call, stock, prepaying, clock, monkeypatch
):
    gateway = GATEWAYS["test"]
    monkeypatch.setattr(
        gateway,
        "authorise",
        lambda payment: gateway._answer(None, lambda: gateway._remember(payment, "confirming")),
    )
    assert order(admin_call, stock[0]).status_code == 202
    assert clock.waited == 0


def test_silent_carrier_is_not_waited_for(admin_call, stock, carrier, clock):
    says(carrier, stock[0], UNKNOWN)
    answer = order(admin_call, stock[0])
    assert (answer.status_code, clock.waited) == (202, 0)


def test_order_that_an_operator_looks_at_is_202(admin_call, stock, carrier, clock):
    says(carrier, stock[0], UNKNOWN)
    placed = Order.objects.get(
        public_id=order(admin_call, stock[0], Idempotency_Key="k").json()["id"]
    )
    for hours in (1, 24, 72, 144):
        placed.advance(at=NOON + timedelta(hours=hours))
    assert placed.state == "stuck"
    answer = order(admin_call, stock[0], Idempotency_Key="k")
    assert (answer.status_code, answer.json()["state"], clock.waited) == (202, "stuck", 0)
    assert not Given.objects.exists()


def test_no_more_than_half_the_threads_wait(admin_call, stock, carrier, clock, monkeypatch):
    says(carrier, stock[0], PENDING)
    taken = threading.BoundedSemaphore(1)
    monkeypatch.setattr(waiting, "SEATS", taken)
    with taken:
        assert order(admin_call, stock[0], Idempotency_Key="k").status_code == 202
        assert clock.waited == 0
    assert order(admin_call, stock[0], Idempotency_Key="k").status_code == 202
    assert clock.waited == 10
    assert taken.acquire(blocking=False), "the seat is free again"


# What waiting holds ---------------------------------------------------------------------------


def held_by_us():
    """Locks of this connection, but for those of the statement that asks."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT json_agg(locktype) FROM pg_locks WHERE pid = pg_backend_pid()"
            " AND locktype NOT IN ('virtualxid', 'relation')"
        )
        return cursor.fetchone()[0] or []


@pytest.mark.django_db(transaction=True)
def test_waiting_holds_no_transaction_and_no_lock(admin_call, storefront, stock, carrier, clock):
    seen = []

    def look():
        seen.append((connection.connection.info.transaction_status, held_by_us()))

    clock.during = look
    says(carrier, stock[0], PENDING)
    assert purchase(admin_call, storefront, stock[0], Idempotency_Key="k").status_code == 202
    assert len(seen) == 20
    assert all(each == (TransactionStatus.IDLE, []) for each in seen), seen


@pytest.mark.django_db(transaction=True)
def test_order_that_another_process_settles_meanwhile_is_seen(
    admin_call, storefront, stock, carrier, clock
):
    """As a worker or the carrier's webhook would."""

    def settle():
        if clock.waited == 3:
            says(carrier, stock[0], YES)
            Order.objects.update(next_look_at=timezone.now())
            Order.objects.get().advance(at=timezone.now())

    clock.during = settle
    says(carrier, stock[0], PENDING)
    answer = purchase(admin_call, storefront, stock[0])
    assert (answer.status_code, clock.waited) == (201, 3)


# Purchases under fire -------------------------------------------------------------------------


def test_purchase_whose_answer_was_never_stored_is_the_same_purchase(
    admin_call, storefront, prices, stock
):
    """The process was killed between the purchase and the storing of its answer."""
    first = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    Given.objects.all().delete()
    again = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert (again.status_code, again.json()) == (201, first.json())
    Given.objects.all().delete()
    assert purchase(admin_call, storefront, stock[1], Idempotency_Key="k").status_code == 422
    assert Order.objects.count() == 1


def test_refusal_given_beside_a_purchase_does_not_hide_it(admin_call, storefront, prices, stock):
    """Two requests at once: the one was refused while the other got the number and was killed."""
    bought = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    refusal = json.dumps({"error": {"type": "invalid_request_error", "message": "Gone."}})
    Given.objects.update(status=409, body=refusal)
    again = purchase(admin_call, storefront, stock[0], Idempotency_Key="k")
    assert (again.status_code, again.json()) == (201, bought.json())
    assert Given.objects.get().status == 201
