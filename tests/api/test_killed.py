"""The web process is killed while a request with an Idempotency-Key is worked: a repeat does it once."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack, nullcontext
from datetime import timedelta
from types import SimpleNamespace

import psycopg
import pytest
import time_machine
from django.conf import settings
from django.db import connection, transaction
from django.utils import timezone

from chirp_dashboard.api import door, waiting
from chirp_dashboard.api.models import Answer as Given
from chirp_dashboard.billing.models import Payment, TestAuthorisation
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, PhoneNumber
from chirp_dashboard.organizations.models import ApiKey, Application, Organization

from ..numbers.conftest import NOON, in_stock, prices
from ..numbers.test_interrupted_orders import KillAt, Killed
from .conftest import make_key

__all__ = ["prices"]

pytestmark = pytest.mark.django_db(transaction=True)
LEASE_IS_OVER = timedelta(minutes=2)


@pytest.fixture(autouse=True)
def unhurried(monkeypatch):
    """No limit in the way, and no waiting."""
    monkeypatch.setattr(door, "PER_MINUTE", {"general": 10**9, "management": 10**9})
    monkeypatch.setattr(waiting, "PATIENCE", waiting.Patience(longest=0))


# At any statement -----------------------------------------------------------------------------


def killed(number, ask):
    """Ask, and be killed at statement `number`; was there one?"""
    killing = KillAt(number)
    try:
        with connection.execute_wrapper(killing):
            ask()
    except Killed:
        pass
    return killing.seen >= number


def asked_killed_at(numbers, ask_for, *, effect):
    """For each number a request that is killed at that statement, then sent until it is answered for good."""
    with time_machine.travel(NOON, tick=False) as clock:
        for done, number in enumerate(numbers, 1):
            ask = ask_for(number)
            came_so_far = killed(number, ask)
            answer = ask()
            assert answer.status_code in {201, 202}, answer.content
            if answer.status_code == 202:
                clock.shift(LEASE_IS_OVER)
                answer = ask()
            again = ask()
            assert (answer.status_code, again.status_code) == (201, 201), answer.content
            assert again.json() == answer.json()
            assert again.headers["Idempotent-Replayed"] == "true"
            assert effect() == done
            yield came_so_far
        assert check_books(at=NOON + timedelta(hours=8)) == []


def sample(count, *, size=4):
    return sorted({1, *random.Random(20261123).sample(range(1, count + 1), size)})


def for_an_app(call):
    def ask_for(number):
        shop = {"slug": f"shop-{number}", "name": "Shop"}
        return lambda: call("POST", "/organization/apps", shop, Idempotency_Key=f"k-{number}")

    return ask_for


def for_a_number(call, application):
    """Orders, and every other time a purchase."""

    def ask_for(number):
        row = in_stock(f"+1212556{number:04}")
        path, body = (
            "/organization/orders",
            {"lines": [{"phoneNumber": row.number}], "expectedTotal": 127},
        )
        if number % 2:
            path = f"/organization/phone-numbers/{application.public_id}/purchase"
            body = {"phoneNumber": row.number, "numberType": "local"}
        return lambda: call("POST", path, body, Idempotency_Key=f"k-{number}")

    return ask_for


@pytest.fixture
def prepaying(organization):
    organization.gateway = "test"
    organization.save()


def authorised_once_each():
    states = set(TestAuthorisation.objects.values_list("state", "captured"))
    assert states == {("captured", 127)}
    payments = Payment.objects.count()
    assert Order.objects.count() == TestAuthorisation.objects.count() == payments
    return payments


def test_app_killed_at_some_statements_is_made_once(admin_call):
    asked = asked_killed_at(sample(10), for_an_app(admin_call), effect=Application.objects.count)
    assert all(asked)


def test_number_killed_at_some_statements_is_purchased_once(admin_call, prices, storefront):
    ask_for = for_a_number(admin_call, storefront)
    assert all(asked_killed_at(sample(11), ask_for, effect=PhoneNumber.objects.count))


def test_prepaid_number_killed_at_some_statements_is_collected_once(
    admin_call, prices, storefront, prepaying
):
    ask_for = for_a_number(admin_call, storefront)
    assert all(asked_killed_at(sample(70, size=6), ask_for, effect=authorised_once_each))


class KillBeforeAnswer(KillAt):
    """Kills just before the answer is stored."""

    def __call__(self, execute, sql, parameters, many, context):
        self.number = self.seen + 1 if 'INTO "api_answer"' in sql else 0
        return super().__call__(execute, sql, parameters, many, context)


def keys_after_a_kill(call):
    def ask():
        return call("POST", "/organization/admin-keys", {"name": "Van"}, Idempotency_Key="k")

    with pytest.raises(Killed), connection.execute_wrapper(KillBeforeAnswer(0)):
        ask()
    assert ask().status_code == 201
    return ApiKey.objects.filter(name="Van").count()


def test_request_killed_before_its_answer_is_stored_has_done_nothing(admin_call):
    assert keys_after_a_kill(admin_call) == 1


def test_control_without_one_transaction_it_is_done_twice(admin_call, monkeypatch):
    apart = SimpleNamespace(atomic=nullcontext, set_rollback=transaction.set_rollback)
    monkeypatch.setattr(door, "transaction", apart)
    assert keys_after_a_kill(admin_call) == 2


@pytest.mark.slow
def test_app_killed_at_every_statement_is_made_once(admin_call):
    asked = asked_killed_at(range(1, 40), for_an_app(admin_call), effect=Application.objects.count)
    assert not list(asked)[-1]


@pytest.mark.slow
def test_number_killed_at_every_statement_is_purchased_once(admin_call, prices, storefront):
    ask_for = for_a_number(admin_call, storefront)
    assert not list(asked_killed_at(range(1, 60), ask_for, effect=PhoneNumber.objects.count))[-1]


@pytest.mark.slow
def test_prepaid_number_killed_at_every_statement_is_collected_once(
    admin_call, prices, storefront, prepaying
):
    ask_for = for_a_number(admin_call, storefront)
    assert not list(asked_killed_at(range(1, 160), ask_for, effect=authorised_once_each))[-1]


# With kill -9 ---------------------------------------------------------------------------------

VICTIM = "victim"
WAITING = """
    SELECT count(*) FROM pg_stat_activity
    WHERE datname = current_database() AND application_name = %s AND %s = ANY (pg_blocking_pids(pid))
