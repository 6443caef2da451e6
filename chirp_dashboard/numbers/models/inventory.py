"""Stock: the numbers this deployment sells itself."""

from django.contrib.postgres.fields import ArrayField
from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import Q

from chirp_dashboard.billing.models import NumberType


class Capability(models.TextChoices):
    SMS = "SMS", "SMS"
    MMS = "MMS", "MMS"
    VOICE = "Voice", "Voice"


class NumberQuerySet(models.QuerySet):
    def among(self, numbers):
        """Exactly the `(country, number)` pairs in `numbers`."""
        wanted = Q(pk=None)
        for country in {country for country, _ in numbers}:
            wanted |= Q(country=country, number__in=[n for c, n in numbers if c == country])
        return self.filter(wanted)


class NumberFacts(models.Model):
    """What is true of a number whoever owns it; shared by stock, holds, order lines and phone numbers."""

    FACTS = (
        "country",
        "number",
        "number_type",
        "region",
        "city",
        "area_code",
        "capabilities",
    )

    country = models.CharField(max_length=2)
    number = models.CharField(
        max_length=16,
        db_collation="C",
        help_text="E.164 such as +12125550142; bare digits for a short code.",
    )
    number_type = models.CharField(max_length=9, choices=NumberType)
    region = models.CharField(max_length=3, blank=True, help_text="State or province, such as NY.")
    city = models.CharField(max_length=80, blank=True)
    area_code = models.CharField(max_length=4, blank=True)
    capabilities = ArrayField(models.CharField(max_length=8, choices=Capability), default=list)

    class Meta:
        abstract = True

    def __str__(self):
        return self.display

    @property
    def display(self):
        """(212) 555-0142 for North America, bare digits for a short code, else E.164."""
        if self.number.startswith("+1") and len(self.number) == 12:
            digits = self.number[2:]
            return f"({digits[:3]}) {digits[3:6]}-{digits[6:]}"
        return self.number

    @property
    def facts(self):
        """The columns every copy of this number shares, to write the next copy from."""
        return {name: getattr(self, name) for name in self.FACTS}

    @property
    def key(self):
        return self.country, self.number

    @property
    def location(self):
        """ "New York, NY"; empty where a number belongs to a whole country."""
        return ", ".join(part for part in (self.city, self.region) if part)


class InventoryQuerySet(NumberQuerySet):
    def for_sale(self, *, at):
        """Neither sold nor claimed nor kept aside at the moment `at`. Holds are judged by the search."""
        return self.filter(status=InventoryNumber.Status.FOR_SALE).filter(
            Q(not_for_sale_until=None) | Q(not_for_sale_until__lte=at)
        )


class InventoryNumber(NumberFacts):
    """A number in stock. Its row is locked before it is claimed: a number is sold once."""

    class Status(models.TextChoices):
        FOR_SALE = "for_sale", "For sale"
        CLAIMED = "claimed", "Claimed by an order"
        SOLD = "sold", "Sold"
        WITHDRAWN = "withdrawn", "Withdrawn"

    status = models.CharField(max_length=9, choices=Status, default=Status.FOR_SALE)
    not_for_sale_until = models.DateTimeField(
        null=True,
        blank=True,
        help_text="Kept aside after a release, so that it can be undone.",
    )

    objects = InventoryQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["country", "number"], name="inventory_number_once"),
            models.CheckConstraint(
                condition=Q(number__regex=r"^(\+[1-9][0-9]{6,14}|[0-9]{4,6})$"),
                name="inventory_number_format",
            ),
        ]
        indexes = [
            models.Index(
                fields=["country", "number_type", "number"],
                condition=Q(status="for_sale"),
                name="inventory_by_number",
            ),
            models.Index(
                fields=["country", "number_type", "region", "number"],
                condition=Q(status="for_sale"),
                name="inventory_by_region",
            ),
            models.Index(
                fields=["country", "region", "city", "number"],
                condition=Q(status="for_sale"),
                name="inventory_by_city",
            ),
            models.Index(
                fields=["area_code", "number"],
                condition=Q(status="for_sale"),
                name="inventory_by_area_code",
            ),
            GinIndex(fields=["number"], opclasses=["gin_trgm_ops"], name="inventory_by_pattern"),
        ]

    def is_for_sale(self, *, at):
        aside = self.not_for_sale_until is not None and self.not_for_sale_until > at
        return self.status == self.Status.FOR_SALE and not aside
