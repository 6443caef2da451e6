"""Webhooks: written with the change, signed, sent to public addresses only, retried, shown."""

import contextlib
import json
import socket
import threading
from datetime import timedelta

import pytest
import time_machine
from django.core import mail
from django.db import connection, transaction
from django.utils import timezone
from ssrfguard.httpx import Client
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from chirp_dashboard.organizations import sending
from chirp_dashboard.organizations.forms import KEPT
from chirp_dashboard.organizations.models import (
    Delivery,
    Mail,
    Webhook,
    WebhookEvent,
    rotate_secret,
    secret_of,
)
from chirp_dashboard.organizations.models.deliveries import RETRIES, SWITCHED_OFF_AFTER

from ..numbers.conftest import number, prices, purchase, stock
from .receiver import Receiver

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db
EVERY = list(WebhookEvent.values)


def hook(application, url="https://hooks.example/x", events=EVERY, headers=None):
    return Webhook.objects.create(
        application=application, url=url, events=list(events), headers=headers or {}
    )


@pytest.fixture
def receiver(tmp_path, monkeypatch):
    receiver = Receiver(tmp_path)
    monkeypatch.setattr(sending, "make_client", receiver.client)
    yield receiver
    receiver.close()


def told():
    return [
        (each.webhook.application.slug, each.event.removeprefix("phone_numbers."))
        for each in Delivery.objects.select_related("webhook__application").order_by("pk")
    ]


# What is written ------------------------------------------------------------------------------


def test_each_application_is_told_with_its_own_settings(number, storefront, alerts, owner):
    hook(storefront)
    hook(alerts, events=["phone_numbers.released"])
    at = timezone.now()
    number.assign(storefront, by=owner, at=at)
    number.assign(alerts, by=owner, at=at)
    number.release(when="now", by=owner, at=at)
    assert told() == [
        ("storefront", "assigned"),
        ("storefront", "released"),
        ("alerts", "released"),
    ]


def test_life_of_a_number_is_told(number, storefront, alerts, owner):
    hook(storefront), hook(alerts)
    at = timezone.now()
    number.assign(storefront, by=owner, at=at)
    number.move(storefront, alerts, by=owner, at=at + timedelta(seconds=1))
    number.release(when="period_end", by=owner, at=at + timedelta(seconds=2))
    number.cancel_release(by=owner, at=at + timedelta(seconds=3))
    number.release(when="now", by=owner, at=at + timedelta(seconds=4))
    number.undo_release(by=owner, at=at + timedelta(seconds=5))
    number.remove(alerts, by=owner, at=at + timedelta(seconds=6))
    assert told() == [
        ("storefront", "assigned"), ("storefront", "removed"), ("alerts", "assigned"),
        ("alerts", "releasing"), ("alerts", "released"), ("alerts", "restored"),
        ("alerts", "removed"),
    ]  # fmt: skip


def test_purchase_for_an_application_is_told(purchase, stock, storefront):
    hook(storefront)
    (bought,) = purchase(stock[0], application=storefront)
    assert told() == [("storefront", "purchased")]
    data = Delivery.objects.get().body["data"]
    assert data["phoneNumber"]["phoneNumberId"] == bought.public_id
    assert data["app"] == {"id": storefront.public_id, "name": "Storefront"}


def test_what_is_rolled_back_was_never_told(number, storefront, owner):
    hook(storefront)
    with transaction.atomic():
        number.assign(storefront, by=owner, at=timezone.now())
        transaction.set_rollback(True)
    assert told() == []


# How it is sent -------------------------------------------------------------------------------


def test_delivery_is_signed_as_the_public_library_wants(receiver, number, storefront, owner):
    webhook = hook(storefront, receiver.url, headers={"X-Token": "kept secret"})
    number.assign(storefront, by=owner, at=timezone.now())
    assert sending.send_due() == 1
    ((headers, body),) = receiver.received
    assert Verifier(secret_of(webhook, 1)).verify(body, headers) == json.loads(body)
    assert headers["X-Token"] == "kept secret"
    delivery = Delivery.objects.get()
    assert (delivery.state, headers["webhook-id"]) == ("delivered", delivery.message_id)
    attempt = delivery.attempts.get()
    assert (attempt.status, attempt.answer) == (200, "Thank you")
    with pytest.raises(WebhookVerificationError):
        Verifier(secret_of(webhook, 1)).verify(body + " ", headers)


def test_two_secrets_sign_for_a_day_after_a_rotation(receiver, storefront, owner):
    webhook = hook(storefront, receiver.url)
    old, new = secret_of(webhook, 1), rotate_secret(webhook, by=owner, at=timezone.now())
    assert new != old
    Delivery.objects.test(webhook, at=timezone.now())
    sending.send_due()
    headers, body = receiver.received[0]
    for secret in (old, new):
        Verifier(secret).verify(body, headers)
    Webhook.objects.update(rotated_at=timezone.now() - timedelta(days=2))
    Delivery.objects.test(webhook, at=timezone.now())
    sending.send_due()
    headers, body = receiver.received[1]
    Verifier(new).verify(body, headers)
    with pytest.raises(WebhookVerificationError):
        Verifier(old).verify(body, headers)