"""
LOCKED = """
    SELECT count(*) FROM pg_locks JOIN pg_stat_activity activity USING (pid)
    WHERE locktype = 'advisory' AND application_name = %s AND datname = current_database()
"""
THERE = """
    SELECT count(*) FROM pg_stat_activity
    WHERE application_name = %s AND datname = current_database()
"""


def scalar(statement, *values):
    with connection.cursor() as cursor:
        cursor.execute(statement, values)
        return cursor.fetchone()[0]


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.05)


class Victim:
    """The web server as the Procfile starts it, in a group of processes that can be killed at once."""

    def __init__(self, environment):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.process = subprocess.Popen(
            [
                sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws", "--workers", "1",
                "--blocking-threads", "4", "--port", str(self.port),
                "chirp_dashboard.wsgi:application",
            ],
            cwd=settings.BASE_DIR, env=environment | {"PGAPPNAME": VICTIM},
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        )  # fmt: skip

    def answers(self):
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/healthz", timeout=5):
                return True
        except OSError:
            return False

    def ask(self, call, path, body, name):
        """POST in a thread; nobody will answer."""
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}/v1{path}", json.dumps(body).encode(),
            {"Authorization": f"Bearer {call.secret}", "Content-Type": "application/json",
             "Idempotency-Key": name},
        )  # fmt: skip
        thread = threading.Thread(target=self._send, args=[request], daemon=True)
        thread.start()
        return thread

    def _send(self, request):
        try:
            urllib.request.urlopen(request, timeout=60).close()
        except (OSError, urllib.error.HTTPError):
            return
        raise AssertionError("It was answered before it was killed.")

    def kill(self):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(30)


@pytest.fixture
def victim(process_environment):
    victim = Victim(process_environment)
    yield victim
    victim.kill()


class Obstacle:
    """A lock of another connection, in the way of the victim."""

    def __init__(self, database_url, statement, *values):
        self.line = psycopg.connect(database_url)
        self.line.execute(statement, values)

    def stops(self, requests):
        pid = self.line.info.backend_pid
        eventually(lambda: scalar(WAITING, VICTIM, pid) == requests)

    def go(self):
        self.line.close()


@pytest.fixture
def obstacle(database_url):
    with ExitStack() as stack:

        def obstacle(statement, *values):
            made = Obstacle(database_url, statement, *values)
            stack.callback(made.go)
            return made

        yield obstacle


@pytest.fixture
def payer(owner):
    """An application of another organization, which pays its orders through a gateway."""
    payer = Organization.objects.create(name="Payer", slug="payer", gateway="test")
    return Application.objects.create(organization=payer, name="Van", slug="van")


def purchasing(application, row, name):
    path = f"/organization/phone-numbers/{application.public_id}/purchase"
    return path, {"phoneNumber": row.number, "numberType": "local"}, name


def repeat(call, asked):
    path, body, name = asked
    return call("POST", path, body, Idempotency_Key=name)


def test_web_server_killed_in_the_middle_of_three_requests(
    victim, obstacle, admin_call, storefront, owner, payer, prices
):
    """An app before its commit; a purchase before its answer is stored; another just when it was authorised."""
    payer_call = make_key(payer.organization, owner)
    shop = ("/organization/apps", {"slug": "shop", "name": "Shop"}, "k-1")
    billed = purchasing(storefront, in_stock("+12125550142"), "k-2")
    prepaid = purchasing(payer, in_stock("+12125550143"), "k-3")
    answers = obstacle("LOCK TABLE api_answer IN EXCLUSIVE MODE")
    gateway = obstacle("LOCK TABLE billing_testauthorisation IN EXCLUSIVE MODE")

    eventually(victim.answers)
    victim.ask(admin_call, *shop)
    victim.ask(admin_call, *billed)
    victim.ask(payer_call, *prepaid)
    answers.stops(2)
    gateway.stops(1)
    authorised = obstacle(
        "SELECT FROM billing_standing JOIN organizations_organization payer ON payer.id = organization_id"
        " WHERE slug = 'payer' FOR NO KEY UPDATE"
    )
    gateway.go()
    authorised.stops(1)
    victim.kill()

    assert scalar(LOCKED, VICTIM) == 1, (
        "a server whose client died notices when it has to wait no more"
    )
    refused = repeat(admin_call, shop)
    assert (refused.status_code, refused.headers["Retry-After"]) == (409, "1")
    answers.go()
    authorised.go()
    eventually(lambda: not scalar(THERE, VICTIM))
    assert not Application.objects.filter(slug="shop").exists()
    assert not Given.objects.exists()
    assert sorted(Order.objects.values_list("gateway", "state")) == [
        ("account", "completed"), ("test", "placed"),
    ]  # fmt: skip
    assert TestAuthorisation.objects.get().state == "authorised"

    assert repeat(payer_call, prepaid).status_code == 202, "the dead one's turn is not over"
    Order.objects.filter(state="placed").update(next_look_at=timezone.now())
    asked = ((admin_call, shop), (admin_call, billed), (payer_call, prepaid))
    for call, request in asked:
        first, again = repeat(call, request), repeat(call, request)
        assert (first.status_code, again.json()) == (201, first.json())
        assert again.headers["Idempotent-Replayed"] == "true"
    assert TestAuthorisation.objects.get().state == "captured"
    assert Application.objects.filter(slug="shop").count() == 1
    assert Order.objects.count() == PhoneNumber.objects.count() == 2
