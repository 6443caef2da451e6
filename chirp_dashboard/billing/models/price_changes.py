"""Price changes: an announced new price of running rentals, from a named period on."""

from dataclasses import dataclass
from datetime import date, timedelta

import pgtrigger
from django.conf import settings
from django.core.validators import MinValueValidator
from django.db import connection, models, transaction
from django.db.models import Count, Max, Q, Sum

from chirp_dashboard.billing.periods import add_months, months_until, next_billing_date
from chirp_dashboard.organizations.models import INSERT_ONLY, Activity, Mail, Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day, money

from .books import Charge, Standing, take_id
from .prices import NumberType, Price

ONE_DAY = timedelta(days=1)

NOTICE = timedelta(days=30)
"""Between announcement and the first period at the new price. Not a setting: it is what customers are
promised, and it leaves everybody one invoice at the old price and time to release the number."""

LARGEST = 10**12  # in the minor unit
KIND = ("country", "number_type", "interval_months")

# What the period of `rental` (a row of billing_rental) that begins on {start} costs. For an organization
# without announced changes the first EXISTS is answered once per statement and nothing else is read.
PRICE_FOR = """
    CASE WHEN EXISTS (
        SELECT FROM billing_pricechange
        WHERE organization_id = %(organization)s AND withdrawn_at IS NULL
    ) THEN coalesce((
        SELECT changed.amount FROM billing_rentalprice changed
        JOIN billing_pricechange change ON change.id = changed.change_id
        WHERE changed.rental_id = rental.id AND change.withdrawn_at IS NULL
          AND change.applies_from <= {start}
        ORDER BY change.applies_from DESC LIMIT 1
    ), rental.amount) ELSE rental.amount END
"""

WRITE = """
    WITH running (id, price) AS ({running}),
    written AS (
        INSERT INTO billing_rentalprice (change_id, rental_id, amount) SELECT %s, id, %s FROM running
    )
    SELECT count(*), coalesce(sum(price), 0)::bigint FROM running
"""


class PriceChangeRefused(Refused):
    """The change makes no sense, comes too late or affects nothing; the text says why."""


@dataclass(frozen=True)
class Effect:
    """What a change does to one organization. Sums are per interval, in the minor unit."""

    organization: Organization
    rentals: int
    ending: int
    before: int
    after: int
    first_period_on: date
    first_invoice_on: date

    @classmethod
    def of(cls, organization, *, amount, applies_from, renewal, rentals, **sums):
        """`renewal` is the first day on which a lease renews; months begin on billing dates."""
        day_of, before = organization.billing_day, applies_from - ONE_DAY
        first_period_on = renewal or next_billing_date(day_of, after=before)
        return cls(
            organization=organization,
            rentals=rentals,
            ending=sums["ending"],
            before=sums["before"],
            after=rentals * amount,
            first_period_on=first_period_on,
            first_invoice_on=next_billing_date(day_of, after=first_period_on - ONE_DAY),
        )


@dataclass(frozen=True)
class Preview:
    """What a change would do if it were announced now; `through` is the last rental it counted."""

    effects: list
    left_out: list
    through: int

    @property
    def rentals(self):
        return sum(effect.rentals for effect in self.effects)

    @property
    def before(self):
        return sum(effect.before for effect in self.effects)

    @property
    def after(self):
        return sum(effect.after for effect in self.effects)

    @property
    def difference(self):
        return self.after - self.before


