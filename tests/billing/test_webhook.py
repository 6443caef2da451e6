"""The door of the inbox: what is stored, what is refused, and what each attempt costs."""

import json
import time
from datetime import UTC, datetime, timedelta

import pytest
from django.db import InternalError, ProgrammingError, connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from procrastinate.contrib.django.models import ProcrastinateJob
from stripe import WebhookSignature

from chirp_dashboard.billing.gateways.webhooks import TOLERANCE, StripeWebhooks, Unverified
from chirp_dashboard.billing.models import InboxEvent

pytestmark = pytest.mark.django_db

ADDRESS = "/billing/stripe/webhook"
SECRET, NEXT_SECRET = "whsec_one", "whsec_next"


@pytest.fixture(autouse=True)
def configured(settings):
    settings.STRIPE_SECRET_KEY = "sk_test_nothing"
    settings.STRIPE_WEBHOOK_SECRETS = [SECRET, NEXT_SECRET]


def an_event(*, number=1, kind="payment_intent", type="payment_intent.succeeded", **facts):
    return {
        "id": f"evt_{number}", "object": "event", "type": type, "created": 1_795_000_000,
        "livemode": False, "data": {"object": {"id": f"pi_{number}", "object": kind}},
    } | facts  # fmt: skip


def sign(body, *, secret=SECRET, late=0):
    """The header for `body`, by Stripe's own SDK."""
    text = body.decode("latin-1") if isinstance(body, bytes) else body
    return WebhookSignature.generate_signature_header(text, secret, int(time.time()) - late)


def deliver(body, *, header=None, client=None, **extra):
    """POST `body` (a dict, text or bytes) as Stripe would, signed unless `header` says otherwise."""
    body = json.dumps(body) if isinstance(body, dict) else body
    headers = {"Stripe-Signature": sign(body) if header is None else header}
    return (client or Client()).post(
        ADDRESS, body, content_type="application/json", headers=headers, **extra
    )


def refused(response, reason, *, status=400):
    assert response.status_code == status
    assert reason in response.content.decode()
    assert response["Content-Type"].startswith("text/plain")
    assert not InboxEvent.objects.exists()
    assert not ProcrastinateJob.objects.exists()


# Stored ---------------------------------------------------------------------------------------


def test_event_is_stored_as_it_came_and_its_work_is_queued():
    body = json.dumps(an_event(), indent=3) + "  \n"
    response = deliver(body)
    assert response.status_code == 200
    stored = InboxEvent.objects.get()
    assert stored.body == body
    assert (stored.gateway, stored.event_id, stored.object_id) == ("stripe", "evt_1", "pi_1")
    assert (stored.type, stored.state, stored.tries) == ("payment_intent.succeeded", "received", 0)
    assert stored.happened_at == datetime.fromtimestamp(1_795_000_000, UTC)
    assert ProcrastinateJob.objects.get().task_name.endswith("work_inbox")


def test_address_has_no_slash_at_its_end_and_needs_no_token():
    assert reverse("stripe_webhook") == ADDRESS
    assert deliver(an_event(), client=Client(enforce_csrf_checks=True)).status_code == 200


def test_event_delivered_again_is_answered_and_stored_once():
    first, other = an_event(), an_event(livemode=True, type="charge.failed")
    assert [deliver(event).status_code for event in (first, first, other)] == [200, 200, 200]
    assert InboxEvent.objects.get().type == "payment_intent.succeeded"


def test_same_id_of_another_gateway_is_another_event():
    deliver(an_event())
    InboxEvent(
        gateway="other", event_id="evt_1", type="t", body="{}",
        happened_at=datetime.now(UTC), received_at=datetime.now(UTC),
    ).insert_once()  # fmt: skip
    assert InboxEvent.objects.count() == 2


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        (an_event(kind="balance", type="balance.available"), "Nothing here depends on balance.available"),
        (an_event(kind="hologram", type="hologram.lit"), "Nothing here depends on hologram.lit"),
        (an_event(livemode=True), "It is of live mode and this deployment uses test mode"),
        (an_event(account="acct_other"), "It is of another account, acct_other"),
    ],
)  # fmt: skip
def test_event_that_is_not_for_us_is_kept_with_the_reason(event, reason):
    assert deliver(event).status_code == 200
    stored = InboxEvent.objects.get()
    assert (stored.state, stored.next_try_at) == ("ignored", None)
    assert reason in stored.error


