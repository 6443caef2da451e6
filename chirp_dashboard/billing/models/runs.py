"""The run: charges every rental period that has begun and writes one invoice per billing date.

It may be repeated, interrupted, or run twice at once: a batch is one transaction under the organization's
lock, the database refuses a second charge for a period, and a billing date is closed once.
"""

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import date, timedelta
from typing import NamedTuple

from django.db import connection, models, transaction
from django.db.models import Exists, Func, Max, OuterRef, Q
from django.db.models.functions import Greatest

from chirp_dashboard.billing.periods import billing_dates, next_billing_date
from chirp_dashboard.organizations.models import Mail, Organization

from .books import Account, Charge, Entry, Standing
from .invoices import Invoice
from .overlooked import overlooked
from .price_changes import PRICE_FOR

logger = logging.getLogger(__name__)

BATCH = 25_000
"""Rentals charged in one transaction: other work of the organization waits that long at most."""

HOUR = timedelta(hours=1)
SILENCE = 24 * HOUR
"""Without a run for so long, an operator is told: runs are due every few minutes."""

ALARM = "run-alarm-"  # and the run: the key of its mail

INSERT = """
    INSERT INTO billing_charge
        (organization_id, entry_id, kind, rental_id, phone_number_id, "on", billing_date,
         period_start, period_end, amount, currency, description, created_at)
"""
ONCE = "ON CONFLICT (rental_id, period_start) WHERE kind = 'rental' DO NOTHING RETURNING amount"

# The first period of a rental was written when it started; these are the later ones. `due` is read in
# the order of ids, and whatever is purchased while the run is at work gets a higher one.
CHARGE_MONTH = f"""
    WITH due AS (
        SELECT id, phone_number_id, {PRICE_FOR.format(start="%(start)s")} AS amount, currency
        FROM billing_rental rental
        WHERE organization_id = %(organization)s AND id > %(after)s AND interval_months = 1
          AND starts_on < %(start)s AND (ends_on IS NULL OR ends_on > %(start)s)
        ORDER BY id LIMIT %(batch)s
    ),
    written AS (
        {INSERT}
        SELECT %(organization)s, %(entry)s, 'rental', id, phone_number_id, %(on)s, %(billing_date)s,
               %(start)s, %(end)s, amount, currency, '', %(at)s
        FROM due {ONCE}
    )
    SELECT (SELECT count(*) FROM due), (SELECT max(id) FROM due),
           (SELECT count(*) FROM written), (SELECT coalesce(sum(amount), 0)::bigint FROM written)
"""  # noqa: S608

# A lease's periods begin on its own anchor, so each is dated on the day it began, unless that day has
# been invoiced already. OFFSET 0: what is charged is looked up lease by lease, not all of it read.
LEASES_DUE = f"""
    SELECT rental.id, phone_number_id, {PRICE_FOR.format(start="period.starts")} AS amount, currency,
           period.starts, period.ends
    FROM billing_rental rental, LATERAL (
        SELECT (anchor + make_interval(months => n * interval_months))::date AS starts,
               (anchor + make_interval(months => (n + 1) * interval_months))::date AS ends
        FROM generate_series(1, (
            (extract(year FROM %(through)s::date) - extract(year FROM anchor)) * 12
            + extract(month FROM %(through)s::date) - extract(month FROM anchor)
        )::int / interval_months) AS n
    ) AS period
    WHERE organization_id = %(organization)s AND interval_months > 1
      AND period.starts > starts_on AND period.starts <= %(through)s
      AND (ends_on IS NULL OR ends_on > period.starts)
      AND NOT EXISTS (
          SELECT FROM billing_charge charge
          WHERE charge.rental_id = rental.id AND charge.period_start = period.starts
            AND charge.kind = 'rental'
          OFFSET 0
      )
"""  # noqa: S608
CHARGE_LEASES = f"""
    WITH due AS ({LEASES_DUE}),
    written AS (
        {INSERT}
        SELECT %(organization)s, %(entry)s, 'rental', id, phone_number_id,
               CASE WHEN starts > %(closed)s THEN starts ELSE %(late_on)s END,
               CASE WHEN starts > %(closed)s THEN %(billing_date)s END,
               starts, ends, amount, currency, '', %(at)s
        FROM due {ONCE}
    )
    SELECT (SELECT count(*) FROM due), NULL,
           (SELECT count(*) FROM written), (SELECT coalesce(sum(amount), 0)::bigint FROM written)
"""  # noqa: S608

