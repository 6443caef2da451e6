"""Price changes: an announced new price of running rentals, from a named period on."""

from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import INSERT_ONLY, Organization

from .prices import NumberType
from .rentals import Rental


class PriceChange(models.Model):
    """What running rentals of one kind will cost `organization`, from the first period on or after a day.

    Rentals that start after the announcement have the price list's price. Withdrawn before its day it
    never applies; afterwards it cannot be withdrawn.
    """

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="price_changes"
    )
    country = models.CharField(max_length=2)
    number_type = models.CharField(max_length=9, choices=NumberType)
    interval_months = models.PositiveSmallIntegerField(default=1)
    amount = models.BigIntegerField(
        validators=[MinValueValidator(0)], help_text="Per interval, in the minor unit."
    )
    currency = models.CharField(max_length=3)
    applies_from = models.DateField(help_text="Periods that begin on or after this day.")
    reason = models.CharField(max_length=200)
    rentals = models.PositiveIntegerField(help_text="How many it changes.")
    before = models.BigIntegerField(help_text="What they cost together before, per interval.")
    announced_at = models.DateTimeField()
    announced_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    withdrawn_at = models.DateTimeField(null=True)
    applied_at = models.DateTimeField(
        null=True, help_text="When lists began to show the new price."
    )

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gte=0), name="price_change_not_negative"),
            models.UniqueConstraint(
                fields=[
                    "organization",
                    "country",
                    "number_type",
                    "interval_months",
                    "applies_from",
                ],
                condition=Q(withdrawn_at=None),
                name="price_change_once_per_day",
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"{self.country} {self.get_number_type_display()} from {self.applies_from}"


class RentalPrice(models.Model):
    """The price one rental has by a PriceChange; the latest that applies to a period counts."""

    change = models.ForeignKey(PriceChange, on_delete=models.PROTECT, related_name="prices")
    rental = models.ForeignKey(
        Rental, on_delete=models.PROTECT, related_name="prices", db_index=False
    )
    amount = models.BigIntegerField()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rental", "change"], name="rental_price_once"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="rental_price_not_negative"),
        ]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.rental}: {self.amount}"