@pytest.mark.parametrize("answer", [500, 404, "redirect", "drop"])
def test_failure_is_tried_again_five_times(receiver, storefront, answer):
    receiver.answers = [answer]
    Delivery.objects.test(hook(storefront, receiver.url), at=timezone.now())
    with time_machine.travel(timezone.now(), tick=False) as clock:
        for wait in (*RETRIES, None):
            assert sending.send_due() == 1
            assert sending.send_due() == 0, "not before its time"
            if wait:
                clock.shift(wait * 1.2 + timedelta(seconds=1))
    delivery = Delivery.objects.get()
    assert (delivery.state, delivery.tries) == ("failed", 6)
    assert len({headers["webhook-id"] for headers, _ in receiver.received}) == 1
    assert len({body for _, body in receiver.received}) == 1
    assert delivery.attempts.count() == 6


def test_slow_receiver_ends_after_five_seconds_and_holds_up_nobody(
    receiver, storefront, alerts, monkeypatch
):
    monkeypatch.setattr(sending, "SECONDS", 1)
    receiver.answers = ["hang", 200]
    Delivery.objects.test(hook(storefront, receiver.url), at=timezone.now())
    Delivery.objects.test(hook(alerts, receiver.url), at=timezone.now())
    sending.send_due()
    states = sorted(Delivery.objects.values_list("state", flat=True))
    assert states == ["delivered", "pending"]


@pytest.mark.django_db(transaction=True)
def test_two_workers_send_each_delivery_once(receiver, storefront):
    webhook = hook(storefront, receiver.url)
    for _ in range(20):
        Delivery.objects.test(webhook, at=timezone.now())
    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(receiver.received) == 20


def work():
    try:
        sending.send_due(limit=5), sending.send_due(limit=5)
    finally:
        connection.close()


def test_webhook_removed_while_a_batch_is_sent_keeps_no_other_from_its_record(
    storefront, monkeypatch
):
    removed, other = hook(storefront), hook(storefront)
    for webhook in (removed, other):
        Delivery.objects.test(webhook, at=timezone.now())

    def make_client():  # what is due was claimed, nothing was sent yet
        Webhook.objects.get(pk=removed.pk).delete()
        return contextlib.nullcontext()

    done = sending.Result(ok=True, status=200, milliseconds=1)
    monkeypatch.setattr(sending, "make_client", make_client)
    monkeypatch.setattr(sending, "post", lambda *sent: done)
    assert sending.send_due() == 2
    delivery = Delivery.objects.get()
    assert (delivery.webhook, delivery.state) == (other, Delivery.State.DELIVERED)


def test_days_of_failure_switch_it_off_with_a_mail(receiver, storefront, owner):
    receiver.answers = [500]
    webhook = hook(storefront, receiver.url)
    with time_machine.travel(timezone.now(), tick=False) as clock:
        Delivery.objects.test(webhook, at=timezone.now())
        sending.send_due()
        clock.shift(SWITCHED_OFF_AFTER)
        Delivery.objects.update(tries=5, next_try_at=timezone.now())
        sending.send_due()
    webhook.refresh_from_db()
    assert webhook.disabled_at is not None
    assert Mail.objects.get(kind="webhook_switched_off").to == [owner.email]
    assert mail.outbox == []
    storefront.set_webhook(url=webhook.url, events=EVERY, headers={}, by=owner, at=timezone.now())
    webhook.refresh_from_db()
    assert (webhook.disabled_at, webhook.failing_since) == (None, None)


def test_switched_off_webhook_is_told_nothing(number, storefront, owner):
    Webhook.objects.filter(pk=hook(storefront).pk).update(disabled_at=timezone.now())
    number.assign(storefront, by=owner, at=timezone.now())
    assert told() == []


def test_redelivery_sends_the_same_message_again(receiver, storefront, owner):
    Delivery.objects.test(hook(storefront, receiver.url), at=timezone.now())
    sending.send_due()
    Delivery.objects.get().redeliver(by=owner, at=timezone.now())
    sending.send_due()
    first, second = receiver.received
    assert first[0]["webhook-id"] == second[0]["webhook-id"]
    assert first[1] == second[1]


# Where it must not go -------------------------------------------------------------------------


