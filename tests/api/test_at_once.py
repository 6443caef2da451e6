"""Many requests over live HTTP at the same moment: one effect, and a plain answer for everybody."""

import http.client
import json
import random
import threading
from collections import Counter
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from itertools import count
from urllib.parse import urlsplit

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from chirp_dashboard.api import door
from chirp_dashboard.api.models import Answer as Given
from chirp_dashboard.api.models import Window
from chirp_dashboard.api.routers import numbers as routes
from chirp_dashboard.billing.models import Charge, Rental, TestAuthorisation
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.carriers import StockCarrier
from chirp_dashboard.numbers.models import Assignment, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.numbers.models.orders import OrderQuerySet
from chirp_dashboard.organizations.models import (
    Activity,
    ApiKey,
    Application,
    Organization,
    Webhook,
)

from ..numbers.conftest import NOON, in_stock, number, prices, purchase, quoted, stock
from ..numbers.test_at_once import Meanwhile
from ..numbers.test_purchase_race import at_once, without_guards

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db(transaction=True)
BUYERS, CLICKS = 50, 20


@pytest.fixture(autouse=True)
def noon():
    """No midnight and no new minute comes between two requests."""
    with time_machine.travel(NOON, tick=False):
        yield


@dataclass
class Answer:
    status: int
    headers: dict
    body: dict


