"""Phone numbers the organization owns, and the verbs of their life."""

from datetime import date, timedelta

from django.contrib.postgres.indexes import GinIndex
from django.db import models, transaction
from django.db.models import ExpressionWrapper, F, Q, Value
from django.db.models.functions import Concat, Lower
from django.utils import timezone

from chirp_dashboard.organizations.models import Activity, Organization
from chirp_dashboard.organizations.public_ids import PublicIdField
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.sweeps import for_each

from .assigning import Assigns
from .inventory import NumberFacts, NumberQuerySet
from .releasing import Releases
from .suspending import FollowsStanding
from .testing import AddsTestNumbers

LIVE = ~Q(state="released")
LABEL_LENGTH = 80


def written(values):
    """`values` as JSON keeps them: dates and moments as ISO text."""
    return {
        name: value.isoformat() if isinstance(value, date) else value
        for name, value in (values or {}).items()
    }


UNLABELLED = ExpressionWrapper(Q(label=""), output_field=models.BooleanField())  # sorts last


class PhoneNumberQuerySet(AddsTestNumbers, FollowsStanding, NumberQuerySet):
    def live(self):
        return self.filter(LIVE)

    def visible_to(self, organization):
        return self.filter(organization=organization)

    def complete_releases(self, *, at):
        """Release every number whose last day has passed where its organization is; returns how many.

        Each is a transaction of its own, and looks again under its lock: a release cancelled or
        completed meanwhile is left alone. One that fails keeps no other waiting.
        """
        due = self.live().filter(releases_on__lte=(at + timedelta(days=1)).date())
        return for_each(
            due.select_related("organization").order_by("releases_on").iterator(),
            lambda number: number.complete_release(at=at) if number.is_over(at=at) else 0,
            failure="could not be released",
        )


class PhoneNumber(Releases, Assigns, NumberFacts):
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
    label = models.CharField(max_length=LABEL_LENGTH, blank=True)
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
                condition=LIVE & Q(is_test=False),
                name="phone_number_owned_once",
            ),
            models.UniqueConstraint(
                fields=["organization", "number"],
                condition=LIVE & Q(is_test=True),
                name="phone_number_test_once",
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

    def lock(self):
        """Hold this row until the transaction ends; every verb locks it, then looks, then changes.

        Locks are taken in one order everywhere, so that no two verbs wait for each other:

        1. `Standing.lock(organization)`, by whatever begins or ends a rental, counts in the totals,
           moves money, or follows the standing. `organization.lock()` is the part of it that does
           where there is no money, for holds and test numbers;
        2. applications, in the order of their ids;
        3. phone numbers, in the order of their ids;
        4. what belongs to them: assignments, rentals, totals, and last of all the stock, in the order
           of its index.

        A verb leaves out what it does not need, and never goes back up.
        """
        self.refresh_from_db(from_queryset=PhoneNumber.objects.select_for_update(no_key=True))

    @transaction.atomic
    def rename(self, label, *, by, at):
        """Label this number; an empty label takes the label away."""
        self.lock()
        label = " ".join(label.split())
        if len(label) > LABEL_LENGTH:
            raise Refused(f"A label has at most {LABEL_LENGTH} characters.")
        if label == self.label:
            return
        self._change("labelled", {"label": label}, by=by, at=at)

    @transaction.atomic
    def set_release_lock(self, locked, *, by, at):
        """Refuse release by people until the lock is switched off again."""
        self.lock()
        if locked != self.release_locked:
            self._change(
                "locked" if locked else "unlocked", {"release_locked": locked}, by=by, at=at
            )

    def _change(self, verb, values, *, by, at, note=None):
        """Set `values` on this row and leave an activity row that says what they were."""
        before = {name: getattr(self, name) for name in values}
        for name, value in values.items():
            setattr(self, name, value)
        self.save(update_fields=values)
        self._note(verb, by=by, at=at, before=before, after=values | (note or {}))

    def _note(self, verb, *, by, at, before=None, after=None):
        Activity.objects.record(
            self.organization, verb, subject=self, by=by, at=at,
            before=written(before), after=written(after),
        )  # fmt: skip

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


class TotalsManager(models.Manager):
    def change(self, organization, *, numbers, monthly):
        """Add to `organization`'s totals in the caller's transaction, which made the change they count."""
        Totals.objects.get_or_create(organization=organization)
        self.filter(organization=organization).update(
            numbers=F("numbers") + numbers, monthly=F("monthly") + monthly
        )


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
    suspended_at = models.DateTimeField(
        null=True, help_text="Which suspension of the standing the numbers follow."
    )
    is_suspending = models.BooleanField(
        default=False, db_default=False, help_text="Some of them are still to be suspended."
    )

    objects = TotalsManager()

    class Meta:
        verbose_name_plural = "totals"

    def __str__(self):
        return f"{self.numbers} numbers of {self.organization}"