def test_live_key_ignores_test_events(settings):
    settings.STRIPE_SECRET_KEY = "rk_live_restricted"
    deliver(an_event())
    deliver(an_event(number=2, livemode=True))
    assert dict(InboxEvent.objects.values_list("event_id", "state")) == {
        "evt_1": "ignored",
        "evt_2": "received",
    }


@pytest.mark.parametrize("secret", [SECRET, NEXT_SECRET])
def test_every_secret_is_good_while_one_is_exchanged(secret):
    body = json.dumps(an_event())
    assert deliver(body, header=sign(body, secret=secret)).status_code == 200


def test_one_good_signature_of_several_is_enough():
    body = json.dumps(an_event())
    moment, _, good = sign(body).partition(",")
    header = f"{moment},v1=deadbeef,v0=abc,{good},v1=ünfug"
    assert deliver(body, header=header.encode().decode("latin-1")).status_code == 200


def test_body_is_kept_and_its_facts_never_change():
    deliver(an_event())
    for forbidden in (
        lambda: InboxEvent.objects.update(body="{}"),
        lambda: InboxEvent.objects.all().delete(),
    ):
        with pytest.raises((InternalError, ProgrammingError)), transaction.atomic():
            forbidden()


# What an attempt costs ------------------------------------------------------------------------


def queries_of(body, **options):
    with CaptureQueriesContext(connection) as captured:
        deliver(body, **options)
    return [
        query["sql"].split()[0]
        for query in captured
        if not query["sql"].startswith(("SAVEPOINT", "RELEASE", "ROLLBACK"))
    ]  # fmt: skip


def test_an_attempt_costs_few_queries():
    assert queries_of(an_event()) == ["INSERT", "SELECT"]  # the event, and its job
    assert queries_of(an_event()) == ["INSERT"]
    assert queries_of(an_event(number=2, type="balance.available", kind="balance")) == ["INSERT"]
    assert queries_of(an_event(number=3), header="t=1,v1=00") == []
    assert queries_of("nonsense") == []
    assert queries_of("x" * 300_000) == []


def test_a_job_that_waits_is_enough_for_many_events():
    for number in range(5):
        assert deliver(an_event(number=number)).status_code == 200
    assert ProcrastinateJob.objects.count() == 1


# Refused --------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["get", "put", "delete", "head", "options"])
def test_only_post_is_answered(method):
    assert getattr(Client(), method)(ADDRESS).status_code == 405


def test_address_does_not_exist_where_stripe_is_not_set_up(settings):
    settings.STRIPE_WEBHOOK_SECRETS = []
    assert deliver(an_event(), header="t=1,v1=00").status_code == 404
    assert not InboxEvent.objects.exists()


def test_large_body_is_refused_unread():
    refused(deliver("x" * (256 * 1024 + 1)), "larger than 256 kB", status=413)


def test_body_of_the_largest_size_is_read():
    refused(deliver("x" * (256 * 1024)), "not JSON")


@pytest.mark.parametrize("length", ["abc", "-1", "²"])
def test_length_that_is_no_number_is_refused(length):
    refused(deliver(an_event(), CONTENT_LENGTH=length), "length of the body is not a number")


def test_body_without_a_length_is_empty():
    refused(deliver(an_event(), CONTENT_LENGTH=""), "not of this body")


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        ("", "missing"),
        ("nonsense", "cannot be read"),
        ("t=,v1=00", "cannot be read"),
        ("t=-5,v1=00", "cannot be read"),
        ("t=1e9,v1=00", "cannot be read"),
        ("t=٣,v1=00", "cannot be read"),
        ("t=1,t=2,v1=00", "cannot be read"),
        ("t=9999999999999999999,v1=00", "cannot be read"),
        ("t=NOW", "not of this body"),
        ("t=NOW,v1=", "not of this body"),
        (f"t=NOW,v1={'0' * 64}", "not of this body"),
    ],
)
def test_signature_that_is_missing_or_malformed_is_refused(header, reason):
    header = header.replace("NOW", f"{int(time.time())}")
    refused(deliver(an_event(), header=header.encode().decode("latin-1")), reason)