class Program:
    """Calls `address` with the key `secret`."""

    def __init__(self, address, secret):
        self.host, self.secret = urlsplit(address).netloc, secret

    def __call__(self, method, path, body=None, **headers):
        given = {"Authorization": f"Bearer {self.secret}", "Connection": "close"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        if body is not None:
            body, given["Content-Type"] = json.dumps(body), "application/json"
        line = http.client.HTTPConnection(self.host, timeout=60)
        try:
            line.request(method, f"/v1{path}", body, given)
            answer = line.getresponse()
            return Answer(answer.status, dict(answer.headers), json.loads(answer.read()))
        finally:
            line.close()


@pytest.fixture
def program(live_server, owner):
    """`program(organization, application)`: a program with a new key of theirs."""

    def program(organization, application=None):
        _, secret = ApiKey.objects.issue(
            organization, name="Tests", application=application, by=owner, at=NOON
        )
        return Program(live_server.url, secret)

    return program


# The race -------------------------------------------------------------------------------------


class Buyer:
    """A program that purchases: every other one for an application, the rest by an order."""

    def __init__(self, position, organization, application, call):
        self.organization, self.application, self.call = organization, application, call
        self.orders = position % 2

    def buy(self, rows):
        key = rows[0].number
        if self.orders or len(rows) > 1:
            total = sum(quoted(self.organization, rows, at=NOON))
            body = {"lines": [{"phoneNumber": row.number} for row in rows], "expectedTotal": total}
            return partial(self.call, "POST", "/organization/orders", body, Idempotency_Key=key)
        path = f"/organization/phone-numbers/{self.application.public_id}/purchase"
        body = {"phoneNumber": rows[0].number, "numberType": "local"}
        return partial(self.call, "POST", path, body, Idempotency_Key=key)


@pytest.fixture
def buyers(program, prices):
    """Fifty keys of ten organizations, each with an application."""
    found = []
    for place in range(BUYERS // 5):
        organization = Organization.objects.create(name=f"Buyer {place}", slug=f"buyer-{place}")
        application = Application.objects.create(
            organization=organization, name="Shop", slug=f"shop-{place}"
        )
        found += [
            Buyer(position, organization, application, program(organization))
            for position in range(5)
        ]
    return found


def race(buyers, baskets):
    return at_once([buyer.buy(rows) for buyer, rows in zip(buyers, baskets, strict=True)])


def sell_one(buyers, number):
    row = in_stock(number)
    return row, race(buyers, [[row]] * BUYERS)


def assert_sold_once(row, answers):
    assert Counter(answer.status for answer in answers) == {201: 1, 409: BUYERS - 1}
    for answer in answers:
        if answer.status == 409:
            assert answer.body["error"]["code"] == "number_unavailable"
    owned = PhoneNumber.objects.get(number=row.number)
    assert Charge.objects.filter(phone_number=owned, kind="purchase_fee").count() == 1
    assert Charge.objects.filter(phone_number=owned, kind="rental").count() == 1
    assert Order.objects.filter(lines__number=row.number).count() == 1
    assert not check_books(at=NOON)


def sell(buyers, *, rounds):
    for round_ in range(rounds):
        assert_sold_once(*sell_one(buyers, f"+1212555{round_:04}"))


def test_a_number_is_sold_once(buyers):
    sell(buyers, rounds=2)


@pytest.mark.slow
def test_a_number_is_sold_once_twenty_times_over(buyers):
    sell(buyers, rounds=20)


def test_control_without_its_guards_a_number_is_sold_twice(buyers, monkeypatch):
    """Two read that it is for sale before one of them has purchased it."""
    together, callers, inventory = (
        threading.Barrier(2, timeout=30),
        count(),
        StockCarrier().inventory,
    )

    def read_together(self, numbers):
        rows = list(inventory.among(numbers))
        if next(callers) < 2:
            together.wait()
        return rows

    with without_guards(monkeypatch):
        monkeypatch.setattr(StockCarrier, "_locked", read_together)
        _, answers = sell_one(buyers, "+12125550199")
        assert [answer.status for answer in answers].count(201) > 1
        assert any(broken.invariant == "I1" for broken in check_books(at=NOON))


@pytest.mark.parametrize("rounds", [1, pytest.param(20, marks=pytest.mark.slow)])
def test_overlapping_baskets_are_bought_whole_or_not_at_all(buyers, rounds):
    choice = random.Random(1)
    for round_ in range(rounds):
        rows = [in_stock(f"+121255{round_:02}{n:03}") for n in range(50)]
        baskets = [choice.sample(rows, choice.randint(1, 10)) for _ in buyers]
        bought = [
            basket
            for basket, answer in zip(baskets, race(buyers, baskets), strict=True)
            if answer.status == 201 or answer.body["error"]["code"] != "number_unavailable"
        ]
        numbers = [row.number for basket in bought for row in basket]
        owned = PhoneNumber.objects.filter(number__in=[row.number for row in rows])
        assert sorted(numbers) == sorted(owned.values_list("number", flat=True))
    assert PhoneNumber.objects.count() == InventoryNumber.objects.filter(status="sold").count()
    assert not check_books(at=NOON)


# Double clicks --------------------------------------------------------------------------------


@dataclass
class Click:
    """What is sent, and the rows of which exactly one is to come of it."""

    call: Program
    path: str
    body: dict | None
    rows: type


@pytest.fixture
def trial(organization, owner):
    return Application.objects.add(
        organization, name="Trial", slug="trial", kind=Application.Kind.TEST, by=owner, at=NOON
    )


@pytest.fixture
def click(request, program, organization, owner, storefront, alerts, trial, stock, number):
    """The request of the test's `kind`."""
    kind, admin = request.param, program(organization)
    app, named = program(organization, storefront), f"/organization/apps/{storefront.public_id}"
    owned = f"/organization/phone-numbers/{number.public_id}"
    hook = {"url": "https://hooks.example/in", "events": ["phone_numbers.assigned"]}
    wanted = {"phoneNumber": stock[1].number, "numberType": "local"}
    lines = {"lines": [{"phoneNumber": stock[1].number}], "expectedTotal": 127}
    release = partial(number.release, by=owner, at=NOON)
    if kind == "undo release":
        release(when="now")
    if kind == "cancel release":
        release(when="period_end")
    calls = {
        "order": (admin, "/organization/orders", lines, Order),
        "purchase": (
            admin, f"/organization/phone-numbers/{alerts.public_id}/purchase", wanted, PhoneNumber,
        ),
        "purchase for a test app": (
            admin, f"/organization/phone-numbers/{trial.public_id}/purchase", wanted, PhoneNumber,
        ),
        "app": (admin, "/organization/apps", {"slug": "van", "name": "Van"}, Application),
        "app key": (
            admin, "/organization/app-keys", {"name": "Van", "appId": storefront.public_id}, ApiKey,
        ),
        "admin key": (admin, "/organization/admin-keys", {"name": "Van"}, ApiKey),
        "webhook": (admin, f"{named}/webhooks", hook, Webhook),
        "own webhook": (app, "/webhooks", hook, Webhook),
        "assign": (app, "/phone-numbers", {"phoneNumberId": number.public_id}, Assignment),
        "assign to an app": (
            admin, f"{named}/phone-numbers", {"phoneNumberId": number.public_id}, Assignment,
        ),
        "undo release": (admin, f"{owned}/undo-release", None, Rental),
        "cancel release": (admin, f"{owned}/cancel-release", None, Activity),
    }  # fmt: skip
    return Click(*calls[kind])


SAMPLE = [
    "order",
    "purchase",
    "purchase for a test app",
    "app key",
    "webhook",
    "assign",
    "undo release",
]
OTHERS = ["app", "admin key", "own webhook", "assign to an app", "cancel release"]
KINDS = SAMPLE + [pytest.param(kind, marks=pytest.mark.slow) for kind in OTHERS]


def told(body):
    """What an answer says of what was made; a secret is told only once."""
    return {name: value for name, value in body.items() if name not in {"key", "secret"}}


def click_often(click):
    """Send it twenty times at once, then again, then with another body; check every answer."""
    before = click.rows.objects.count()
    ask = partial(click.call, "POST", click.path, Idempotency_Key="click-1")
    answers = at_once([partial(ask, click.body)] * CLICKS)
    assert click.rows.objects.count() == before + 1
    done = [answer for answer in answers if answer.status in {200, 201}]
    assert done
    for answer in answers:
        if answer not in done:
            assert (answer.status, answer.headers.get("Retry-After")) == (409, "1")
            assert answer.body["error"]["code"] == "idempotency_conflict"
    again = ask(click.body)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert all(told(answer.body) == told(again.body) for answer in done)
    assert {answer.status for answer in done} == {again.status}
    other = ask((click.body or {}) | {"remark": "another"})
    assert (other.status, other.body["error"]["code"]) == (422, "idempotency_conflict")
    assert click.rows.objects.count() == before + 1
    return answers, again


def test_twenty_clicks_that_are_paid_at_once_are_paid_once(program, organization, stock):
    """Who comes while the gateway is being asked waits for it, or is told where to look."""
    organization.gateway = "test"
    organization.save()
    body = {"lines": [{"phoneNumber": stock[0].number}], "expectedTotal": 127}
    ask = partial(program(organization), "POST", "/organization/orders", body, Idempotency_Key="k")
    answers = at_once([ask] * CLICKS)
    placed = Order.objects.get()
    assert (placed.state, TestAuthorisation.objects.get().captured) == ("completed", 127)
    assert {answer.body["id"] for answer in answers} == {placed.public_id}
    assert {201} <= {answer.status for answer in answers} <= {201, 202}
    assert all("Retry-After" in answer.headers for answer in answers if answer.status == 202)
    assert ask().status == 201
    assert not check_books(at=NOON)


def assert_told_once(answers):
    """A secret stands in one answer; repeats show its end, and it is kept nowhere."""
    words = [answer.body.get("key") or answer.body.get("secret") for answer in answers]
    (secret,) = [word for word in words if word and "****" not in word]
    assert secret not in Given.objects.get().body
    kind, _, end = words[-1].partition("****")
    assert secret.startswith(kind)
    assert secret.endswith(end)
    assert len(end) == 4


@pytest.mark.parametrize("click", KINDS, indirect=True)
def test_twenty_clicks_at_once_are_one(click):
    answers, again = click_often(click)
    if {"key", "secret"} & {*again.body}:
        assert_told_once([*answers, again])
    assert not check_books(at=NOON)


@pytest.mark.parametrize("click", ["app key", "purchase for a test app", "assign"], indirect=True)
def test_control_without_the_lock_clicks_get_in_each_others_way(click, monkeypatch):
    """All are let through before one of them has been answered."""
    together = threading.Barrier(CLICKS, timeout=30)

    def let_through(*args, **options):
        together.wait()

    monkeypatch.setattr(door, "lock", lambda key, name: True)
    monkeypatch.setattr(door, "given_before", let_through)
    with pytest.raises(AssertionError):
        click_often(click)


@pytest.mark.parametrize("click", ["order", "purchase"], indirect=True)
def test_control_without_its_key_an_order_is_refused_to_its_own_repeat(click, monkeypatch):
    monkeypatch.setattr(OrderQuerySet, "_with_key", lambda *args: None)
    monkeypatch.setattr(door, "given_before", lambda *args, **options: None)
    with pytest.raises(AssertionError):
        click_often(click)


# The limit ------------------------------------------------------------------------------------

LIMIT, ASKED = 10, 30


def ask_at_once(call):
    answers = at_once([partial(call, "GET", "/organization/orders")] * ASKED)
    return answers, Counter(answer.status for answer in answers)


def test_exactly_as_many_as_the_limit_pass(program, organization, monkeypatch):
    monkeypatch.setitem(door.PER_MINUTE, "general", LIMIT)
    call = program(organization)
    answers, came_to = ask_at_once(call)
    assert came_to == {200: LIMIT, 429: ASKED - LIMIT}
    left = [int(answer.headers["X-RateLimit-Remaining"]) for answer in answers]
    assert sorted(left) == [0] * (ASKED - LIMIT) + list(range(LIMIT))
    assert Window.objects.get().requests == ASKED
    with time_machine.travel(NOON + timedelta(minutes=1), tick=False):
        assert call("GET", "/organization/orders").status == 200


def test_control_counted_in_two_steps_more_pass(program, organization, monkeypatch):
    """Read, then write, as a cache would: everybody reads before anybody has written."""
    monkeypatch.setitem(door.PER_MINUTE, "general", LIMIT)
    together = threading.Barrier(ASKED, timeout=30)

    def count(self, key, *, bucket, minute):
        window, _ = Window.objects.get_or_create(
            key=key, bucket=bucket, minute=minute, defaults={"requests": 0}
        )
        together.wait()
        Window.objects.filter(pk=window.pk).update(requests=window.requests + 1)
        return window.requests + 1

    monkeypatch.setattr(type(Window.objects), "count", count)
    assert ask_at_once(program(organization))[1] == {200: ASKED}


# Two changes of the same version --------------------------------------------------------------


def set_apps_twice(call, number, applications):
    """Two programs have read the same version and each wants another application."""
    path = f"/organization/phone-numbers/{number.public_id}"
    read = call("GET", path)
    return at_once(
        [
            partial(
                call, "PUT", f"{path}/apps", {"appIds": [each.public_id]},
                If_Match=read.headers["ETag"],
            )
            for each in applications
        ]
    )  # fmt: skip


def test_one_of_two_changes_of_the_same_version_is_412(
    program, organization, number, storefront, alerts
):
    call = program(organization)
    for _ in range(3):
        answers = set_apps_twice(call, number, [storefront, alerts])
        assert sorted(answer.status for answer in answers) == [200, 412]
        (changed,) = [answer for answer in answers if answer.status == 200]
        shown = call("GET", f"/organization/phone-numbers/{number.public_id}")
        assert shown.body["apps"] == changed.body["apps"]
        assert shown.headers["ETag"] == changed.headers["ETag"]
        call("PUT", f"/organization/phone-numbers/{number.public_id}/apps", {"appIds": []})


def test_control_without_the_lock_both_changes_pass(
    program, organization, number, storefront, alerts, monkeypatch
):
    together, check = threading.Barrier(2, timeout=30), routes.check_match

    def check_together(*args):
        check(*args)
        together.wait()

    monkeypatch.setattr(routes, "check_match", check_together)
    monkeypatch.setattr(PhoneNumber, "lock", lambda self: None)
    answers = set_apps_twice(program(organization), number, [storefront, alerts])
    assert sorted(answer.status for answer in answers) == [200, 200]
    assert number.assignments.open().count() == 2, "and neither got what it asked for"


def test_change_that_slips_in_before_the_lock_is_412(program, organization, storefront):
    """The program has read the version; while it waits for the lock somebody else writes another."""
    call, path = program(organization), f"/organization/apps/{storefront.public_id}"
    read, answers = call("GET", path), []
    with transaction.atomic():
        Application.objects.get().lock()
        renaming = Meanwhile(
            lambda: answers.append(
                call("PUT", path, {"name": "Theirs"}, If_Match=read.headers["ETag"])
            )
        )
        assert renaming.waits()
        Application.objects.update(name="Ours", renamed_at=NOON)
    renaming.ends()
    assert [answer.status for answer in answers] == [412]
    assert Application.objects.get().name == "Ours"


def test_change_of_a_webhook_waits_in_turn_and_is_412(program, organization, storefront):
    """Application first, then webhook, as everybody locks them; the other way round they deadlock."""
    webhook = storefront.webhooks.create(
        url="https://hooks.example/x", events=["phone_numbers.assigned"]
    )
    path = f"/organization/apps/{storefront.public_id}/webhooks/{webhook.public_id}"
    call, answers = program(organization), []
    read = call("GET", path)
    with transaction.atomic():
        Application.objects.get().lock()
        changing = Meanwhile(
            lambda: answers.append(
                call("PUT", path, {"url": "https://theirs.example/"}, If_Match=read.headers["ETag"])
            )
        )
        assert changing.waits()
        Webhook.objects.get().lock()
        Webhook.objects.update(url="https://ours.example/")
    changing.ends()
    assert [answer.status for answer in answers] == [412]
    assert Webhook.objects.get().url == "https://ours.example/"


# A day later ----------------------------------------------------------------------------------


def test_a_key_may_be_used_again_after_a_day(admin_call):
    ask = partial(admin_call, "POST", "/organization/apps", Idempotency_Key="k")
    assert ask({"slug": "a", "name": "A"}).status_code == 201
    with time_machine.travel(NOON + timedelta(hours=24, seconds=-1), tick=False):
        assert ask({"slug": "a", "name": "A"}).headers["Idempotent-Replayed"] == "true"
        assert ask({"slug": "b", "name": "B"}).status_code == 422
    with time_machine.travel(NOON + timedelta(hours=24), tick=False):
        assert ask({"slug": "b", "name": "B"}).status_code == 201
        assert Given.objects.get().given_at == timezone.now()


def test_an_order_is_never_placed_twice_under_one_key(admin_call, stock):
    body = {"lines": [{"phoneNumber": stock[0].number}], "expectedTotal": 127}
    ask = partial(admin_call, "POST", "/organization/orders", Idempotency_Key="k")
    first = ask(body)
    with time_machine.travel(NOON + timedelta(days=3), tick=False):
        again = ask(body)
        assert (again.status_code, again.json()["id"]) == (201, first.json()["id"])
        lines = [{"phoneNumber": stock[1].number}]
        assert ask(body | {"lines": lines}).status_code == 422
    assert Order.objects.count() == 1


def test_old_answers_are_forgotten(admin_call):
    admin_call("POST", "/organization/apps", {"slug": "a", "name": "A"}, Idempotency_Key="k")
    assert Given.objects.forget_old(at=NOON + timedelta(hours=24)) == 0
    assert Given.objects.forget_old(at=NOON + timedelta(hours=24, seconds=1)) == 1
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM api_answer")
        assert cursor.fetchone()[0] == 0