# A charge is never dated before the period it pays for.
FIRST_UNCHARGED = """
    SELECT min(rental.id), count(*) FROM billing_rental rental
    WHERE organization_id = %(organization)s AND interval_months = 1
      AND starts_on < %(start)s AND (ends_on IS NULL OR ends_on > %(start)s)
      AND NOT EXISTS (
          SELECT FROM billing_charge charge
          WHERE charge.organization_id = %(organization)s AND charge."on" >= %(start)s
            AND charge.rental_id = rental.id AND charge.period_start = %(start)s
            AND charge.kind = 'rental'
      )
"""


class ClockTimestamp(Func):
    """The database's clock, which goes on within a transaction."""

    function = "clock_timestamp"
    output_field = models.DateTimeField()


class PeriodsNotCharged(Exception):
    """The run went through an organization and something due was still not charged: an alarm."""


class Wrote(NamedTuple):
    """What one statement found due, the last id of it, and what it wrote."""

    found: int
    last: int | None
    charges: int
    amount: int


@dataclass
class Collection:
    """What a run does for one organization, and what came of it.

    `skipped` counts periods that were charged before: by a run that was interrupted or went on beside
    this one, or when a number was released or delivered late.
    """

    organization: Organization
    on: date
    at: object
    charges: int = 0
    amount: int = 0
    skipped: int = 0
    late: int = 0
    invoices: list = field(default_factory=list)

    @property
    def is_quiet(self):
        return not self.charges and not self.invoices

    @property
    def invoiced(self):
        return sum(invoice.total for invoice in self.invoices)

    def carry_out(self):
        """Charge and invoice every billing date reached, oldest first, then leases begun since."""
        for billing_date in self.billing_dates_due():
            self.charge_leases(billing_date)
            self.close(billing_date)
        self.charge_leases(self.on)
        self.charge_missed()
        if skipped := self.billing_dates_due():
            raise PeriodsNotCharged(f"{skipped[0]} was due and nothing was billed.")

    def billing_dates_due(self):
        """The billing dates reached and not yet closed; none for an organization never charged."""
        closed = self.closed_through() or self.day_before_the_first()
        if closed is None:
            return []
        return list(billing_dates(self.organization.billing_day, after=closed, until=self.on))

    def closed_through(self):
        standing = Standing.objects.filter(organization=self.organization)
        return standing.values_list("closed_through", flat=True).first()

    def day_before_the_first(self):
        """Before anything was invoiced: the day before the first rental or charge."""
        first = [
            self.organization.rentals.aggregate(first=models.Min("starts_on"))["first"],
            self.organization.charges.aggregate(first=models.Min("on"))["first"],
        ]
        found = [day for day in first if day]
        return min(found) - timedelta(days=1) if found else None

    def close(self, billing_date):
        """Charge everything that begins on `billing_date` in batches; the last one also invoices."""
        last = 0
        while last is not None:
            with transaction.atomic():
                standing = Standing.lock(self.organization)
                if standing.has_closed(billing_date):
                    return  # by a run beside this one
                wrote, last = self.charge_month(standing, billing_date, after=last)
                invoice = None
                if last is None:
                    invoice = Invoice.objects.issue(standing, billing_date, at=self.at)
            self.skipped += wrote.found - wrote.charges
            self.count(wrote, invoice)

    def charge_month(self, standing, start, *, after, on=None):
        """Charge one batch of monthly rentals for the period that begins on `start`.

        Returns what was written and the id to go on after, None when there is nothing left.
        """
        wrote = self.write(
            CHARGE_MONTH,
            standing,
            after=after,
            batch=BATCH,
            start=start,
            end=next_billing_date(self.organization.billing_day, after=start),
            on=on or start,
            billing_date=None if on else start,
        )
        return wrote, wrote.last if wrote.found == BATCH else None

    def charge_leases(self, through):
        """Charge every period of a lease that began by `through`."""
        due = {"organization": self.organization.pk, "through": through}
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT EXISTS ({LEASES_DUE})", due)
            if not cursor.fetchone()[0]:
                return
        with transaction.atomic():
            standing = Standing.lock(self.organization)
            closed = standing.closed_through or date.min
            wrote = self.write(
                CHARGE_LEASES,
                standing,
                through=through,
                closed=closed,
                late_on=standing.posting_date(self.on),
                billing_date=standing.next_billing_date(after=through - timedelta(days=1)),
            )
        self.count(wrote)

    def charge_missed(self):
        """Charge what should have been charged on the last billing date and was not; alarm if it stays.

        Nothing should be: this is the check that a run did what it says, and the repair if not.
        """
        closed = self.closed_through()
        if closed is None or closed > self.on:
            return
        first, missed = self.uncharged(closed)
        if not missed:
            return
        last = first - 1
        while last is not None:
            with transaction.atomic():
                standing = Standing.lock(self.organization)
                on = standing.posting_date(self.on)
                wrote, last = self.charge_month(standing, closed, after=last, on=on)
            self.late += wrote.charges
            self.count(wrote)
        logger.warning("%s: %s rentals of %s charged late", self.organization, self.late, closed)
        _, missed = self.uncharged(closed)
        if missed:
            raise PeriodsNotCharged(f"{missed} rentals due on {closed} were not charged.")

    def uncharged(self, start):
        """The first rental due on `start` without a charge, and how many there are."""
        with connection.cursor() as cursor:
            cursor.execute(FIRST_UNCHARGED, {"organization": self.organization.pk, "start": start})
            return cursor.fetchone()

    def write(self, statement, standing, **values):
        """Write charges by `statement` under the lock, and the entry that balances them."""
        entry = Entry.next_id()
        with connection.cursor() as cursor:
            cursor.execute(
                statement,
                values | {"organization": self.organization.pk, "entry": entry, "at": self.at},
            )
            wrote = Wrote(*cursor.fetchone())
        if wrote.charges:
            Entry.objects.post(
                standing, Entry.Kind.RENTAL, wrote.amount,
                against=Account.RENTALS, at=self.at, id=entry,
            )  # fmt: skip
        return wrote

    def count(self, wrote, invoice=None):
        """Remember what has been committed."""
        self.charges += wrote.charges
        self.amount += wrote.amount
        if invoice:
            self.invoices.append(invoice)


