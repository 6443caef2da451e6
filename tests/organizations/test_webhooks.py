"""Webhook settings: kept per application; header values are never shown again."""

from datetime import UTC, datetime

import pytest
from django.db import IntegrityError, transaction

from chirp_dashboard.organizations.forms import KEPT
from chirp_dashboard.organizations.models import (
    Activity,
    Delivery,
    Webhook,
    WebhookEvent,
    rotate_secret,
    secret_of,
)
from chirp_dashboard.organizations.models.applications import WEBHOOKS_AT_MOST, WebhookGone

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
SETTINGS = "/o/northwind/apps/storefront/settings/"
WEBHOOKS = "/o/northwind/apps/storefront/webhooks/"
CREATE = WEBHOOKS + "create/"
HTMX = {"HX-Request": "true"}
SENT = {
    "url": "https://hooks.example.com/numbers?token=s3cret",
    "events": ["phone_numbers.released", "phone_numbers.assigned"],
    "headers": "X-Token: hush\n\nX-Team: phones",
}


def names(response):
    return [template.name for template in response.templates]


@pytest.fixture
def webhook(storefront, owner):
    return storefront.set_webhook(
        url="https://hooks.example.com/a",
        events=["phone_numbers.assigned"],
        headers={"X-Token": "hush"},
        by=owner,
        at=NOON,
    )


def change(webhook):
    return f"{WEBHOOKS}{webhook.public_id}/"


def remove(webhook):
    return change(webhook) + "remove/"


def test_webhook_is_added_and_its_secret_shown_once(developer_client, storefront):
    response = developer_client.post(CREATE, SENT)
    secret = response.context["secret"]
    assert secret == secret_of(storefront.webhook, 1)
    assert secret in response.content.decode()
    assert response.headers["Cache-Control"] == "no-store"
    for page in (WEBHOOKS, change(storefront.webhook), SETTINGS):
        assert secret not in developer_client.get(page).content.decode()
    webhook = storefront.webhook
    assert webhook.url == SENT["url"]
    assert webhook.events == ["phone_numbers.assigned", "phone_numbers.released"]
    assert webhook.headers == {"X-Token": "hush", "X-Team": "phones"}


def test_form_sent_twice_adds_one_webhook(developer_client, storefront, time_machine):
    time_machine.move_to(NOON, tick=False)
    first, second = (developer_client.post(CREATE, SENT) for _ in range(2))
    assert first.context["secret"] == second.context["secret"]
    assert Webhook.objects.count() == Activity.objects.count() == 1


def test_there_is_an_end_to_the_webhooks_of_an_application(developer_client, storefront):
    for place in range(WEBHOOKS_AT_MOST):
        assert developer_client.post(CREATE, SENT | {"headers": f"X: {place}"}).status_code == 200
    refused = developer_client.post(CREATE, SENT | {"headers": "X: one too many"})
    assert refused.status_code == 409
    assert "at most 10 webhooks" in refused.content.decode()
    assert storefront.webhooks.count() == WEBHOOKS_AT_MOST


def test_application_has_several_webhooks(developer_client, storefront, webhook):
    developer_client.post(CREATE, SENT)
    page = developer_client.get(WEBHOOKS).content.decode()
    assert page.count("Send test event") == storefront.webhooks.count() == 2


def test_saving_changes_it(developer_client, storefront, webhook):
    response = developer_client.post(change(webhook), SENT)
    assert response.headers["Location"] == WEBHOOKS
    assert Webhook.objects.get().pk == webhook.pk
    assert storefront.webhook.url == SENT["url"]


def test_each_application_keeps_its_own(developer_client, storefront, alerts, webhook):
    developer_client.post("/o/northwind/apps/alerts/webhooks/create/", SENT)
    assert storefront.webhook == webhook
    assert alerts.webhook.url == SENT["url"]


def test_dialog_that_saved_leads_back_to_the_list(developer_client, webhook):
    response = developer_client.post(change(webhook), SENT, headers=HTMX)
    assert response.headers["HX-Redirect"] == WEBHOOKS
    assert "Webhook saved." in developer_client.get(WEBHOOKS).content.decode()


