"""The log of deliveries: narrowed, paged, looked into, sent again; and the signing secret rotated once."""

import gzip
import re
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from urllib.parse import unquote

import pytest
from django.contrib.staticfiles import finders
from django.db import transaction
from django.utils import timezone

from chirp_dashboard.organizations.models import (
    Activity,
    Delivery,
    DeliveryAttempt,
    Webhook,
    rotate_secret,
    secret_of,
)
from chirp_dashboard.organizations.models.deliveries import RETRIES
from chirp_dashboard.organizations.refusals import Refused

from ..numbers.test_at_once import Meanwhile

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = "/o/northwind/apps/storefront/webhooks/"
HTMX = {"HX-Request": "true"}
FAILED = SimpleNamespace(ok=False, status=500, text="<b>Broken</b>", error="Answered 500.", milliseconds=9)  # fmt: skip
DONE = SimpleNamespace(ok=True, status=200, text='{"got":1}', error="", milliseconds=9)


def hook(application, url="https://hooks.example.com/in", **facts):
    return Webhook.objects.create(
        application=application, url=url, events=["phone_numbers.assigned"], **facts
    )


@pytest.fixture
def webhook(storefront):
    return hook(storefront)


def sent(webhook, *, results=(DONE,), at=NOON, event="webhook.test"):
    delivery = Delivery.objects.test(webhook, at=at)
    Delivery.objects.filter(pk=delivery.pk).update(event=event)
    for result in results:
        delivery.record(result, at=at)
    return delivery


def failed(webhook, **given):
    return sent(webhook, results=[FAILED] * (len(RETRIES) + 1), **given)


def text(response):
    return response.content.decode()


def listed(client, query=""):
    """The ids of the messages on a page."""
    return re.findall(r'<tr id="(msg_\w+)"', text(client.get(PAGE + query)))


# Reading --------------------------------------------------------------------------------------


def test_log_is_narrowed_by_state_event_and_webhook(developer_client, storefront, webhook):
    other = hook(storefront, "https://other.example.com/")
    good, bad = sent(webhook, event="phone_numbers.assigned"), failed(webhook)
    waiting = sent(other, results=[FAILED])
    ids = {each.message_id for each in (good, bad, waiting)}
    assert set(listed(developer_client)) == ids
    assert listed(developer_client, "?state=failed") == [bad.message_id]
    assert listed(developer_client, "?event=phone_numbers.assigned") == [good.message_id]
    assert listed(developer_client, f"?webhook={other.public_id}") == [waiting.message_id]
    assert set(listed(developer_client, "?state=nonsense&event=%00&webhook=whk_nobody")) == ids
    assert "No delivery matches" in text(
        developer_client.get(f"{PAGE}?state=failed&webhook={other.public_id}")
    )


def test_pages_neither_skip_nor_repeat(developer_client, webhook):
    Delivery.objects.bulk_create(
        Delivery(
            webhook=webhook, event="webhook.test", body={}, happened_at=NOON, state="delivered"
        )
        for _ in range(120)
    )
    newest_first = list(Delivery.objects.order_by("-id").values_list("message_id", flat=True))
    first = listed(developer_client)
    second = listed(developer_client, f"?before={first[-1]}")
    third = listed(developer_client, f"?before={second[-1]}")
    assert first + second + third == newest_first
    assert listed(developer_client, f"?after={third[0]}") == second
    assert listed(developer_client, f"?after={second[0]}") == first
    page = text(developer_client.get(f"{PAGE}?state=delivered&before={first[-1]}"))
    assert f"?state=delivered&amp;after={second[0]}" in page
    assert f"?state=delivered&amp;before={second[-1]}" in page


@pytest.mark.parametrize("query", ["?before=msg_gone", "?after=gone%00", "?before=" + "x" * 5000])
def test_page_beside_nothing_is_empty_and_says_so(developer_client, webhook, query):
    sent(webhook)
    assert "This page is empty" in text(developer_client.get(PAGE + query))


def test_delivery_shows_request_and_answers_as_text(developer_client, storefront):
    delivery = sent(hook(storefront, headers={"X-Token": "hush"}), results=[FAILED, DONE])
    page = text(developer_client.get(f"{PAGE}deliveries/{delivery.message_id}/"))
    assert "&quot;event&quot;: &quot;webhook.test&quot;" in page
    assert "&lt;b&gt;Broken&lt;/b&gt;" in page
    assert "{\n  &quot;got&quot;: 1\n}" in page, "JSON is indented"
    assert "X-Token" in page
    assert "hush" not in page


def test_answer_that_is_no_json_is_left_as_it_came():
    for answer in ("", "plain", '{"cut": "of', "[" * 2000):
        assert DeliveryAttempt(answer=answer).pretty_answer == answer