@pytest.fixture
def canary():
    """A listener on loopback that nothing may reach."""
    listener = socket.create_server(("127.0.0.1", 8443))
    listener.settimeout(0.05)
    yield listener
    with pytest.raises(TimeoutError):
        listener.accept()
    listener.close()


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "2130706433", "0x7f000001", "0177.0.0.1",
     "[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[64:ff9b::7f00:1]", "169.254.169.254", "10.0.0.1",
     "192.168.1.1", "172.16.0.1", "100.64.0.1", "[fe80::1]", "[fd00::1]", "①②⑦.0.0.1", "127。0。0。1",
     "user@127.0.0.1", "224.0.0.1", "255.255.255.255", "[::]"],
)  # fmt: skip
def test_nothing_is_sent_to_an_address_that_is_not_public(canary, host):
    with sending.make_client() as client:
        result = sending.post(client, f"https://{host}:8443/hooks", b"{}", {})
    assert not result.ok
    assert result.status is None


def test_name_that_turns_private_after_the_check_is_not_followed(canary):
    """Rebinding: the name answers with a public address first and with loopback afterwards."""
    answers = [["93.184.215.14"], ["127.0.0.1"], ["127.0.0.1"]]

    def resolver(host, port, *args, **options):
        found = answers.pop(0) if len(answers) > 1 else answers[0]
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in found]

    client = Client(policy=sending.POLICY, resolver=resolver, timeout=1, trust_env=False)
    with client:
        for _ in range(3):
            result = sending.post(client, "https://hooks.example:8443/", b"{}", {})
            assert not result.ok


def test_name_with_a_public_and_a_private_address_is_refused(canary):
    def resolver(host, port, *args, **options):
        return [
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port))
            for address in ("93.184.215.14", "127.0.0.1")
        ]

    with Client(policy=sending.POLICY, resolver=resolver, timeout=1, trust_env=False) as client:
        result = sending.post(client, "https://hooks.example:8443/", b"{}", {})
    assert "not a public one" in result.error


def test_redirect_to_a_private_address_is_not_followed(receiver):
    receiver.answers = ["redirect"]
    with receiver.client() as client:
        result = sending.post(client, receiver.url, b"{}", {})
    assert (result.ok, result.status) == (False, 302)
    assert len(receiver.received) == 1


@pytest.mark.parametrize("url", ["http://example.com/", "ftp://example.com/", "file:///etc/passwd"])
def test_other_schemes_are_refused(url):
    with sending.make_client() as client:
        assert not sending.post(client, url, b"{}", {}).ok


def test_without_the_guard_the_canary_would_hear_it(receiver):
    """The negative control: the same request through an unguarded policy arrives."""
    with receiver.client() as client:
        assert sending.post(client, receiver.url, b"{}", {}).ok
    assert len(receiver.received) == 1


# Through the API ------------------------------------------------------------------------------

WANTED = {
    "url": "https://example.com/hooks",
    "events": ["phone_numbers.assigned"],
    "headers": {"X-A": "b"},
}


def test_application_keeps_its_webhooks_itself(app_call, storefront):
    made = app_call("POST", "/webhooks", WANTED)
    assert made.status_code == 201
    body = made.json()
    assert body["secret"].startswith("whsec_")
    assert "secret" not in app_call("GET", f"/webhooks/{body['id']}").json()
    changed = app_call("PUT", f"/webhooks/{body['id']}", {"url": "https://example.org/"})
    assert changed.json()["url"] == "https://example.org/"
    assert Webhook.objects.get().headers == {"X-A": "b"}, "not shown, and kept"
    shown = app_call("GET", f"/webhooks/{body['id']}").json()
    listed = app_call("GET", "/webhooks").json()["webhooks"]
    for each in (body, changed.json(), shown, *listed):
        assert each["headers"] == {"X-A": KEPT}
    assert app_call("DELETE", f"/webhooks/{body['id']}").status_code == 200
    assert app_call("GET", "/webhooks").json() == {"webhooks": []}


def test_a_program_may_want_the_same_twice(app_call, storefront):
    ids = {app_call("POST", "/webhooks", WANTED).json()["id"] for _ in range(2)}
    assert ids == set(storefront.webhooks.values_list("public_id", flat=True))
    assert len(ids) == 2


def test_admin_key_does_the_same_for_any_app(admin_call, rival_call, storefront):
    base = f"/organization/apps/{storefront.public_id}/webhooks"
    made = admin_call("POST", base, WANTED).json()
    assert admin_call("GET", f"{base}/{made['id']}").json()["events"] == WANTED["events"]
    assert rival_call("GET", base).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [({"url": "http://example.com/"}, "url"), ({"url": "https://127.0.0.1/"}, "url"),
     ({"url": "https://localhost/"}, "url"), ({"events": ["nothing"]}, "events[0]"),
     ({"events": []}, "events"), ({"headers": {"Host": "x"}}, "headers"),
     ({"headers": {"X": "a\r\nEvil: b"}}, "headers.X"), ({"url": 7}, "url")],
)  # fmt: skip
def test_webhook_that_makes_no_sense_is_400(app_call, change, param):
    answer = app_call("POST", "/webhooks", WANTED | change)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)
    assert not Webhook.objects.exists()
