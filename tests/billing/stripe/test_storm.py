"""The webhook storm: everything Stripe tells, shuffled and repeated, from many senders at once.

Every answer to us was lost, so that nothing but the events takes orders and invoices on. The end is what
the same trade comes to where no answer is lost and no event is sent.
"""

import random
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime, timedelta

import pytest
import requests
from django.core.management import call_command
from django.db import connections

from chirp_dashboard.billing.models import (
    Charge,
    Customer,
    Entry,
    InboxEvent,
    Invoice,
    Payment,
    Price,
    Standing,
)
from chirp_dashboard.billing.reconciling import reconcile
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber
from chirp_dashboard.organizations.models import Mail, Membership, Organization, User

from ...numbers.conftest import NOON
from ..conftest import DECEMBER, noon
from .conftest import change_card, pay_by_card, signed
from .faults import Fault
from .trading import buy, collect, invoice_everybody, later, stock_up

pytestmark = pytest.mark.django_db(transaction=True)

SENDERS, WORKERS = 8, 2
INTENTS, INVOICES = "/v1/payment_intents", "/v1/invoices"
LONG_AGO = date(2020, 1, 1)
SINCE = datetime(2020, 1, 1, tzinfo=UTC)


class Trade:
    """`organizations` × `orders` purchases of one or two numbers, then everybody's monthly invoice.

    Every fifth organization's card is declined, and every fifth one's from its invoice on.
    """

    def __init__(self, world, *, organizations, orders):
        self.world, self.orders, self.payers = world, orders, []
        for number in range(organizations):
            payer = Organization.objects.create(name=f"Payer {number}", slug=f"payer-{number}")
            buyer = User.objects.create_user(f"buyer-{number}@payer.example", None)
            Membership.objects.create(organization=payer, user=buyer, role="owner")
            token = "declining" if number % 5 == 4 else "tok_visa"
            self.payers.append((pay_by_card(payer, world, token), buyer))

    def run(self, *, answers):
        """Trade; without `answers` of Stripe's about what was done."""
        first = 0
        for payer, buyer in self.payers:
            for _ in range(self.orders):
                count = 1 + first % 2
                rows = stock_up(count, first=first)
                first += count
                with self.deaf(INTENTS, answers):
                    buy(payer, buyer, *rows)

    def bill(self, *, answers):
        for payer, _ in self.payers[3::5]:
            change_card(payer.customers.get(), self.world, "declining")
        invoice_everybody()
        with self.deaf(INVOICES, answers):
            collect()

    def deaf(self, path, answers):
        return Deaf(self.world, path, answers)


class Deaf:
    """What is asked of `path` is done, and no answer comes; nor can it be looked up."""

    def __init__(self, world, path, answers):
        self.world, self.path, self.answers = world, path, answers

    def __enter__(self):
        if not self.answers:
            last_step = {INTENTS: f"POST {INTENTS}", INVOICES: f"POST {INVOICES}/*/pay"}[self.path]
            self.world.fault(last_step, Fault.ANSWER_LOST, times=10**6)
            self.world.fault(f"GET {INTENTS}*", Fault.TIME_OUT, times=10**6)

    def __exit__(self, *_):
        self.world.faults.clear()


def end_state(world):
    """Everything that matters, without ids and moments: who bought, paid, owes and was told what."""
    of, intents, invoices = "organization__slug", world.all(INTENTS), world.all(INVOICES)
    rows = {
        "orders": Order.objects.values_list(of, "idempotency_key", "state"),
        "numbers": PhoneNumber.objects.values_list(of, "number", "state"),
        "payments": Payment.objects.values_list(of, "amount", "state", "captured"),
        "invoices": Invoice.objects.values_list(of, "kind", "total", "paid"),
        "standings": Standing.objects.values_list(of, "balance", "unsettled"),
        "charges": Charge.objects.values_list(of, "kind", "amount", "period_start"),
        "entries": Entry.objects.values_list(of, "kind", "postings__account", "postings__amount"),
        "mails": Mail.objects.values_list(of, "kind"),
        "intents": [(intent["status"], intent["amount_received"]) for intent in intents],
        "stripe invoices": [(invoice["status"], invoice["amount_paid"]) for invoice in invoices],
    }
    return {name: sorted(map(str, found)) for name, found in rows.items()}


def send(address, events):
    """Deliver `events`, each signed anew, and say how each was answered."""
    with requests.Session() as session:
        return Counter(
            session.post(address, body, headers=headers | {"Content-Type": "application/json"}).status_code
            for body, headers in map(signed, events)
        )  # fmt: skip


