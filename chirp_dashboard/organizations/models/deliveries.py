"""Deliveries: what an application is told, written with the change it tells, sent by the worker.

Signed as Standard Webhooks says. A secret is computed, never stored: an HMAC of the webhook's id and
the number of its secret under the pepper of the API keys, so that rotating is counting up.
"""

import base64
import hashlib
import hmac
import json
import random
from datetime import UTC, timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q
from standardwebhooks import Webhook as Signer

from chirp_dashboard.organizations.permissions import PERMISSIONS
from chirp_dashboard.organizations.public_ids import public_id
from chirp_dashboard.organizations.refusals import Refused

from .activity import Activity, Actor
from .applications import Webhook
from .mail import Mail

RETRIES = (
    timedelta(seconds=10),
    timedelta(minutes=1),
    timedelta(minutes=10),
    timedelta(hours=1),
    timedelta(hours=6),
)
"""Waits before the second to the sixth try, each up to a fifth longer."""
LEASE = timedelta(seconds=60)
KEPT_FOR = timedelta(days=30)
SWITCHED_OFF_AFTER = timedelta(days=3)
TWO_SECRETS_FOR = timedelta(days=1)
LONGEST_ANSWER = 2_000
"""Characters of an answer that are kept for people to read."""
SYSTEM = Actor.system("webhooks")


def secret_of(webhook, version):
    """The secret `whsec_…` number `version` of `webhook`."""
    told = f"webhook:{webhook.public_id}:{version}".encode()
    digest = hmac.new(settings.API_KEY_PEPPER.encode(), told, hashlib.sha256).digest()
    return "whsec_" + base64.b64encode(digest).decode()


def secrets_in_use(webhook, *, at):
    """The newest secret first; for a day after a rotation also the one before."""
    versions = [webhook.secret_version]
    if webhook.rotated_at and at < webhook.rotated_at + TWO_SECRETS_FOR:
        versions.append(webhook.secret_version - 1)
    return [secret_of(webhook, version) for version in versions]


def message_id():
    return public_id("msg")


class DeliveryQuerySet(models.QuerySet):
    @transaction.atomic
    def claim_due(self, *, at, limit):
        """Take up to `limit` deliveries whose time has come; for a minute nobody else sends them."""
        due = self.filter(state=Delivery.State.PENDING, next_try_at__lte=at)
        taken = list(
            due.select_for_update(skip_locked=True, of=["self"])
            .select_related("webhook__application__organization")
            .order_by("next_try_at", "id")[:limit]
        )
        self.filter(pk__in=[each.pk for each in taken]).update(next_try_at=at + LEASE)
        return taken

    def forget_old(self, *, at):
        """Delete what ended a month ago."""
        ended = self.exclude(state=Delivery.State.PENDING)
        return ended.filter(happened_at__lt=at - KEPT_FOR).delete()[0]

    def test(self, webhook, *, at):
        """Send a test event, whatever `webhook` wants to hear of."""
        application = webhook.application
        body = {
            "event": "webhook.test",
            "timestamp": at.isoformat(),
            "data": {"app": {"id": application.public_id, "name": application.name}},
        }
        return self.create(
            webhook=webhook, event="webhook.test", body=body, happened_at=at, next_try_at=at
        )