class BillingRunManager(models.Manager):
    def carry_out(self, *, at, on=None):
        """Charge and invoice all that is due by `on`, else by each organization's own date at `at`.

        One organization's failure is recorded by name and stops no other. Returns the run, whose
        `collections` say what was done for whom. A repeat on which nothing was due leaves no row.
        """
        organizations = list(self.billed_organizations())
        days = [on or organization.local_date(at) for organization in organizations]
        run = self.create(as_of=min(days, default=on or at.date()), started_at=at)
        for organization, day in zip(organizations, days, strict=True):
            run.collect(Collection(organization, on=day, at=at))
        run.alarms = overlooked(at=at, on=on)
        run.finish()
        run.tell(at=at)
        return run

    def billed_organizations(self):
        """Every organization that was ever charged or is renting."""
        rentals = self.model._meta.apps.get_model("billing", "Rental").objects
        return Organization.objects.filter(
            Exists(rentals.filter(organization=OuterRef("pk")))
            | Exists(Charge.objects.filter(organization=OuterRef("pk")))
        ).order_by("pk")

    def last_seen(self):
        """When a run last ended or, with nothing left to do, was repeated; None if never."""
        return self.aggregate(last=Max(Greatest("finished_at", "repeated_at")))["last"]

    def alarm_if_late(self, *, at):
        """Tell the operators, once a day, when something is rented and no run ended for 24 hours."""
        rentals = self.model._meta.apps.get_model("billing", "Rental").objects
        first = rentals.order_by("pk").values_list("created_at", flat=True).first()
        last = self.last_seen()
        since = last or first
        if since is None or at - since < SILENCE:
            return None
        key = f"run-late-{since:%Y%m%d%H%M%S}-{(at - since).days}"
        return Mail.objects.alarm("run_late", key=key, at=at, last=last, hours=(at - since) // HOUR)


class BillingRun(models.Model):
    """What one run did: kept so that a due organization that got nothing is noticed.

    `as_of` is the earliest local date it ran for. An unfinished run was interrupted; the next one
    does what it left. `amount` adds up all currencies; `totals` keeps them apart.
    """

    as_of = models.DateField()
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    repeated_at = models.DateTimeField(
        null=True, help_text="When a later run last found that nothing more was due."
    )
    organizations = models.PositiveIntegerField(default=0)
    charges = models.PositiveIntegerField(default=0)
    amount = models.BigIntegerField(default=0)
    totals = models.JSONField(
        default=dict, help_text="By currency: charged, and invoiced with tax, in the minor unit."
    )
    invoices = models.PositiveIntegerField(default=0)
    skipped = models.PositiveIntegerField(
        default=0, help_text="Due periods that somebody else had charged already."
    )
    failures = models.JSONField(default=list)
    alarms = models.JSONField(
        default=list, help_text="Organizations that were due and got nothing."
    )

    objects = BillingRunManager()

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"Run of {self.as_of}"

    @property
    def is_quiet(self):
        return not (self.organizations or self.failures or self.alarms)

    @property
    def unbilled(self):
        """The organizations that failed, or were due and got nothing."""
        return {each["organization"] for each in self.failures + self.alarms}

    @property
    def collections(self):
        return self.__dict__.setdefault("_collections", [])

    def collect(self, collection):
        """Carry out one organization's part; whatever goes wrong with it is recorded and logged."""
        try:
            collection.carry_out()
        except Exception as error:
            logger.exception("Billing %s failed", collection.organization)
            if not connection.is_usable():
                raise
            self.failures.append(
                {"organization": collection.organization.slug, "reason": f"{error}".strip()}
            )
        self.collections.append(collection)

    def finish(self):
        """Add up what was done. Of quiet repeats on the same day only the first is kept."""
        busy = [collection for collection in self.collections if not collection.is_quiet]
        self.organizations = len(busy)
        self.charges = sum(collection.charges for collection in busy)
        self.amount = sum(collection.amount for collection in busy)
        self.invoices = sum(len(collection.invoices) for collection in busy)
        self.skipped = sum(collection.skipped for collection in self.collections)
        self.totals = self._totals(busy)
        finished = BillingRun.objects.filter(~Q(finished_at=None), as_of__gte=self.as_of)
        if self.is_quiet and (before := finished.order_by("-pk").first()):
            BillingRun.objects.filter(pk=before.pk).update(repeated_at=ClockTimestamp())
            self.delete()
            return
        self.finished_at = ClockTimestamp()
        self.save()
        self.refresh_from_db(fields=["finished_at"])

    def _totals(self, collections):
        charged, invoiced = Counter(), Counter()
        for collection in collections:
            charged[collection.organization.currency] += collection.amount
            invoiced[collection.organization.currency] += collection.invoiced
        return {
            currency: {"charged": charged[currency], "invoiced": invoiced[currency]}
            for currency in sorted(charged)
        }

    def tell(self, *, at):
        """Tell the operators who was not billed, unless they were told of all of them within a day."""
        told = Mail.objects.filter(
            kind="run_alarm", created_at__gt=at - SILENCE, created_at__lte=at
        )
        runs = [key.removeprefix(ALARM) for key in told.values_list("key", flat=True)]
        known = set().union(*(run.unbilled for run in BillingRun.objects.filter(pk__in=runs)))
        if self.unbilled - known:
            Mail.objects.alarm(
                "run_alarm", key=f"{ALARM}{self.pk}", at=at, run=self, count=len(self.unbilled)
            )