def test_activity_remembers_no_secret(developer_client, storefront):
    developer_client.post(CREATE, SENT)
    row = Activity.objects.get()
    assert row.verb == "webhook_saved"
    assert row.after["host"] == "hooks.example.com"
    assert row.after["headers"] == ["X-Team", "X-Token"]
    assert "hush" not in str(row.after)
    assert "s3cret" not in str(row.after)


def test_header_value_is_not_shown_again_and_kept_when_untouched(
    developer_client, storefront, webhook
):
    content = developer_client.get(change(webhook)).content.decode()
    assert "hush" not in content
    assert f"X-Token: {KEPT}" in content
    developer_client.post(change(webhook), SENT | {"headers": f"X-Token: {KEPT}\nX-New: there"})
    assert storefront.webhook.headers == {"X-Token": "hush", "X-New": "there"}


def test_saving_the_same_is_no_change(developer_client, storefront, webhook):
    developer_client.post(
        change(webhook),
        {"url": webhook.url, "events": webhook.events, "headers": f"X-Token: {KEPT}"},
    )
    assert Activity.objects.count() == 1


REFUSED_URLS = [
    "",
    "http://hooks.example.com/",
    "ftp://hooks.example.com/",
    "javascript:alert(1)",
    "https://",
    "https://localhost/",
    "https://127.0.0.1/",
    "https://10.1.2.3/",
    "https://[::1]/",
    "https://169.254.169.254/latest/meta-data/",
    "https://printer.local/",
    "https://user:password@hooks.example.com/",
    "https://hooks.example.com/#part",
    "https://hooks.example.com/\0",
    "https://hooks.example.com/" + "x" * 500,
    "x" * 100_000,
]


@pytest.mark.parametrize("url", REFUSED_URLS, ids=[url[:40] or "empty" for url in REFUSED_URLS])
def test_only_a_public_https_address_is_accepted(developer_client, storefront, url):
    response = developer_client.post(CREATE, SENT | {"url": url}, headers=HTMX)
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"url"}
    assert storefront.webhook is None
    assert "X-Token: hush" in response.content.decode()


def test_address_without_scheme_is_taken_as_https(developer_client, storefront):
    developer_client.post(CREATE, SENT | {"url": "hooks.example.com/in"})
    assert storefront.webhook.url == "https://hooks.example.com/in"


@pytest.mark.parametrize(
    ("headers", "why"),
    [
        ("X-Token", "Line 1: write a name, a colon and a value."),
        ("X-Token:", "Line 1: write a name, a colon and a value."),
        ("X-Fine: 1\nX Token: hush", "Line 2: a header"),
        ("Host: elsewhere.example", "Line 1: Host is set by this dashboard."),
        ("webhook-signature: forged", "is set by this dashboard"),
        ("X-Token: a\nx-token: b", "Line 2: x-token is there already."),
        ("X-Token: 🔑", "plain characters"),
        ("X-Token: " + "x" * 1001, "plain characters"),
        ("X-New: " + KEPT, "type the value of X-New"),
        ("\n".join(f"X-{n}: {n}" for n in range(21)), "at most 20"),
        ("X-Token: a\0b", "Null characters"),
        ("x" * 20_000, "at most 10000 characters"),
    ],
)
def test_headers_that_cannot_be_sent_are_refused(developer_client, storefront, headers, why):
    response = developer_client.post(CREATE, SENT | {"headers": headers})
    assert response.status_code == 422
    assert why in str(response.context["form"].errors["headers"])
    assert storefront.webhook is None


@pytest.mark.parametrize("events", [[], ["phone_numbers.nonsense"]])
def test_known_events_must_be_chosen(developer_client, storefront, events):
    response = developer_client.post(CREATE, SENT | {"events": events})
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"events"}


def test_page_says_what_each_event_means(developer_client, storefront):
    content = developer_client.get(CREATE).content.decode()
    for event in WebhookEvent:
        assert event.value in content
        assert event.label in content