class Delivery(models.Model):
    """One event for one webhook, and what became of it. The body says what was true when it happened."""

    class State(models.TextChoices):
        PENDING = "pending", "Waiting"
        DELIVERED = "delivered", "Delivered"
        FAILED = "failed", "Failed"

    message_id = models.CharField(max_length=64, unique=True, default=message_id)
    webhook = models.ForeignKey(
        Webhook, on_delete=models.CASCADE, related_name="deliveries", db_index=False
    )
    event = models.CharField(max_length=40)
    body = models.JSONField()
    happened_at = models.DateTimeField()
    state = models.CharField(max_length=9, choices=State, default=State.PENDING)
    tries = models.PositiveSmallIntegerField(default=0, db_default=0)
    next_try_at = models.DateTimeField(null=True)
    delivered_at = models.DateTimeField(null=True)

    objects = DeliveryQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["next_try_at", "id"], condition=Q(state="pending"), name="delivery_to_send"
            ),
            models.Index(fields=["webhook", "-id"], name="delivery_of_webhook"),
        ]
        verbose_name_plural = "deliveries"

    def __str__(self):
        return f"{self.event} to {self.webhook}"

    @property
    def payload(self):
        """What is signed and sent, the same at every try."""
        return json.dumps(self.body, separators=(",", ":"), ensure_ascii=False)

    def headers(self, *, at):
        """Those the customer set, and ours: signed with every secret in use."""
        signatures = [
            Signer(secret).sign(self.message_id, at.astimezone(UTC), self.payload)
            for secret in secrets_in_use(self.webhook, at=at)
        ]
        return self.webhook.headers | {
            "content-type": "application/json",
            "user-agent": "phone-numbers-webhooks/1",
            "webhook-id": self.message_id,
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": " ".join(signatures),
        }

    @transaction.atomic
    def record(self, result, *, at):
        """Write what one try came to, and when the next one is; `result` has ok, status, text, error, ms."""
        self.refresh_from_db(
            fields=["tries", "state"], from_queryset=Delivery.objects.select_for_update(no_key=True)
        )
        self.attempts.create(
            at=at, status=result.status, answer=result.text[:LONGEST_ANSWER],
            error=result.error[:200], milliseconds=result.milliseconds,
        )  # fmt: skip
        self.tries += 1
        if result.ok:
            self.state, self.delivered_at, self.next_try_at = self.State.DELIVERED, at, None
        elif self.tries > len(RETRIES):
            self.state, self.next_try_at = self.State.FAILED, None
        else:
            wait = RETRIES[self.tries - 1]
            self.next_try_at = at + wait * (1 + random.random() / 5)  # noqa: S311 - spreads the load
        self.save(update_fields=["tries", "state", "next_try_at", "delivered_at"])
        self._note_health(result.ok, at=at)

    def _note_health(self, ok, *, at):
        """Since when the webhook fails; days of nothing but failures switch it off."""
        webhook = Webhook.objects.filter(pk=self.webhook_id)
        if ok:
            webhook.exclude(failing_since=None).update(failing_since=None)
            return
        webhook.filter(failing_since=None).update(failing_since=at)
        long_ago = webhook.filter(failing_since__lte=at - SWITCHED_OFF_AFTER, disabled_at=None)
        if self.state == self.State.FAILED and long_ago.update(disabled_at=at):
            self._tell_switched_off(at=at)

    def _tell_switched_off(self, *, at):
        application = self.webhook.application
        organization = application.organization
        Activity.objects.record(
            organization, "webhook_switched_off", subject=application, by=SYSTEM, at=at,
            after={"host": self.webhook.host},
        )  # fmt: skip
        builders = organization.memberships.filter(
            role__in=[role.value for role in PERMISSIONS["manage_webhooks"]], user__is_active=True
        )
        Mail.objects.write(
            organization, "webhook_switched_off", key=f"webhook-off-{self.webhook_id}-{self.pk}",
            at=at, to=sorted(builders.values_list("user__email", flat=True)),
            application=application, host=self.webhook.host,
        )  # fmt: skip

    @transaction.atomic
    def redeliver(self, *, by, at):
        """Send it again now, with all its tries; Refused while it is waiting anyway."""
        ended = Delivery.objects.exclude(state=self.State.PENDING).filter(pk=self.pk)
        if not ended.update(state=self.State.PENDING, tries=0, next_try_at=at, delivered_at=None):
            raise Refused("This event is waiting to be sent already.")
        self.refresh_from_db()
        Activity.objects.record(
            self.webhook.application.organization, "webhook_redelivered",
            subject=self.webhook.application, by=by, at=at, after={"message": self.message_id},
        )  # fmt: skip


class DeliveryAttempt(models.Model):
    """One try: when, what was answered, and how long it took."""

    delivery = models.ForeignKey(Delivery, on_delete=models.CASCADE, related_name="attempts")
    at = models.DateTimeField()
    status = models.PositiveSmallIntegerField(null=True, help_text="Empty: there was no answer.")
    answer = models.TextField(blank=True)
    error = models.CharField(max_length=200, blank=True)
    milliseconds = models.PositiveIntegerField()

    class Meta:
        ordering = ["id"]

    def __str__(self):
        return f"{self.status or self.error}"


@transaction.atomic
def rotate_secret(webhook, *, by, at):
    """Give `webhook` a new secret and return it; the one before still signs for a day."""
    Webhook.objects.filter(pk=webhook.pk).update(
        secret_version=F("secret_version") + 1, rotated_at=at
    )
    webhook.refresh_from_db()
    Activity.objects.record(
        webhook.application.organization, "webhook_secret_rotated",
        subject=webhook.application, by=by, at=at, after={"host": webhook.host},
    )  # fmt: skip
    return secret_of(webhook, webhook.secret_version)
