"""Rentals: the running contracts."""

from datetime import timedelta

from django.db import models
from django.db.models import F, OuterRef, Q, Subquery, Value
from django.db.models.functions import Cast, Coalesce, JSONObject
from django.utils import timezone

from chirp_dashboard.billing.periods import add_months, months_until
from chirp_dashboard.organizations.models import Organization

from .books import Account, Charge, Entry, Standing
from .price_changes import RentalPrice
from .runs import BillingRun
from .starting import StartsRentals

ONE_DAY = timedelta(days=1)


class RentalQuerySet(StartsRentals):
    """`start()` comes from StartsRentals (written beside it, in starting.py)."""

    def charge_due(self, *, at, on=None):
        """Charge every period begun by `on` and invoice every billing date reached; see runs.py.

        Without `on`, by each organization's own date at the moment `at`. Returns the BillingRun.
        """
        return BillingRun.objects.carry_out(at=at, on=on)

    def running(self, *, at):
        """What has not ended on its organization's local date at the moment `at`."""
        today = Cast(
            models.Func(
                F("organization__time_zone"), Value(at), function="timezone",
                output_field=models.DateTimeField(),
            ),
            models.DateField(),
        )  # fmt: skip
        return self.filter(Q(ends_on=None) | Q(ends_on__gt=today))

    def of_kind(self, *, country, number_type, interval_months):
        """Rentals of one kind, as the price list knows kinds."""
        return self.filter(
            phone_number__country=country,
            phone_number__number_type=number_type,
            interval_months=interval_months,
        )

    def with_price(self, *, on):
        """Each with `price`: what its period that begins on `on` costs; see `Rental.price_for`."""
        changed = RentalPrice.objects.filter(rental=OuterRef("pk")).applying(on)
        return self.annotate(price=Coalesce(Subquery(changed.values("amount")[:1]), F("amount")))

    def with_announced(self, *, on):
        """Each with `announced`: `{amount, applies_from}` of its next price after `on`, or None."""
        ahead = RentalPrice.objects.filter(
            rental=OuterRef("pk"), change__withdrawn_at=None, change__applies_from__gt=on
        ).order_by("change__applies_from")
        price = JSONObject(amount="amount", applies_from="change__applies_from")
        return self.annotate(announced=Subquery(ahead.values(price=price)[:1]))

    def due_on(self, billing_date):
        """Monthly rentals of which a period other than the first begins on `billing_date`."""
        return self.filter(interval_months=1, starts_on__lt=billing_date).filter(
            Q(ends_on=None) | Q(ends_on__gt=billing_date)
        )


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
        indexes = [
            models.Index(fields=["organization", "id"], name="rental_of_organization"),
            models.Index(
                fields=["organization"], condition=Q(interval_months__gt=1), name="rental_lease"
            ),
        ]

    def __str__(self):
        return f"Rental {self.pk} from {self.starts_on}"

    def period_containing(self, on):
        """The half-open period `(start, end)` that contains `on`; the first one starts on `starts_on`."""
        months = months_until(self.anchor, on)
        months -= months % self.interval_months
        start = add_months(self.anchor, months)
        return max(start, self.starts_on), add_months(self.anchor, months + self.interval_months)

    def periods_begun(self, on):
        """The periods after the first that begin by `on` and before the rental ends."""
        _, start = self.period_containing(self.starts_on)
        while start <= on and (self.ends_on is None or start < self.ends_on):
            _, end = self.period_containing(start)
            yield start, end
            start = end

    def price_for(self, period_start):
        """What the period that begins on `period_start` costs: as purchased, or as announced since."""
        changed = self.prices.applying(period_start).values_list("amount", flat=True).first()
        return self.amount if changed is None else changed

    def charge_periods_begun(self, on, *, at):
        """Charge what the run has not charged yet of the periods begun by the local date `on`.

        For a rental that starts late or ends today, so that it does not matter whether the run came
        first. The caller's transaction holds `Standing.lock()`. Returns the charges.
        """
        standing = Standing.lock(self.organization)
        charged = set(
            self.charges.filter(kind=Charge.Kind.RENTAL).values_list("period_start", flat=True)
        )
        due = [
            (start, end, self.price_for(start))
            for start, end in self.periods_begun(on)
            if start not in charged
        ]
        if not due:
            return []
        entry = Entry.objects.post(
            standing, Entry.Kind.RENTAL, sum(amount for _, _, amount in due),
            against=Account.RENTALS, at=at,
        )  # fmt: skip
        return Charge.objects.bulk_create(
            Charge(
                organization=self.organization,
                entry=entry,
                kind=Charge.Kind.RENTAL,
                rental=self,
                phone_number_id=self.phone_number_id,
                period_start=start,
                period_end=end,
                amount=amount,
                currency=self.currency,
                created_at=at,
                **self._dates_of_charge(standing, start, on),
            )
            for start, end, amount in due
        )

    def _dates_of_charge(self, standing, start, on):
        """As the run would date it; where the run has closed that day, on the next invoice."""
        if standing.has_closed(start):
            return {"on": standing.posting_date(on)}
        return {"on": start, "billing_date": standing.next_billing_date(after=start - ONE_DAY)}
