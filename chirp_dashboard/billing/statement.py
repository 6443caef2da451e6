"""What an organization owes, will owe and has paid, in one query whatever its size.

Nothing here adds up charges: a million of them may wait for the first invoice. The balance is kept with
every posting, so what is not invoiced follows from it and from the invoices.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Count, Exists, F, JSONField, OuterRef, Q, Subquery, Sum
from django.db.models.expressions import RawSQL
from django.db.models.functions import Coalesce, JSONObject

from chirp_dashboard.organizations.models import Organization

from . import lists
from .forecast import AHEAD, COMING, Expected, Part, billing_dates_after, with_credit
from .gateways import gateway_for
from .models import Charge, Dunning, Invoice, Payment, PriceChange, Refund
from .periods import add_months, billing_dates
from .tax import tax_on

INVOICES = 6
UNPAID = 24
PAYMENTS = 5
PRICE_CHANGES = 12
MONTHS = 12
FEWEST_MONTHS = 6
UNDER_WAY = ("placed", "authorised", "ordered", "stuck")  # may have charges and no receipt yet

# What was invoiced in each month, by type of number: taxes by themselves, and under "" what belongs to no
# number and what was invoiced before sums were kept. `sums` is written when an invoice is issued.
MONTHS_BY_TYPE = """
    SELECT coalesce(jsonb_agg(months), '[]') FROM (
        SELECT month, type, sum(amount) AS amount FROM (
            SELECT date_trunc('month', billing_date)::date AS month, sums, tax, total,
                   coalesce((SELECT sum((line ->> 'amount')::bigint)
                             FROM jsonb_array_elements(sums) AS line), 0) AS listed
            FROM billing_invoice
            WHERE organization_id = %(organization)s AND billing_date >= %(since)s
        ) AS invoice, LATERAL (
            SELECT line ->> 'type' AS type, (line ->> 'amount')::bigint AS amount
            FROM jsonb_array_elements(sums) AS line
            UNION ALL SELECT 'tax', tax
            UNION ALL SELECT '', total - tax - listed
        ) AS part
        GROUP BY month, type HAVING sum(amount) <> 0
    ) AS months