def test_webhook_is_removed_after_a_question(developer_client, storefront, webhook):
    question = developer_client.get(remove(webhook), headers=HTMX)
    assert names(question)[0] == "organizations/_webhook_remove.html"
    assert storefront.webhook == webhook
    response = developer_client.post(remove(webhook))
    assert response.headers["Location"] == WEBHOOKS
    assert storefront.webhook is None
    assert Activity.objects.order_by("-id").first().verb == "webhook_removed"


def test_removing_what_is_gone_is_not_found(developer_client, storefront, webhook):
    developer_client.post(remove(webhook))
    assert developer_client.post(remove(webhook)).status_code == 404
    assert Activity.objects.filter(verb="webhook_removed").count() == 1


def test_archived_application_keeps_its_webhook_as_it_is(developer_client, storefront, webhook):
    storefront.archived_at = NOON
    storefront.save()
    for path in (CREATE, change(webhook), remove(webhook)):
        response = developer_client.post(path, SENT)
        assert response.status_code == 409
        assert "is archived" in response.content.decode()
    assert storefront.webhook == webhook


def test_database_refuses_an_address_without_https(storefront):
    with pytest.raises(IntegrityError, match="webhook_https_only"), transaction.atomic():
        storefront.webhooks.create(url="http://hooks.example.com/")


@pytest.mark.parametrize("client", ["billing_client", "viewer_client"])
def test_lesser_role_sees_the_host_and_changes_nothing(request, client, storefront, webhook):
    client = request.getfixturevalue(client)
    for path in (WEBHOOKS, CREATE, change(webhook), remove(webhook)):
        assert client.post(path, SENT).status_code in {403, 405}
        assert client.get(path).status_code == 403
    content = client.get(SETTINGS).content.decode()
    assert "hooks.example.com" in content
    assert "hooks.example.com/a" not in content
    assert "X-Token" not in content


def test_webhook_of_others_is_not_found(rival_client, storefront, webhook):
    for path in (CREATE, change(webhook), remove(webhook)):
        assert rival_client.post(path, SENT).status_code == 404
    assert Webhook.objects.get().url == webhook.url


def test_change_keeps_a_secret_that_was_rotated_since_it_was_read(storefront, webhook, owner):
    read_before = Webhook.objects.get(pk=webhook.pk)
    told = rotate_secret(webhook, by=owner, at=NOON)
    storefront.change_webhook(
        read_before, url=SENT["url"], events=SENT["events"], headers={}, by=owner, at=NOON
    )
    storefront.switch_webhook_on(read_before, by=owner, at=NOON)
    webhook.refresh_from_db()
    assert webhook.url == SENT["url"]
    assert secret_of(webhook, webhook.secret_version) == told


def test_switching_on_keeps_what_was_changed_since_it_was_read(storefront, webhook, owner):
    Webhook.objects.filter(pk=webhook.pk).update(disabled_at=NOON)
    read_before = Webhook.objects.get(pk=webhook.pk)
    storefront.change_webhook(
        webhook, url=SENT["url"], events=SENT["events"], headers={}, by=owner, at=NOON
    )
    storefront.switch_webhook_on(read_before, by=owner, at=NOON)
    webhook.refresh_from_db()
    assert webhook.url == SENT["url"]


def test_what_was_removed_is_not_written_again(storefront, webhook, owner):
    read_before = Webhook.objects.get(pk=webhook.pk)
    storefront.remove_webhook(webhook, by=owner, at=NOON)
    with pytest.raises(WebhookGone):
        storefront.change_webhook(
            read_before, url=SENT["url"], events=SENT["events"], headers={}, by=owner, at=NOON
        )
    with pytest.raises(WebhookGone):
        storefront.switch_webhook_on(read_before, by=owner, at=NOON)
    with pytest.raises(WebhookGone):
        rotate_secret(read_before, by=owner, at=NOON)
    with pytest.raises(WebhookGone):
        Delivery.objects.test(read_before, at=NOON)
    assert not Webhook.objects.exists()