def test_signature_of_another_secret_is_refused():
    body = json.dumps(an_event())
    refused(deliver(body, header=sign(body, secret="whsec_forged")), "not of this body")


def test_signature_of_another_body_is_refused():
    genuine, forged = json.dumps(an_event()), json.dumps(an_event(number=2))
    refused(deliver(forged, header=sign(genuine)), "not of this body")


def test_signature_under_another_scheme_is_refused():
    body = json.dumps(an_event())
    refused(deliver(body, header=sign(body).replace("v1=", "v0=")), "not of this body")


def test_time_of_a_signature_cannot_be_exchanged():
    body = json.dumps(an_event())
    old = sign(body, late=4000)
    _, _, signature = old.partition(",")
    refused(deliver(body, header=f"t={int(time.time())},{signature}"), "not of this body")


@pytest.mark.parametrize("late", [302, 4000, -302, -4000])
def test_stale_and_future_signatures_are_refused(late):
    body = json.dumps(an_event())
    refused(deliver(body, header=sign(body, late=late)), "not of this moment")


@pytest.mark.parametrize(
    ("seconds", "good"), [(300, True), (-300, True), (301, False), (-301, False)]
)
def test_tolerance_is_three_hundred_seconds_to_either_side(seconds, good):
    assert timedelta(seconds=300) == TOLERANCE
    at, body = datetime.now(UTC).replace(microsecond=0), b"{}"
    header = WebhookSignature.generate_signature_header("{}", SECRET, int(at.timestamp()) - seconds)
    try:
        StripeWebhooks().verify(body, header, at=at)
    except Unverified:
        assert not good
    else:
        assert good


def without(name):
    event = an_event()
    del event[name]
    return json.dumps(event)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"\x00", "not JSON"),
        (b'{"id": "evt_1\x00"}', "not JSON"),
        (b"\xff\xfe{}", "not JSON"),
        (json.dumps(an_event()).encode("utf-16"), "not JSON"),
        (b"\xef\xbb\xbf{}", "not JSON"),
        (b"[" * 200_000, "not JSON"),
        (b'{"id": ' + b"9" * 5000 + b"}", "not JSON"),
        (b"id=evt_1&object=event", "not JSON"),
        (b"null", "not an event"),
        (b"[]", "not an event"),
        (b'"event"', "not an event"),
        (b"{}", "not an event"),
        (b'{"object": "v2.core.event", "id": "evt_1"}', "not an event"),
        (without("id"), "has no id"),
        (without("type"), "has no type"),
        (without("created"), "when it happened"),
        (json.dumps(an_event(id="evt_\0")), "has no id"),
        (json.dumps(an_event(id="e" * 121)), "has no id"),
        (json.dumps(an_event(id=7)), "has no id"),
        (json.dumps(an_event(type="\ud800")), "has no type"),
        (json.dumps(an_event(created="now")), "when it happened"),
        (json.dumps(an_event(created=True)), "when it happened"),
        (json.dumps(an_event(created=10**30)), "when it happened"),
    ],
)
def test_signed_garbage_is_refused(body, reason):
    refused(deliver(body, header=sign_bytes(body)), reason)


def sign_bytes(body):
    import hmac

    body = body.encode() if isinstance(body, str) else body
    moment = int(time.time())
    return (
        f"t={moment},v1={hmac.new(SECRET.encode(), b'%d.' % moment + body, 'sha256').hexdigest()}"
    )


@pytest.mark.parametrize(
    "data",
    [
        None, [], "object", {}, {"object": None}, {"object": []},
        {"object": {"object": "payment_intent", "id": "\0", "metadata": {"reference": "\ud800"}}},
        {"object": {"object": "payment_intent", "id": ["pi_1"], "metadata": "reference"}},
        {"object": {"object": {"id": "payment_intent"}}},
    ],
)  # fmt: skip
def test_event_about_something_strange_is_stored_and_harms_nothing(data):
    assert deliver(an_event(data=data)).status_code == 200
    assert InboxEvent.objects.get().object_id == ""
    InboxEvent.objects.work_due(at=datetime.now(UTC) + timedelta(seconds=1))
    assert InboxEvent.objects.get().tries <= 1