def test_page_asks_again_only_while_an_answer_is_expected(developer_client, webhook):
    asks = 'hx-trigger="every 2s"'
    waiting = Delivery.objects.test(webhook, at=timezone.now())
    assert asks in text(developer_client.get(PAGE))
    Delivery.objects.filter(pk=waiting.pk).update(next_try_at=timezone.now() + timedelta(hours=1))
    assert asks not in text(developer_client.get(PAGE))


@pytest.mark.parametrize("webhooks", [1, 3])
def test_pages_take_five_queries(
    developer_client, storefront, webhooks, django_assert_max_num_queries
):
    for number in range(webhooks):
        one = hook(storefront, f"https://{number}.example.com/")
        for _ in range(20):
            delivery = sent(one, results=[FAILED, DONE])
    with django_assert_max_num_queries(5):  # session, user, membership, webhooks, deliveries
        developer_client.get(PAGE)
    with django_assert_max_num_queries(5):  # … delivery, attempts
        developer_client.get(f"{PAGE}deliveries/{delivery.message_id}/")


def test_pages_and_swaps_are_light(developer_client, webhook):
    for number in range(60):
        sent(webhook, event="phone_numbers.assigned", at=NOON + timedelta(seconds=number))
    for path in (PAGE, "/o/northwind/apps/storefront/keys/"):
        page = developer_client.get(path)
        files = re.findall(r'(?:href|src)="/static/([^"?]+)"', text(page))
        assert len(files) + 1 <= 6
        weights = {}
        for name in files:
            with open(finders.find(name), "rb") as file:
                weights[name] = len(gzip.compress(file.read()))
        assert len(gzip.compress(page.content)) + sum(weights.values()) <= 60_000, weights
    swap = developer_client.get(PAGE + "?state=delivered", headers=HTMX)
    assert "<html" not in text(swap)
    assert len(gzip.compress(swap.content)) <= 15_000


@pytest.mark.parametrize("tries", [1, len(RETRIES)])
def test_failure_that_comes_late_does_not_undo_a_delivery(webhook, tries):
    """Of a worker so slow that its lease ran out and another one delivered it."""
    delivery = sent(webhook, results=[FAILED] * tries)
    late = Delivery.objects.get()
    delivery.record(DONE, at=NOON)
    late.record(FAILED, at=NOON)
    late.refresh_from_db()
    assert (late.state, late.next_try_at) == (Delivery.State.DELIVERED, None)
    assert late.attempts.count() == tries + 2, "it is shown all the same"
    assert Webhook.objects.get().failing_since is None


# Sending again --------------------------------------------------------------------------------


def test_one_is_sent_again_and_the_filters_stay(developer_client, webhook):
    delivery = failed(webhook)
    again = f"{PAGE}deliveries/{delivery.message_id}/again/?state=failed&next=https://evil.example"
    assert developer_client.post(again).headers["Location"] == f"{PAGE}?state=failed"
    delivery.refresh_from_db()
    assert (delivery.state, delivery.tries) == ("pending", 0)
    stale = developer_client.post(again, headers=HTMX)
    assert stale.status_code == 409
    assert "waiting to be sent already" in text(stale)
    assert Activity.objects.filter(verb="webhook_redelivered").count() == 1


def test_event_whose_webhook_is_removed_while_it_is_asked_for_is_not_found(
    developer_client, webhook, monkeypatch
):
    delivery, redeliver = failed(webhook), Delivery.redeliver

    def redeliver_too_late(self, **given):
        webhook.delete()
        redeliver(self, **given)

    monkeypatch.setattr(Delivery, "redeliver", redeliver_too_late)
    again = f"{PAGE}deliveries/{delivery.message_id}/again/"
    assert developer_client.post(again).status_code == 404


def test_all_that_failed_since_is_sent_again(developer_client, storefront, alerts, webhook):
    now = timezone.now()
    old, new = failed(webhook, at=now - timedelta(days=3)), failed(webhook, at=now)
    theirs, good = failed(hook(alerts), at=now), sent(webhook, at=now)
    path = PAGE + "deliveries/failed/"
    assert [row[2] for row in developer_client.get(path).context["form"].options] == [1, 1, 2, 2]
    assert developer_client.post(path, {"since": "day"}).headers["Location"] == PAGE
    states = dict(Delivery.objects.values_list("pk", "state"))
    assert states == {
        old.pk: "failed", new.pk: "pending", theirs.pk: "failed", good.pk: "delivered"
    }  # fmt: skip
    assert developer_client.post(path, {"since": "day"}).status_code == 409, "sent twice"
    assert developer_client.post(path, {"since": "ever"}).status_code == 422
    assert Activity.objects.get(verb="webhook_redelivered").after["count"] == 1


