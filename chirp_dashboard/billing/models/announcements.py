"""Announcements an operator asked for: worked by the worker, organization by organization."""

from datetime import timedelta

import pgtrigger
from django.conf import settings
from django.contrib.postgres.fields import ArrayField
from django.db import models, transaction

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.sweeps import for_each

from .price_changes import KIND, PriceChange, PriceChangeRefused
from .prices import NumberType

GRACE = timedelta(hours=1)
"""A day that was early enough when it was asked for stays so for this long, midnight or not."""


class PriceAnnouncementQuerySet(models.QuerySet):
    def ask(self, organization=None, *, reason, by, at, through=None, **facts):
        """Write down what is to be announced to whom, with `PriceChange.objects.preview`'s facts.

        Rentals after `through` (of the preview somebody saw) are left alone. Raises PriceChangeRefused
        before anything is written.
        """
        reason = PriceChange.objects.checked_reason(reason)
        preview = PriceChange.objects.preview(organization, **facts, at=at)
        payers = [effect.organization.pk for effect in preview.effects]
        return self.create(
            organization=organization, **facts, reason=reason, asked_at=at, asked_by=by,
            through=preview.through if through is None else through,
            organizations=len(payers), rentals=preview.rentals, waiting=payers,
        )  # fmt: skip

    def work_due(self, *, at):
        """Go on with everything that is not finished; returns to how many organizations it announced."""
        unfinished = self.filter(finished_at=None).select_related("organization").order_by("pk")
        return for_each(unfinished, lambda each: each.work(at=at), failure="could not be announced")


class PriceAnnouncement(models.Model):
    """What an operator asked to be announced. `waiting` are the ids of the organizations it still has to
    be announced to; each is taken out in the transaction that announces it, so a killed worker's is gone on
    with and two at once announce nothing twice. `refusals` say to whom it could not be, and why.
    """

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="price_announcements"
    )
    country = models.CharField(max_length=2)
    number_type = models.CharField(max_length=9, choices=NumberType)
    interval_months = models.PositiveSmallIntegerField(default=1)
    amount = models.BigIntegerField(help_text="Per interval, in the minor unit.")
    currency = models.CharField(max_length=3)
    applies_from = models.DateField(help_text="Periods that begin on or after this day.")
    reason = models.CharField(max_length=200)
    through = models.BigIntegerField(help_text="The last rental that was counted.")
    organizations = models.PositiveIntegerField(help_text="How many it is for.")
    rentals = models.PositiveIntegerField(help_text="How many it was to change.")
    waiting = ArrayField(models.BigIntegerField())
    refusals = models.JSONField(default=list)
    changed = models.PositiveIntegerField(default=0, help_text="Rentals changed by now.")
    asked_at = models.DateTimeField()
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    finished_at = models.DateTimeField(null=True)

    objects = PriceAnnouncementQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(
                fields=["id"], condition=models.Q(finished_at=None), name="announcement_to_work"
            )
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="asked", exclude=["waiting", "refusals", "changed", "finished_at"]
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"Announcement {self.pk}"

    @property
    def done(self):
        """To how many organizations it was announced, or was refused."""
        return self.organizations - len(self.waiting)

    @property
    def is_finished(self):
        return self.finished_at is not None

    def work(self, *, at):
        """Announce it to whom it still waits for, each in a transaction of its own; returns how many."""
        payers = Organization.objects.filter(pk__in=self.waiting).order_by("pk")
        return for_each(
            payers,
            lambda payer: self._announce_to(payer, at=at),
            failure="were not told a new price",
        )

    @transaction.atomic
    def _announce_to(self, organization, *, at):
        """True when it was announced now. This row is locked first; nobody who holds a standing wants it."""
        self.refresh_from_db(from_queryset=type(self).objects.select_for_update(of=["self"]))
        if organization.pk not in self.waiting:
            return False
        try:
            with transaction.atomic():
                self.changed += self._change(organization, at=at).rentals
        except PriceChangeRefused as refusal:
            self.refusals.append({"organization": organization.slug, "reason": str(refusal)})
        self.waiting.remove(organization.pk)
        self.finished_at = None if self.waiting else at
        self.save(update_fields=["waiting", "refusals", "changed", "finished_at"])
        return True

    def _change(self, organization, *, at):
        """Nobody is told later than promised, however long the worker was out."""
        PriceChange.objects.check_notice(
            [organization], self.applies_from, at=max(self.asked_at, at - GRACE)
        )
        facts = {
            name: getattr(self, name) for name in (*KIND, "amount", "currency", "applies_from")
        }
        return PriceChange.objects.announce_to(
            organization, facts, self.reason, self.through, by=self.asked_by, at=at
        )
