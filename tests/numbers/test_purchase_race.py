"""Fifty buyers over live HTTP want the same numbers at the same moment."""

import random
import threading
import urllib.error
import urllib.request
from collections import Counter
from contextlib import contextmanager
from functools import partial
from urllib.parse import urlencode

import pytest
from django.conf import settings
from django.db import connection
from django.test import Client
from django.utils import timezone

from chirp_dashboard.billing.models import Charge
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.carriers import StockCarrier
from chirp_dashboard.numbers.models import InventoryNumber, Order, PhoneNumber
from chirp_dashboard.organizations.models import Membership, Organization, User

from .conftest import in_stock, quoted

BUYERS = 50
CSRF = "a" * 32

pytestmark = pytest.mark.django_db(transaction=True)


class Buyer:
    """The owner of an organization of their own, signed in, at the quote page."""

    def __init__(self, name, address):
        self.organization = Organization.objects.create(name=name, slug=name)
        user = User.objects.create_user(f"{name}@buyers.example")
        Membership.objects.create(organization=self.organization, user=user, role="owner")
        client = Client()
        client.force_login(user)
        session = client.cookies[settings.SESSION_COOKIE_NAME].value
        self.cookies = f"{settings.SESSION_COOKIE_NAME}={session}; csrftoken={CSRF}"
        self.address = f"{address}/o/{name}/numbers/purchase/quote/"

    def complete(self, rows, *, total, key):
        """POST the quote's form; returns the status and where it led to."""
        form = [("csrfmiddlewaretoken", CSRF), ("expected_total", total), ("idempotency_key", key)]
        form += [("number", f"{row.country}:{row.number}") for row in rows]
        request = urllib.request.Request(
            self.address, data=urlencode(form).encode(), headers={"Cookie": self.cookies}
        )
        try:
            with opener.open(request, timeout=60) as response:
                return response.status, response.read().decode()
        except urllib.error.HTTPError as answer:
            return answer.code, answer.read().decode()


class NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *args):
        return None


opener = urllib.request.build_opener(NoRedirects)


@pytest.fixture
def buyers(live_server, prices):
    return [Buyer(f"buyer-{n}", live_server.url) for n in range(BUYERS)]


def at_once(tasks):
    """Run `tasks` in threads that all start at the same moment; their results in order."""
    barrier, results = threading.Barrier(len(tasks)), [None] * len(tasks)

    def run(position, task):
        barrier.wait()
        results[position] = task()

    threads = [threading.Thread(target=run, args=each) for each in enumerate(tasks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    return results


def race(buyers, baskets, *, key):
    """Every buyer completes the purchase of their basket at the same moment."""
    at = timezone.now()
    tasks = [
        partial(buyer.complete, rows, total=sum(quoted(buyer.organization, rows, at=at)), key=key)
        for buyer, rows in zip(buyers, baskets, strict=True)
    ]
    return at_once(tasks)


def sell_one(buyers, number, *, key):
    row = in_stock(number)
    return row, Counter(status for status, _ in race(buyers, [[row]] * len(buyers), key=key))


def assert_sold_once(row, answers):
    assert answers == {302: 1, 409: BUYERS - 1}
    owned = PhoneNumber.objects.get(number=row.number)
    assert Charge.objects.filter(phone_number=owned, kind="purchase_fee").count() == 1
    assert Charge.objects.filter(phone_number=owned, kind="rental").count() == 1
    assert Order.objects.filter(lines__number=row.number).count() == 1
    assert not check_books(at=timezone.now())


def test_a_number_is_sold_once(buyers):
    for round_ in range(5):
        row, answers = sell_one(buyers, f"+1212555{round_:04}", key=f"key-{round_}")
        assert_sold_once(row, answers)


@pytest.mark.slow
def test_a_number_is_sold_once_twenty_times_over(buyers):
    for round_ in range(20):
        row, answers = sell_one(buyers, f"+1212555{round_:04}", key=f"key-{round_}")
        assert_sold_once(row, answers)


def test_the_others_are_told_that_it_was_just_sold(buyers):
    row = in_stock("+12125550142")
    for status, page in race(buyers, [[row]] * BUYERS, key="key"):
        assert status == 302 or "just sold" in page.lower()


def test_overlapping_baskets_are_bought_whole_or_not_at_all(buyers):
    rows = [in_stock(f"+1212555{n:04}") for n in range(50)]
    choice = random.Random(1)
    baskets = [choice.sample(rows, choice.randint(1, 10)) for _ in buyers]
    answers = race(buyers, baskets, key="key")
    assert set(Counter(status for status, _ in answers)) <= {302, 409}
    for buyer, basket, (status, _) in zip(buyers, baskets, answers, strict=True):
        owned = PhoneNumber.objects.filter(organization=buyer.organization).count()
        assert owned == (len(basket) if status == 302 else 0)
    assert PhoneNumber.objects.count() == InventoryNumber.objects.filter(status="sold").count()
    assert not check_books(at=timezone.now())


@contextmanager
def without_guards(monkeypatch):
    """Neither the lock on the stock nor the unique index over live numbers."""
    owned_once = next(
        c for c in PhoneNumber._meta.constraints if c.name == "phone_number_owned_once"
    )
    inventory = StockCarrier().inventory
    monkeypatch.setattr(
        StockCarrier, "_locked", lambda self, numbers: list(inventory.among(numbers))
    )
    with connection.schema_editor() as editor:
        editor.remove_constraint(PhoneNumber, owned_once)
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute("SET session_replication_role = replica")
            cursor.execute("TRUNCATE numbers_phonenumber CASCADE")
            cursor.execute("SET session_replication_role = DEFAULT")
        with connection.schema_editor() as editor:
            editor.add_constraint(PhoneNumber, owned_once)


def test_control_without_its_guards_a_number_is_sold_twice(buyers, monkeypatch):
    """Were this ever to pass with the guards off, the race above would prove nothing."""
    with without_guards(monkeypatch):
        sold = 0
        for round_ in range(5):
            _, answers = sell_one(buyers, f"+1212555{round_:04}", key=f"key-{round_}")
            sold = max(sold, answers[302])
        assert sold > 1
        assert any(broken.invariant == "I1" for broken in check_books(at=timezone.now()))


def test_the_same_form_sent_twenty_times_is_one_order(buyers):
    row, buyer, at = in_stock("+12125550142"), buyers[0], timezone.now()
    total = sum(quoted(buyer.organization, [row], at=at))
    answers = at_once([partial(buyer.complete, [row], total=total, key="same")] * 20)
    assert {status for status, _ in answers} == {302}
    assert Order.objects.count() == PhoneNumber.objects.count() == 1
    status, _ = buyer.complete([in_stock("+12125550143")], total=total, key="same")
    assert status == 409
    assert Order.objects.count() == 1
