"""Calendar feeds: an address without a sign-in that shows what renews when, and nothing else."""

import hashlib
import hmac
import secrets
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef

from chirp_dashboard.organizations.models import Activity, Membership, Organization
from chirp_dashboard.organizations.public_ids import ALPHABET

LENGTH = 30
NOTED_EVERY = timedelta(hours=1)
PURPOSE = b"chirp-dashboard calendar feed"


def digest(secret):
    """What is stored of `secret`. It has 178 random bits, so nothing is gained by guessing.

    Not keyed with SECRET_KEY, so that a new one leaves the calendars of people working.
    """
    return hmac.new(PURPOSE, secret.encode(), hashlib.sha256).hexdigest()


class CalendarFeedQuerySet(models.QuerySet):
    def open(self):
        return self.filter(revoked_at=None)

    @transaction.atomic
    def issue(self, organization, person, *, at):
        """Give `person` a new secret for `organization`; the one before stops working. Returns it."""
        self.revoke(organization, person, at=at)
        secret = "".join(secrets.choice(ALPHABET) for _ in range(LENGTH))
        self.create(
            organization=organization, person=person, secret_hash=digest(secret), created_at=at
        )
        Activity.objects.record(
            organization, "calendar_feed_issued", subject=person.email, by=person, at=at
        )
        return secret

    @transaction.atomic
    def revoke(self, organization, person, *, at):
        """Let the address of `person` stop working; False if there is none."""
        organization.lock()
        mine = self.open().filter(organization=organization, person=person)
        if not mine.update(revoked_at=at):
            return False
        Activity.objects.record(
            organization, "calendar_feed_revoked", subject=person.email, by=person, at=at
        )
        return True

    def find(self, secret):
        """The feed of `secret`; None once it is revoked or its person may no longer see billing."""
        if len(secret) != LENGTH:
            return None
        members = Membership.objects.allowed_to("view_billing").filter(
            organization=OuterRef("organization"), user=OuterRef("person"), user__is_active=True
        )
        feeds = self.open().filter(Exists(members), secret_hash=digest(secret))
        return feeds.select_related("organization").first()


class CalendarFeed(models.Model):
    """One person's feed of one organization. Its secret is shown once and stored hashed."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="calendar_feeds"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="calendar_feeds"
    )
    secret_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = CalendarFeedQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "person"],
                condition=models.Q(revoked_at=None),
                name="calendar_feed_once",
            ),
        ]

    def __str__(self):
        return f"Feed of {self.person} for {self.organization}"

    def note_use(self, *, at):
        """Remember that it was read, once an hour at most."""
        if self.used_at is None or self.used_at < at - NOTED_EVERY:
            CalendarFeed.objects.filter(pk=self.pk).update(used_at=at)
