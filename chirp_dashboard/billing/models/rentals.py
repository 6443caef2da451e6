"""Rentals: the running contracts, and the run that charges them."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from chirp_dashboard.billing.periods import add_months, months_until
from chirp_dashboard.organizations.models import Organization

from .starting import StartsRentals


class RentalQuerySet(StartsRentals):
    """`start()` comes from StartsRentals (written beside it, in starting.py)."""


class Rental(models.Model):
    """The contract for one number: price frozen at purchase, open until `ends_on`.

    Its periods after the first begin on `anchor` + n · `interval_months`. It never pays for a period
    that begins on or after `ends_on`.
    """

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="rentals")
    phone_number = models.ForeignKey(
        "numbers.PhoneNumber", on_delete=models.PROTECT, related_name="rentals"
    )
    amount = models.BigIntegerField(help_text="Per interval, in the minor unit.")
    currency = models.CharField(max_length=3)
    interval_months = models.PositiveSmallIntegerField(default=1)
    anchor = models.DateField()
    starts_on = models.DateField()
    ends_on = models.DateField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = RentalQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["phone_number"],
                condition=Q(ends_on=None),
                name="rental_open_once",
            ),
            models.CheckConstraint(
                condition=Q(ends_on=None) | Q(ends_on__gte=F("starts_on")),
                name="rental_ends_after_start",
            ),
            models.CheckConstraint(condition=Q(amount__gte=0), name="rental_not_negative"),
            models.CheckConstraint(
                condition=Q(interval_months__in=[1, 3, 6, 12]), name="rental_interval"
            ),
        ]
        indexes = [models.Index(fields=["organization", "id"], name="rental_of_organization")]

    def __str__(self):
        return f"Rental {self.pk} from {self.starts_on}"

    def period_containing(self, on):
        """The half-open period `(start, end)` that contains `on`; the first one starts on `starts_on`."""
        months = months_until(self.anchor, on)
        months -= months % self.interval_months
        start = add_months(self.anchor, months)
        return max(start, self.starts_on), add_months(self.anchor, months + self.interval_months)


class BillingRun(models.Model):
    """What one run did: kept so that a due organization that got nothing is noticed."""

    as_of = models.DateField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    organizations = models.PositiveIntegerField(default=0)
    charges = models.PositiveIntegerField(default=0)
    amount = models.BigIntegerField(default=0)
    invoices = models.PositiveIntegerField(default=0)
    failures = models.JSONField(default=list)

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"Run of {self.as_of}"
