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
from django.db.models import Q
from standardwebhooks import Webhook as Signer

from chirp_dashboard.organizations.permissions import PERMISSIONS
from chirp_dashboard.organizations.public_ids import public_id
from chirp_dashboard.organizations.refusals import Refused

from .activity import Activity, Actor
from .applications import TWICE_WITHIN, Webhook, WebhookGone
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


def both_secrets_until(webhook, *, at):
    """Until when the secret before the newest signs too, or None."""
    until = webhook.rotated_at and webhook.rotated_at + TWO_SECRETS_FOR
    return until if until and at < until else None


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

    def failed_since(self, since):
        """Given up after all tries, of what happened since then."""
        return self.filter(state=Delivery.State.FAILED, happened_at__gte=since)

    @transaction.atomic
    def redeliver_failed(self, application, *, since, by, at, webhook=None):
        """Send again, oldest first, what failed since then; returns how many."""
        rows = self.failed_since(since).filter(webhook__application=application)
        if webhook:
            rows = rows.filter(webhook=webhook)
        again = Delivery.objects.filter(pk__in=rows.values("pk"), state=Delivery.State.FAILED)
        count = again.update(state=Delivery.State.PENDING, tries=0, next_try_at=at)
        if count:
            Activity.objects.record(
                application.organization, "webhook_redelivered", subject=application, by=by, at=at,
                after={"count": count, "since": since.isoformat()},
            )  # fmt: skip
        return count

    @transaction.atomic
    def test(self, webhook, *, at):
        """Send a test event, whatever `webhook` wants to hear of. Raises WebhookGone."""
        webhook.lock()
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
            models.Index(
                fields=["webhook", "-id"],
                condition=~Q(state="delivered"),
                name="delivery_not_delivered",
            ),
        ]
        verbose_name_plural = "deliveries"

    def __str__(self):
        return f"{self.event} to {self.webhook}"

    @property
    def pretty_body(self):
        """What was sent, for people to read."""
        return json.dumps(self.body, indent=2, ensure_ascii=False)

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
        """Write what one try came to, and when the next one is; `result` has ok, status, text, error, ms.

        Nothing where the webhook was removed while it was sent: the others of the batch have theirs to write.
        """
        locked = Delivery.objects.select_for_update(no_key=True)
        try:
            self.webhook.lock()
            self.refresh_from_db(fields=["tries", "state"], from_queryset=locked)
        except (WebhookGone, Delivery.DoesNotExist):
            return
        self.attempts.create(
            at=at, status=result.status, answer=result.text[:LONGEST_ANSWER],
            error=result.error[:200], milliseconds=result.milliseconds,
        )  # fmt: skip
        if self.state != self.State.PENDING and not result.ok:
            return  # it comes late: another worker has ended it meanwhile
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

    @property
    def pretty_answer(self):
        """The answer, indented where it is JSON; one that was cut off is left as it came."""
        try:
            return json.dumps(json.loads(self.answer), indent=2, ensure_ascii=False)
        except (ValueError, RecursionError):
            return self.answer


@transaction.atomic
def rotate_secret(webhook, *, by, at, seen=None):
    """Give `webhook` a new secret and return it; the one before still signs for a day.

    `seen` is the version the form that asks was drawn with: sent twice it rotates once, for a second
    rotation would end the secret that the receiver knows. Refused where somebody else rotated since.
    """
    webhook.lock()
    if seen is not None and seen != webhook.secret_version:
        just_now = webhook.rotated_at and at < webhook.rotated_at + TWICE_WITHIN
        if just_now and seen + 1 == webhook.secret_version:
            return secret_of(webhook, webhook.secret_version)
        raise Refused("A new signing secret was made since this page was opened.")
    webhook.secret_version, webhook.rotated_at = webhook.secret_version + 1, at
    webhook.save(update_fields=["secret_version", "rotated_at"])
    Activity.objects.record(
        webhook.application.organization, "webhook_secret_rotated",
        subject=webhook.application, by=by, at=at, after={"host": webhook.host},
    )  # fmt: skip
    return secret_of(webhook, webhook.secret_version)