class PriceChangeQuerySet(models.QuerySet):
    def standing(self):
        """Not withdrawn."""
        return self.filter(withdrawn_at=None)

    def announced(self, organization, *, on):
        """What is announced to `organization` and still ahead on its local date `on`, soonest first."""
        changes = self.standing().filter(organization=organization, applies_from__gt=on)
        return changes.order_by("applies_from", "pk")

    def due_to_show(self, *, at):
        """What has begun where its organization is and is not shown in lists yet, earliest first."""
        due = self.standing().filter(applied_at=None, applies_from__lte=(at + ONE_DAY).date())
        ordered = due.select_related("organization").order_by("applies_from", "pk")
        return [change for change in ordered if change.has_begun(at=at)]

    def preview(
        self, organization=None, *, country, number_type, interval_months, amount, currency,
        applies_from, at,
    ):  # fmt: skip
        """What the running rentals of a kind would cost from `applies_from`, per organization.

        Without `organization`: everybody who pays in `currency`, apart from organizations that have
        a price of their own for it. Raises PriceChangeRefused when it could not be announced.
        """
        kind = dict(zip(KIND, (country, number_type, interval_months), strict=True))
        self._check_facts(organization, number_type, amount, currency)
        left_out = [] if organization else self._left_out(kind, currency, applies_from)
        whose = Q(organization=organization) if organization else ~Q(organization__in=left_out)
        rentals = self._rentals().running(at=at).of_kind(**kind).filter(whose, currency=currency)
        changing = rentals.with_price(on=applies_from).exclude(price=amount)
        effects = self._effects(changing, amount=amount, applies_from=applies_from)
        if not effects:
            raise PriceChangeRefused(
                "Nothing would change: no rental of this kind is running, or all have that price."
            )
        self._check_day(
            [effect.organization for effect in effects], kind, amount, applies_from, at=at
        )
        through = changing.aggregate(last=Max("pk"))["last"]
        return Preview(effects=effects, left_out=left_out, through=through)

    def announce(self, organization=None, *, reason, by, at, through=None, **facts):
        """Announce the new price at once to everyone it affects, with `preview`'s facts; returns the changes.

        For who can wait; the admin leaves it to the worker (`PriceAnnouncement`). Rentals after
        `through` (of the preview somebody saw) are left alone. Raises PriceChangeRefused before
        anything is written. Then each organization has a transaction of its own, so that none waits
        for the others: a repeat after a crash announces what is missing.
        """
        reason = self.checked_reason(reason)
        preview = self.preview(organization, **facts, at=at)
        through = preview.through if through is None else through
        return [
            self.announce_to(effect.organization, facts, reason, through, by=by, at=at)
            for effect in preview.effects
        ]

    @transaction.atomic
    def announce_to(self, organization, facts, reason, through, *, by, at):
        """Under the organization's lock, like everything that charges or starts rentals."""
        Standing.lock(organization)
        amount, applies_from = facts["amount"], facts["applies_from"]
        kind = {name: facts[name] for name in KIND}
        if known := self.of_kind(organization, applies_from=applies_from, **kind).first():
            return known.again(amount)
        self.check_not_billed([organization], applies_from)
        rentals = self._rentals().running(at=at).of_kind(**kind).filter(
            organization=organization, currency=facts["currency"], pk__lte=through
        )  # fmt: skip
        pk = take_id(self.model)
        count, before = RentalPrice.objects.write(pk, rentals, amount=amount, on=applies_from)
        if not count:
            raise PriceChangeRefused(f"No running rental of {organization} would change any more.")
        change = self.create(
            pk=pk, organization=organization, **facts, reason=reason, rentals=count, before=before,
            announced_at=at, announced_by=by,
        )  # fmt: skip
        change.tell("price_change_announced", by=by, at=at)
        return change

    def of_kind(self, organization, *, applies_from, **kind):
        """The standing change of that day, of which there is at most one."""
        return self.standing().filter(organization=organization, applies_from=applies_from, **kind)

    # refusals

    def checked_reason(self, reason):
        reason = " ".join(reason.split())
        if not reason:
            raise PriceChangeRefused("Write why the price changes; the announcement says it.")
        return reason

    def _check_facts(self, organization, number_type, amount, currency):
        if amount < 0:
            raise PriceChangeRefused("A price is not below zero.")
        if amount > LARGEST:
            raise PriceChangeRefused("No number costs that much.")
        if number_type not in NumberType.values:
            raise PriceChangeRefused("There is no such number type.")
        if organization and currency != organization.currency:
            raise PriceChangeRefused(f"{organization} pays in {organization.currency}.")

    def _check_day(self, organizations, kind, amount, applies_from, *, at):
        """Refuse a day that is too soon, was billed already, or has another price announced."""
        self.check_notice(organizations, applies_from, at=at)
        self.check_not_billed(organizations, applies_from)
        known = self.standing().filter(
            organization__in=organizations, applies_from=applies_from, **kind
        )
        if other := known.exclude(amount=amount).first():
            other.again(amount)

    def check_notice(self, organizations, applies_from, *, at):
        earliest = max(each.local_date(at) for each in organizations) + NOTICE
        if applies_from < earliest:
            raise PriceChangeRefused(
                f"A change is announced {NOTICE.days} days before: choose {day(earliest)} or later."
            )

    def check_not_billed(self, organizations, applies_from):
        """Refuse where a billing date from then on is closed, or a period that begins then charged."""
        closed = Standing.objects.filter(
            organization__in=organizations, closed_through__gte=applies_from
        )
        charged = Charge.objects.filter(
            organization__in=organizations, on__gte=applies_from, period_start__gte=applies_from
        )
        for found in (closed, charged):
            if row := found.select_related("organization").first():
                raise PriceChangeRefused(
                    f"{row.organization} has been billed for {day(applies_from)} or later already."
                )

    # parts

    def _rentals(self):
        return RentalPrice._meta.get_field("rental").related_model.objects

    def _left_out(self, kind, currency, applies_from):
        """The organizations that have a price of their own by then."""
        own = Price.objects.filter(
            organization__isnull=False, country=kind["country"], number_type=kind["number_type"],
            currency=currency, valid_from__lte=applies_from,
        )  # fmt: skip
        return list(Organization.objects.filter(pk__in=own.values("organization")))

    def _effects(self, changing, *, amount, applies_from):
        sums = changing.values("organization").annotate(
            rentals=Count("pk"), before=Sum("price"),
            ending=Count("pk", filter=Q(ends_on__lte=applies_from)),
        )  # fmt: skip
        found = {row.pop("organization"): row for row in sums.order_by()}
        renewals = self._first_renewals(changing, applies_from)
        return [
            Effect.of(
                each, amount=amount, applies_from=applies_from, renewal=renewals.get(each.pk),
                **found[each.pk],
            )
            for each in Organization.objects.filter(pk__in=found)
        ]  # fmt: skip

    def _first_renewals(self, changing, applies_from):
        """`{organization: the first day from then on on which one of its leases renews}`."""
        renewals = {}
        leases = changing.filter(interval_months__gt=1).order_by()
        for organization, anchor, months in leases.values_list(
            "organization", "anchor", "interval_months"
        ).distinct():
            passed = months_until(anchor, applies_from - ONE_DAY)
            renewal = add_months(anchor, passed - passed % months + months)
            renewals[organization] = min(renewal, renewals.get(organization, renewal))
        return renewals


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

    objects = PriceChangeQuerySet.as_manager()

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
        triggers = [
            pgtrigger.ReadOnly(name="announced", exclude=["withdrawn_at", "applied_at"]),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"{self.country} {self.get_number_type_display()} from {day(self.applies_from)}"

    @property
    def after(self):
        """What the rentals it changes cost together, per interval."""
        return self.rentals * self.amount

    @property
    def every(self):
        """ "month", or "3 months" of a lease."""
        return "month" if self.interval_months == 1 else f"{self.interval_months} months"

    @property
    def first_invoice_on(self):
        """The date of the first invoice that can carry the new price."""
        return next_billing_date(self.organization.billing_day, after=self.applies_from - ONE_DAY)

    @property
    def is_withdrawn(self):
        return self.withdrawn_at is not None

    def has_begun(self, *, at):
        """Is its day reached where the organization is?"""
        return self.organization.local_date(at) >= self.applies_from

    def again(self, amount):
        """This change, announced a second time; refuses another price for the same day."""
        if amount != self.amount:
            raise PriceChangeRefused(
                f"{money(self.amount, self.currency)} from {day(self.applies_from)} is announced to "
                f"{self.organization} already. Withdraw that first, or choose another day."
            )
        return self

    @transaction.atomic
    def withdraw(self, *, reason, by, at):
        """Take the announcement back before its day; rentals keep what they have by then."""
        Standing.lock(self.organization)
        self.refresh_from_db(from_queryset=PriceChange.objects.select_for_update(of=["self"]))
        reason = " ".join(reason.split())
        if not reason:
            raise PriceChangeRefused("Write why it is withdrawn; the customer reads it.")
        if self.is_withdrawn:
            raise PriceChangeRefused("It was withdrawn already.")
        if self.has_begun(at=at):
            raise PriceChangeRefused(
                f"It applies since {day(self.applies_from)}. Announce another price instead."
            )
        PriceChange.objects.check_not_billed([self.organization], self.applies_from)
        self.withdrawn_at = at
        self.save(update_fields=["withdrawn_at"])
        self.tell("price_change_withdrawn", by=by, at=at, reason=reason)

    def tell(self, kind, *, by, at, **facts):
        """Leave an activity row and write to the organization's people of billing."""
        Activity.objects.record(
            self.organization, kind, subject=f"price change {self.pk}", by=by, at=at,
            after={
                "country": self.country, "number_type": self.number_type,
                "interval_months": self.interval_months, "amount": self.amount,
                "currency": self.currency, "applies_from": str(self.applies_from),
                "rentals": self.rentals, "before": self.before, "after": self.after,
                "reason": self.reason, **facts,
            },
        )  # fmt: skip
        Mail.objects.write(
            self.organization, kind, key=f"{kind}-{self.pk}", at=at, change=self, **facts
        )


class RentalPriceQuerySet(models.QuerySet):
    def applying(self, period_start):
        """What counts for a period that begins on `period_start`, the latest first."""
        return self.filter(
            change__withdrawn_at=None, change__applies_from__lte=period_start
        ).order_by("-change__applies_from")

    def write(self, change_id, rentals, *, amount, on):
        """Price each of `rentals` that does not cost `amount` by `on`; how many, and their sum before."""
        changing = rentals.with_price(on=on).exclude(price=amount).order_by()
        running, parameters = changing.values("pk", "price").query.sql_with_params()
        with connection.cursor() as cursor:
            cursor.execute(WRITE.format(running=running), [*parameters, change_id, amount])
            return cursor.fetchone()

    def carry_over(self, rental, *, to, on):
        """Let what was announced for `rental` and begins after `on` apply to its successor as well."""
        ahead = self.filter(
            rental=rental, change__withdrawn_at=None, change__applies_from__gt=on
        ).values_list("change", "amount")
        return self.bulk_create(
            RentalPrice(rental=to, change_id=change, amount=amount) for change, amount in ahead
        )


class RentalPrice(models.Model):
    """The price one rental has by a PriceChange; the latest that applies to a period counts."""

    change = models.ForeignKey(PriceChange, on_delete=models.PROTECT, related_name="prices")
    rental = models.ForeignKey(
        "billing.Rental", on_delete=models.PROTECT, related_name="prices", db_index=False
    )
    amount = models.BigIntegerField()

    objects = RentalPriceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["rental", "change"], name="rental_price_once"),
            models.CheckConstraint(condition=Q(amount__gte=0), name="rental_price_not_negative"),
        ]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.rental}: {self.amount}"
