"""Holds: time-limited claims on offers while someone decides."""

from datetime import timedelta

from django.conf import settings
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import Organization

from .inventory import NumberFacts

HOLD_FOR = timedelta(minutes=15)
HOLDS_PER_PERSON = 20
HOLDS_PER_ORGANIZATION = 50


class HoldQuerySet(models.QuerySet):
    def live(self, *, at):
        return self.filter(held_until__gt=at)


class Hold(NumberFacts):
    """One person's claim on one number until `held_until`, with the prices it was offered at.

    One row per number: a lapsed hold is taken over, never doubled.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="holds")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="holds"
    )
    carrier = models.CharField(max_length=20, default="stock")
    held_at = models.DateTimeField()
    held_until = models.DateTimeField()
    extended = models.BooleanField(default=False)
    purchase_fee = models.BigIntegerField()
    rental = models.BigIntegerField()
    interval_months = models.PositiveSmallIntegerField(default=1)
    currency = models.CharField(max_length=3)

    objects = HoldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["country", "number"], name="hold_once"),
            models.CheckConstraint(
                condition=Q(purchase_fee__gte=0) & Q(rental__gte=0), name="hold_price"
            ),
        ]
        indexes = [models.Index(fields=["organization", "person"], name="hold_of_person")]
        ordering = ["id"]