@pytest.mark.parametrize("gone", ["whk_gone", "%00"])
def test_what_failed_of_a_webhook_that_is_gone_is_not_that_of_the_others(
    developer_client, webhook, gone
):
    delivery = failed(webhook, at=timezone.now())
    path = PAGE + "deliveries/failed/"
    assert developer_client.get(f"{path}?webhook={gone}").status_code == 404
    sent_there = {"since": "day", "webhook": unquote(gone)}
    assert developer_client.post(path, sent_there).status_code == 404
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.FAILED


def test_delivery_is_found_under_its_own_application_only(developer_client, alerts, webhook):
    delivery = failed(webhook)
    theirs = f"{PAGE}deliveries/{delivery.message_id}/".replace("storefront", "alerts")
    assert developer_client.get(theirs).status_code == 404
    assert developer_client.post(f"{theirs}again/").status_code == 404
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.FAILED


@pytest.mark.django_db(transaction=True)
def test_two_who_send_what_failed_again_at_once_send_it_once(storefront, webhook, owner):
    failed(webhook)
    counts = []

    def send_again():
        again = {"since": NOON, "by": owner, "at": NOON}
        counts.append(Delivery.objects.redeliver_failed(storefront, **again))

    with transaction.atomic():
        send_again()
        second = Meanwhile(send_again)
        assert second.waits()
    second.ends()
    assert counts == [1, 0]
    assert Activity.objects.get(verb="webhook_redelivered").after["count"] == 1


def test_switched_off_webhook_is_switched_on(developer_client, storefront):
    webhook = hook(storefront, failing_since=NOON, disabled_at=NOON)
    assert "is switched off" in text(developer_client.get(PAGE))
    developer_client.post(f"{PAGE}{webhook.public_id}/on/")
    webhook.refresh_from_db()
    assert (webhook.disabled_at, webhook.failing_since) == (None, None)


# The signing secret ---------------------------------------------------------------------------


def test_form_sent_twice_rotates_once(developer_client, webhook, time_machine):
    time_machine.move_to(NOON, tick=False)
    path = f"{PAGE}{webhook.public_id}/secret/"
    first, second = (developer_client.post(path, {"version": "1"}) for _ in range(2))
    assert first.context["secret"] == second.context["secret"] == secret_of(webhook, 2)
    assert Webhook.objects.get().secret_version == 2
    time_machine.shift(60)
    assert "Two secrets are in use" in text(developer_client.get(path))
    stale = developer_client.post(path, {"version": "1"})
    assert stale.status_code == 409
    assert secret_of(webhook, 2) not in text(stale)


@pytest.mark.parametrize("version", ["", "x", "-1", "٣", "9" * 40])
def test_rotation_without_its_form_is_refused(developer_client, webhook, version):
    answer = developer_client.post(f"{PAGE}{webhook.public_id}/secret/", {"version": version})
    assert answer.status_code == 409
    assert Webhook.objects.get().secret_version == 1


def test_stale_session_proves_itself_before_a_signing_secret(stale_client, webhook):
    path = f"{PAGE}{webhook.public_id}/secret/"
    for asked in (stale_client.get(path), stale_client.post(path, {"version": "1"})):
        assert asked.headers["Location"].startswith("/accounts/reauthenticate/?next=")
    webhook.refresh_from_db()
    assert webhook.secret_version == 1


def test_refusal_for_a_secret_that_was_never_renewed_names_no_day(developer_client, webhook):
    answer = developer_client.post(f"{PAGE}{webhook.public_id}/secret/", {"version": "7"})
    assert "The newest is from" not in text(answer)


def test_without_the_guard_a_second_form_would_end_the_known_secret(webhook, owner):
    """The negative control: two rotations leave the receiver's secret out."""
    rotate_secret(webhook, by=owner, at=NOON)
    rotate_secret(webhook, by=owner, at=NOON)
    assert webhook.secret_version == 3
    with pytest.raises(Refused):
        rotate_secret(webhook, by=owner, at=NOON, seen=1)


def test_archived_application_is_read_only(developer_client, storefront, webhook):
    delivery = failed(webhook)
    storefront.archived_at = NOON
    storefront.save()
    page = text(developer_client.get(PAGE))
    assert delivery.message_id in page
    for word in ("Send test event", ">Redeliver", "Add webhook"):
        assert word not in page
    developer_client.post(f"{PAGE}{webhook.public_id}/test/")
    assert Delivery.objects.count() == 1
    developer_client.post(f"{PAGE}deliveries/{delivery.message_id}/again/")
    developer_client.post(f"{PAGE}deliveries/failed/", {"since": "all"})
    delivery.refresh_from_db()
    assert delivery.state == Delivery.State.FAILED