def storm(address, events, chance):
    """Deliver every event one to five times, in any order, by many senders at once."""
    deliveries = [event for event in events for _ in range(chance.randint(1, 5))]
    chance.shuffle(deliveries)
    with ThreadPoolExecutor(SENDERS) as senders:
        shares = [deliveries[number::SENDERS] for number in range(SENDERS)]
        answers = sum(senders.map(lambda share: send(address, share), shares), Counter())
    assert answers == {200: len(deliveries)}
    return len(deliveries)


class Workers:
    """A few workers of the inbox, as many processes would be, until all of it is worked.

    It is `moment` for them, whatever day it is here.
    """

    def __init__(self, moment):
        self.moment, self.over, self.failures = moment, threading.Event(), []
        self.threads = [threading.Thread(target=self.work) for _ in range(WORKERS)]

    def work(self):
        try:
            while not self.over.is_set():
                self.work_delivered()
                self.over.wait(0.05)
            for minutes in (0, 1, 10, 60):  # what two of them were at, at the same time
                self.work_delivered(timedelta(minutes=minutes))
        except Exception as failure:
            self.failures.append(failure)
        finally:
            connections.close_all()

    def work_delivered(self, later=timedelta(0)):
        delivered = InboxEvent.objects.filter(state="received", tries=0)
        delivered.exclude(next_try_at=self.moment).update(next_try_at=self.moment)
        while InboxEvent.objects.work_due(at=self.moment + later):
            pass

    def __enter__(self):
        for thread in self.threads:
            thread.start()

    def __exit__(self, *_):
        self.over.set()
        for thread in self.threads:
            thread.join()
        assert self.failures == []


def blow(world, address, chance, *, at):
    """Storms until Stripe has nothing new to tell; returns how many deliveries that took."""
    told, deliveries = set(), 0
    while fresh := [event for event in world.events() if event["id"] not in told]:
        told.update(event["id"] for event in fresh)
        with Workers(at):
            deliveries += storm(address, fresh, chance)
    return deliveries


def undisturbed(stripe_edge, settings, monkeypatch, **size):
    """Where the same trade ends when every answer is heard; the database is emptied afterwards."""
    world = stripe_edge.open()
    monkeypatch.setattr(settings, "STRIPE_API_BASE", world.url)
    trade = Trade(world, **size)
    trade.run(answers=True)
    trade.bill(answers=True)
    expected = end_state(world)
    stripe_edge.shut(world)
    return expected


def through_the_storm(world, address, chance, **size):
    trade = Trade(world, **size)
    trade.run(answers=False)
    assert not PhoneNumber.objects.exists(), "nothing was heard, so nothing was delivered"
    deliveries = blow(world, address, chance, at=NOON + timedelta(minutes=10))
    trade.bill(answers=False)
    assert not Invoice.objects.filter(kind="monthly", paid__gt=0).exists()
    return deliveries + blow(world, address, chance, at=noon(DECEMBER) + timedelta(minutes=10))


def check(world, gateway):
    """Nothing is lost, nothing is done twice, and Stripe agrees."""
    assert not InboxEvent.objects.exclude(state__in=["worked", "ignored"]).exists()
    assert check_books(at=later()) == []
    record = reconcile(gateway, at=later(), since=SINCE)
    assert record.differences == []
    assert record.compared >= Payment.objects.count() + Customer.objects.count()
    references = Counter(
        thing["metadata"]["reference"] for path in (INTENTS, INVOICES) for thing in world.all(path)
    )
    assert set(references.values()) == {1}


def empty_the_database():
    call_command("flush", interactive=False, verbosity=0)


@pytest.fixture
def weather(stripe_world, stripe_gateway, stripe_edge, live_server, settings, monkeypatch):
    """`weather(organizations=…, orders=…)`: the trade undisturbed, then through the storm, compared."""

    def weather(**size):
        create_prices()
        expected = undisturbed(stripe_edge, settings, monkeypatch, **size)
        empty_the_database()
        create_prices()
        monkeypatch.setattr(settings, "STRIPE_API_BASE", stripe_world.url)
        address = f"{live_server.url}/billing/stripe/webhook"
        deliveries = through_the_storm(stripe_world, address, random.Random(20261201), **size)
        found = end_state(stripe_world)
        for part in expected:
            assert found[part] == expected[part], part
        check(stripe_world, stripe_gateway)
        return deliveries

    return weather


def create_prices():
    Price.objects.create(
        country="US", number_type="local", purchase_fee=100, rental=100, valid_from=LONG_AGO
    )


def test_storm_of_webhooks_ends_as_if_everything_had_been_heard(weather):
    assert weather(organizations=5, orders=2) >= 300


@pytest.mark.slow
def test_storm_of_all_events_of_two_hundred_orders(weather):
    assert weather(organizations=20, orders=10) >= 2_000
