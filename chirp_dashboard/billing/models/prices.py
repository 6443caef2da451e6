"""The price list: what a number costs to purchase and to rent, from which day."""

from datetime import timedelta

from django.core.validators import MinValueValidator, RegexValidator
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day


class PriceRefused(Refused):
    """The row contradicts the price list; the text says why."""


class NumberType(models.TextChoices):
    LOCAL = "local", "Local"
    TOLL_FREE = "tollfree", "Toll-free"
    SHORT_CODE = "shortcode", "Short code"


class PriceQuerySet(models.QuerySet):
    def in_force(self, organization, *, on):
        """`{(country, number_type): Price}` for `organization` on its local date `on`.

        The organization's own row wins over the general one, then the latest `valid_from`.
        """
        rows = (
            self.filter(
                Q(organization=organization) | Q(organization=None),
                currency=organization.currency,
                valid_from__lte=on,
            )
            .order_by("country", "number_type", "organization_id", "-valid_from")
            .distinct("country", "number_type", "organization_id")
        )
        prices = {}
        for price in rows:  # the general row (NULL) sorts last
            prices.setdefault((price.country, price.number_type), price)
        return prices


class Price(models.Model):
    """One row of the price list. Changing it never touches running rentals: they froze theirs."""

    organization = models.ForeignKey(
        Organization,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="prices",
        help_text="Empty: for everyone.",
    )
    country = models.CharField(max_length=2, validators=[RegexValidator(r"^[A-Z]{2}\Z")])
    number_type = models.CharField(max_length=9, choices=NumberType)
    currency = models.CharField(
        max_length=3, default="USD", validators=[RegexValidator(r"^[A-Z]{3}\Z")]
    )
    purchase_fee = models.BigIntegerField(
        validators=[MinValueValidator(0)], help_text="Once, in the minor unit (cents)."
    )
    rental = models.BigIntegerField(
        validators=[MinValueValidator(0)],
        help_text="Per interval, in the minor unit (cents).",
    )
    interval_months = models.PositiveSmallIntegerField(
        default=1,
        choices=[(1, "monthly"), (3, "3 months"), (6, "6 months"), (12, "12 months")],
    )
    valid_from = models.DateField()

    objects = PriceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=[
                    "organization",
                    "country",
                    "number_type",
                    "currency",
                    "valid_from",
                ],
                name="price_once_per_day",
                nulls_distinct=False,
            ),
            models.CheckConstraint(
                condition=Q(purchase_fee__gte=0) & Q(rental__gte=0),
                name="price_not_negative",
            ),
            models.CheckConstraint(
                condition=Q(interval_months__in=[1, 3, 6, 12]), name="price_interval"
            ),
        ]
        ordering = ["country", "number_type", "-valid_from"]

    def __str__(self):
        return f"{self.country} {self.get_number_type_display()} from {day(self.valid_from)}"

    @property
    def for_whom(self):
        return self.organization or "everyone"

    def has_begun(self, *, at):
        """May it have been quoted: is its day reached anywhere on earth?"""
        return self.valid_from <= (at + timedelta(hours=14)).date()

    def alike(self):
        """The other rows for the same organization, or for everyone, and the same kind of number."""
        return Price.objects.exclude(pk=self.pk).filter(
            organization=self.organization,
            country=self.country,
            number_type=self.number_type,
            currency=self.currency,
        )

    def check_day(self, *, at):
        """Refuse a day that another row has, or one in the past of a price that is in force."""
        alike, today = self.alike(), at.date()
        if alike.filter(valid_from=self.valid_from).exists():
            raise PriceRefused(
                f"{self} is on the price list of {self.for_whom} already. Change that row, or choose "
                "another day."
            )
        if self.valid_from >= today:
            return
        if current := alike.filter(valid_from__lte=today).order_by("valid_from").last():
            raise PriceRefused(
                f"The price since {day(current.valid_from)} is in force for {self.for_whom}. A new "
                f"one begins on {day(today)} or later."
            )
