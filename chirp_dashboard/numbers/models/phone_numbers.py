"""Phone numbers the organization owns, and the verbs of their life."""

from django.contrib.postgres.indexes import GinIndex
from django.db import models
from django.db.models import ExpressionWrapper, F, Q, Value
from django.db.models.functions import Concat, Lower
from django.utils import timezone

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.public_ids import PublicIdField

from .inventory import NumberFacts

LIVE = ~Q(state="released")
UNLABELLED = ExpressionWrapper(Q(label=""), output_field=models.BooleanField())  # sorts last


class PhoneNumberQuerySet(models.QuerySet):
    def live(self):
        return self.filter(LIVE)


class PhoneNumber(NumberFacts):
    """A number an organization owns, or owned. A later purchase of the same number is a new row.

    `rental_amount`, `releases_on` and `assignment_count` repeat what the open rental and the open
    assignments say, so that a list of a million sorts and filters by index; they change in the same
    transaction and `check_books` compares.
    """

    class State(models.TextChoices):
        ACTIVE = "active", "Active"
        SUSPENDED = "suspended", "Unpaid"
        RELEASED = "released", "Released"

    public_id = PublicIdField("ph")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="phone_numbers"
    )
    carrier = models.CharField(max_length=20, default="stock")
    label = models.CharField(max_length=80, blank=True)
    state = models.CharField(max_length=9, choices=State, default=State.ACTIVE)
    is_test = models.BooleanField(default=False)
    release_locked = models.BooleanField(default=False)
    no_fee_reason = models.CharField(
        max_length=80,
        blank=True,
        help_text="Why there is no purchase fee, where there is none.",
    )
    rental_amount = models.BigIntegerField()
    interval_months = models.PositiveSmallIntegerField(default=1)
    currency = models.CharField(max_length=3)
    assignment_count = models.PositiveIntegerField(default=0)
    purchased_at = models.DateTimeField(default=timezone.now)
    suspended_on = models.DateField(null=True)
    releases_on = models.DateField(null=True, help_text="The rental's end, once it has one.")
    released_at = models.DateTimeField(null=True)
    search = models.GeneratedField(
        expression=Lower(
            Concat(
                F("number"),
                Value(" "),
                F("label"),
                Value(" "),
                F("city"),
                Value(" "),
                F("region"),
            )
        ),
        output_field=models.TextField(),
        db_persist=True,
    )

    objects = PhoneNumberQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["country", "number"],
                condition=LIVE,
                name="phone_number_owned_once",
            ),
            models.CheckConstraint(
                condition=Q(
                    state="released",
                    released_at__isnull=False,
                    releases_on__isnull=False,
                )
                | (~Q(state="released") & Q(released_at=None)),
                name="phone_number_released",
            ),
            models.CheckConstraint(
                condition=~Q(state="released") | Q(assignment_count=0),
                name="phone_number_released_unassigned",
            ),
        ]
        indexes = [
            models.Index(
                fields=["organization", "number", "id"],
                condition=LIVE,
                name="number_by_number",
            ),
            models.Index(
                F("organization"),
                UNLABELLED,
                Lower("label"),
                F("id"),
                condition=LIVE,
                name="number_by_label",
            ),
            models.Index(
                fields=["organization", "number_type", "number", "id"],
                condition=LIVE,
                name="number_by_type",
            ),
            models.Index(
                fields=["organization", "region", "number", "id"],
                condition=LIVE,
                name="number_by_region",
            ),
            models.Index(
                fields=["organization", "purchased_at", "id"],
                condition=LIVE,
                name="number_by_purchase",
            ),
            models.Index(
                fields=["organization", "rental_amount", "id"],
                condition=LIVE,
                name="number_by_rental",
            ),
            models.Index(
                fields=["organization", "number", "id"],
                condition=LIVE & Q(assignment_count=0),
                name="number_not_assigned",
            ),
            models.Index(
                fields=["organization", "number", "id"],
                condition=Q(state="suspended"),
                name="number_suspended",
            ),
            models.Index(
                fields=["organization", "number", "id"],
                condition=LIVE & Q(release_locked=True),
                name="number_locked",
            ),
            models.Index(
                fields=["organization", "number", "id"],
                condition=LIVE & Q(releases_on__isnull=False),
                name="number_being_released",
            ),
            models.Index(
                fields=["releases_on"],
                condition=LIVE & Q(releases_on__isnull=False),
                name="number_releasing",
            ),
            models.Index(
                fields=["organization", "number", "id"],
                condition=Q(state="released"),
                name="number_released",
            ),
            GinIndex(fields=["search"], opclasses=["gin_trgm_ops"], name="number_search"),
        ]

    @property
    def is_released(self):
        return self.state == self.State.RELEASED

    @property
    def is_suspended(self):
        return self.state == self.State.SUSPENDED

    @property
    def is_releasing(self):
        return self.releases_on is not None and not self.is_released

    @property
    def is_assigned(self):
        return self.assignment_count > 0


class Totals(models.Model):
    """How many live numbers an organization has and what they rent for a month, kept as they change."""

    organization = models.OneToOneField(
        Organization, on_delete=models.PROTECT, primary_key=True, related_name="totals"
    )
    numbers = models.BigIntegerField(default=0)
    monthly = models.BigIntegerField(
        default=0,
        help_text="Rentals of one month, in the minor unit; leases not counted.",
    )

    class Meta:
        verbose_name_plural = "totals"

    def __str__(self):
        return f"{self.numbers} numbers of {self.organization}"