"""


def sum_of(rows, amount):
    """The sum of `amount` over `rows` of the organization, zero for none."""
    rows = rows.filter(organization=OuterRef("pk")).order_by().values("organization")
    return Coalesce(Subquery(rows.annotate(sum=Sum(amount)).values("sum")), 0)


def rows_of(facts, rows):
    """`rows` as a list in the answer; `revived()` makes objects of them again."""
    return ArraySubquery(rows.values(data=JSONObject(**{name: name for name in facts})))


def revived(model, rows):
    """Objects of `model` from what `rows_of` brought, with dates for dates."""
    fields = {field.attname: field for field in model._meta.concrete_fields}
    return [
        model(**{name: fields[name].to_python(value) for name, value in row.items()})
        for row in rows
    ]


def positional(statement, values):
    """`statement` and the list of its parameters, each name replaced where it stands."""
    names = []

    class Names(dict):
        def __missing__(self, name):
            names.append(name)
            return "%s"

    return statement % Names(), [values[name] for name in names]


def raw(statement, **values):
    """The JSON that `statement` answers, as part of a larger query."""
    return RawSQL(*positional(statement, values), output_field=JSONField())  # noqa: S611


def shown(invoice, organization, on):
    """`invoice` of `organization` with its state on the local date `on`, and the words for it."""
    invoice.organization = organization
    invoice.shown_state = invoice.state(on)
    invoice.shown_words = lists.words_of_invoice(invoice.shown_state, invoice.due_on)
    return invoice


@dataclass(frozen=True)
class Statement:
    """The billing of `organization` on its local date `on`; sums are in the minor unit."""

    organization: Organization
    on: date

    INVOICE = (
        "public_id", "number", "kind", "billing_date", "issued_on", "due_on", "total", "paid",
    )  # fmt: skip

    PRICE_CHANGE = (
        "id", "country", "number_type", "interval_months", "amount", "currency", "applies_from",
        "reason", "rentals", "before",
    )  # fmt: skip

    @cached_property
    def facts(self):
        invoices = Invoice.objects.filter(organization=OuterRef("pk"))
        payments = Payment.objects.filter(organization=OuterRef("pk"))
        return (
            Organization.objects.filter(pk=self.organization.pk)
            .values(
                closed_through=F("standing__closed_through"),
                balance=Coalesce(F("standing__balance"), 0),
                unsettled=Coalesce(F("standing__unsettled"), 0),
                due=sum_of(Invoice.objects.unpaid(), F("total") - F("paid")),
                collected=sum_of(Payment.objects.all(), "captured"),
                promised=sum_of(Payment.objects.all(), "refunded"),
                refunded=sum_of(Refund.objects.filter(state="refunded"), "amount"),
                used=sum_of(Invoice.objects.all(), "paid"),
                being_collected=sum_of(Charge.objects.filter(order__state__in=UNDER_WAY), "amount"),
                monthly=Coalesce(F("totals__monthly"), 0),
                leaving=self._leaving(),
                unpaid=rows_of(self.INVOICE, invoices.unpaid()[:UNPAID]),
                listed=rows_of(self.INVOICE, invoices.order_by("-number")[:INVOICES]),
                latest=ArraySubquery(
                    payments.order_by("-id").values(data=JSONObject(**lists.PAYMENT))[:PAYMENTS]
                ),
                months=raw(
                    MONTHS_BY_TYPE,
                    organization=self.organization.pk,
                    since=add_months(self.on.replace(day=1), 1 - MONTHS),
                ),
                coming=self._coming(self._soon),
                announced=rows_of(
                    self.PRICE_CHANGE,
                    PriceChange.objects.filter(
                        organization=OuterRef("pk"), withdrawn_at=None, applies_from__gt=self.on
                    ).order_by("applies_from", "id")[:PRICE_CHANGES],
                ),
                is_dunned=Exists(
                    Dunning.objects.filter(organization=OuterRef("pk"), ended_at=None)
                ),
            )
            .get()
        )

    def _leaving(self):
        """Releases that are scheduled, by day: how many, and the monthly rent that ends with them."""
        numbers = Organization._meta.get_field("phone_numbers").related_model.objects
        leaving = numbers.live().filter(organization=OuterRef("pk"), releases_on__isnull=False)
        monthly = Coalesce(Sum("rental_amount", filter=Q(interval_months=1)), 0)
        days = leaving.order_by("releases_on").values("releases_on")
        days = days.annotate(count=Count("pk"), sum=monthly)
        return ArraySubquery(
            days.values(data=JSONObject(on="releases_on", count="count", sum="sum"))
        )

    @cached_property
    def _soon(self):
        """The next billing dates, one more than are shown: the run may have been told a day ahead."""
        return billing_dates_after(self.organization, self.on, count=AHEAD + 1)

    def _coming(self, dates):
        return raw(COMING, organization=self.organization.pk, dates=dates, through=dates[-1])

    @cached_property
    def coming(self):
        """Leases that begin a period by the last of the next invoices, and announced prices."""
        if self.next_dates[-1] <= self._soon[-1]:
            return self.facts["coming"]
        found = Organization.objects.values(coming=self._coming(self.next_dates))
        return found.get(pk=self.organization.pk)["coming"]

    # What is due

    @property
    def due(self):
        return self.facts["due"]

    @cached_property
    def unpaid(self):
        """The invoices to pay, the oldest first."""
        return self._shown(self.facts["unpaid"])

    @property
    def more_unpaid(self):
        """Is more to pay than the invoices listed?"""
        return self.due > sum(invoice.due for invoice in self.unpaid)

    @property
    def overdue(self):
        return [invoice for invoice in self.unpaid if invoice.due_on < self.on]

    @property
    def is_paid_by_transfer(self):
        return not gateway_for(self.organization).collects_orders

    @property
    def terms_days(self):
        return gateway_for(self.organization).terms_days

    @property
    def seller(self):
        return {"name": settings.SELLER_NAME, "bank": settings.SELLER_BANK}

    # What comes next

    @property
    def charged_through(self):
        """The day up to which the run has charged what begins."""
        return max(self.on, self.facts["closed_through"] or self.on)

    @property
    def late(self):
        """The billing dates that were reached and are not invoiced yet; the run writes them."""
        closed = self.facts["closed_through"]
        if closed is None:
            return []
        return list(billing_dates(self.organization.billing_day, after=closed, until=self.on))

    @cached_property
    def next_dates(self):
        return billing_dates_after(self.organization, self.charged_through)

    @property
    def next_invoice_on(self):
        return self.next_dates[0]

    @property
    def credit(self):
        """Money that arrived and waits for an invoice."""
        return self.facts["collected"] - self.facts["promised"] - self.facts["used"]

    @property
    def not_invoiced(self):
        """Charges that no invoice and no order's own payment has asked for yet."""
        paid = self.facts["collected"] - self.facts["refunded"] - self.facts["used"]
        return self.facts["balance"] - self.due + paid - self.facts["being_collected"]

    @property
    def credited(self):
        return max(0, -self.not_invoiced)

    @cached_property
    def expected(self):
        """The next invoices, if nothing is purchased or released any more."""
        expected = [self._expected(day) for day in self.next_dates]
        return with_credit(expected, self.credit, due=self.due)

    def _expected(self, day):
        parts = [Part("Rentals", self._monthly_on(day)), Part("Leases", self._leases_on(day))]
        if day == self.next_invoice_on:
            parts.append(Part("Not yet invoiced", self.not_invoiced))
        return Expected(day, tuple(parts), self.organization.tax_rate, self.terms_days)

    def _monthly_on(self, day):
        """What monthly rentals cost in the period that begins on `day`."""
        leaving = sum(
            row["sum"] for row in self.facts["leaving"] if date.fromisoformat(row["on"]) <= day
        )
        announced = sum(
            row["amount"]
            for row in self.coming["changes"]
            if date.fromisoformat(row["date"]) == day
        )
        return self.facts["monthly"] - leaving + announced

    def _leases_on(self, day):
        """What leases cost in the periods that begin by `day` and after the invoice before it."""
        before = max((each for each in self.next_dates if each < day), default=date.min)
        return sum(
            lease["amount"]
            for lease in self.coming["leases"]
            if before < date.fromisoformat(lease["date"]) <= day
        )

    @property
    def next_rental(self):
        """Rentals and leases on the next invoice."""
        return sum(part.amount for part in self.expected[0].parts[:2])

    @property
    def forecast(self):
        return self.expected[0].total

    @cached_property
    def price_changes(self):
        """Announced prices that are still to come."""
        return revived(PriceChange, self.facts["announced"])

    @cached_property
    def dunning(self):
        """The open dunning, or None."""
        return Dunning.objects.of(self.organization) if self.facts["is_dunned"] else None

    @cached_property
    def dunning_steps(self):
        """The steps that are still to come."""
        steps = self.dunning.schedule(on=self.on) if self.dunning else []
        return [step for step in steps if not step.is_taken]

    # Credit limit

    @property
    def limit(self):
        return self.organization.credit_limit

    @property
    def used(self):
        """What counts against the credit limit: all that is owed, and orders under way."""
        tax = tax_on(self.not_invoiced, self.organization.tax_rate)
        return self.facts["balance"] + tax + self.facts["unsettled"]

    @property
    def left(self):
        return max(0, self.limit - self.used)

    # Lists

    def _shown(self, rows):
        return [shown(invoice, self.organization, self.on) for invoice in revived(Invoice, rows)]

    @cached_property
    def invoices(self):
        return self._shown(self.facts["listed"])

    @cached_property
    def payments(self):
        return [row | lists.words_of_payment(row) for row in self.facts["latest"]]

    @cached_property
    def months(self):
        """`(first day, {type: sum})` for six to twelve months, from the first with an invoice on."""
        sums = {}
        for row in self.facts["months"]:
            month = date.fromisoformat(row["month"])
            sums.setdefault(month, {})[row["type"]] = row["amount"]
        this = self.on.replace(day=1)
        months = [add_months(this, back) for back in range(1 - MONTHS, 1)]
        begin = min([month for month in months if month in sums] + months[-FEWEST_MONTHS:])
        last = max([this, *sums])  # the run may have been told a day ahead
        while months[-1] < last:
            months.append(add_months(months[-1], 1))
        return [(month, sums.get(month, {})) for month in months if month >= begin]
