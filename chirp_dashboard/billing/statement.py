"""What an organization owes, will owe and has paid, in one query whatever its size.

Nothing here adds up charges: a million of them may wait for the first invoice. The balance is kept with
every posting, so what is not invoiced follows from it and from the invoices.
"""

from dataclasses import dataclass
from datetime import date
from functools import cached_property

from django.conf import settings
from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce, JSONObject, TruncMonth

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.templatetags.ui import day

from .gateways import gateway_for
from .models import Charge, Invoice, Payment, Rental
from .periods import add_months, next_billing_date

INVOICES = 12
UNPAID = 6
PAYMENTS = 6
MONTHS = 12
FEWEST_MONTHS = 6
UNDER_WAY = ("placed", "authorised", "ordered", "stuck")  # may have charges and no receipt yet


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


def shown(invoice, organization, on):
    """`invoice` of `organization` with its state on the local date `on`, and the words for it."""
    invoice.organization = organization
    invoice.shown_state = invoice.state(on)
    invoice.shown_words = {
        "paid": "Paid",
        "open": f"Due {day(invoice.due_on)}",
        "overdue": f"Overdue, was due {day(invoice.due_on)}",
    }[invoice.shown_state]
    return invoice


@dataclass(frozen=True)
class Statement:
    """The billing of `organization` on its local date `on`; sums are in the minor unit.

    `before` is the number of the invoice the list of invoices goes on after.
    """

    organization: Organization
    on: date
    before: int | None = None

    INVOICE = (
        "public_id",
        "number",
        "kind",
        "billing_date",
        "issued_on",
        "due_on",
        "total",
        "paid",
    )
    PAYMENT = ("public_id", "captured", "received_on", "note", "gateway", "created_at")

    @cached_property
    def facts(self):
        invoices = Invoice.objects.filter(organization=OuterRef("pk"))
        payments = Payment.objects.filter(organization=OuterRef("pk"), captured__gt=0)
        listed = invoices.order_by("-number")
        if self.before:
            listed = listed.filter(number__lt=self.before)
        return (
            Organization.objects.filter(pk=self.organization.pk)
            .values(
                closed_through=F("standing__closed_through"),
                balance=Coalesce(F("standing__balance"), 0),
                unsettled=Coalesce(F("standing__unsettled"), 0),
                due=sum_of(Invoice.objects.unpaid(), F("total") - F("paid")),
                collected=sum_of(Payment.objects.all(), "captured"),
                used=sum_of(Invoice.objects.all(), "paid"),
                being_collected=sum_of(Charge.objects.filter(order__state__in=UNDER_WAY), "amount"),
                monthly=Coalesce(F("totals__monthly"), 0),
                leaving=self._leaving(),
                leases=self._leases(),
                unpaid=rows_of(self.INVOICE, invoices.unpaid()[:UNPAID]),
                listed=rows_of(self.INVOICE, listed[: INVOICES + 1]),
                latest=rows_of(self.PAYMENT, payments.order_by("-id")[:PAYMENTS]),
                months=self._invoiced_by_month(invoices),
            )
            .get()
        )

    def _leaving(self):
        """The monthly rent that ends, by day."""
        numbers = Organization._meta.get_field("phone_numbers").related_model.objects
        leaving = numbers.live().filter(
            organization=OuterRef("pk"), releases_on__isnull=False, interval_months=1
        )
        days = leaving.order_by().values("releases_on").annotate(sum=Sum("rental_amount"))
        return ArraySubquery(days.values(data=JSONObject(on="releases_on", sum="sum")))

    def _leases(self):
        """The leases that run, those of one day together."""
        running = Rental.objects.filter(
            Q(ends_on=None) | Q(ends_on__gt=self.on),
            organization=OuterRef("pk"),
            interval_months__gt=1,
        )
        days = running.order_by().values("anchor", "interval_months", "ends_on")
        facts = {name: name for name in ("anchor", "interval_months", "ends_on", "sum")}
        return ArraySubquery(days.annotate(sum=Sum("amount")).values(data=JSONObject(**facts)))

    def _invoiced_by_month(self, invoices):
        since = add_months(self.on.replace(day=1), 1 - MONTHS)
        months = (
            invoices.filter(billing_date__gte=since)
            .order_by()
            .values(month=TruncMonth("billing_date"))
            .annotate(sum=Sum("total"))
        )
        return ArraySubquery(months.values(data=JSONObject(month="month", sum="sum")))

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

    @cached_property
    def next_invoice_on(self):
        return next_billing_date(self.organization.billing_day, after=self.charged_through)

    @property
    def credit(self):
        """Money that arrived and waits for an invoice."""
        return self.facts["collected"] - self.facts["used"]

    @property
    def not_invoiced(self):
        """Charges that no invoice and no order's own payment has asked for yet."""
        waiting = self.facts["balance"] - self.due + self.credit
        return waiting - self.facts["being_collected"]

    @property
    def credited(self):
        return max(0, -self.not_invoiced)

    @property
    def next_rental(self):
        """Rentals that begin a period by then, if nothing is purchased or released any more."""
        leaving = sum(
            row["sum"]
            for row in self.facts["leaving"]
            if date.fromisoformat(row["on"]) <= self.next_invoice_on
        )
        return self.facts["monthly"] - leaving + sum(map(self._lease_due, self.facts["leases"]))

    def _lease_due(self, lease):
        """What leases of one day cost in the periods that begin by the next invoice."""
        rental = Rental(
            anchor=date.fromisoformat(lease["anchor"]),
            starts_on=date.fromisoformat(lease["anchor"]),
            interval_months=lease["interval_months"],
            ends_on=lease["ends_on"] and date.fromisoformat(lease["ends_on"]),
        )
        begun = rental.periods_begun(self.next_invoice_on)
        return lease["sum"] * sum(1 for start, _ in begun if start > self.charged_through)

    @property
    def forecast(self):
        return self.not_invoiced + self.next_rental

    # Credit limit

    @property
    def limit(self):
        return self.organization.credit_limit

    @property
    def used(self):
        """What counts against the credit limit: all that is owed, and orders under way."""
        return self.facts["balance"] + self.facts["unsettled"]

    @property
    def left(self):
        return max(0, self.limit - self.used)

    # Lists

    @cached_property
    def _listed(self):
        return self._shown(self.facts["listed"])

    def _shown(self, rows):
        return [shown(invoice, self.organization, self.on) for invoice in revived(Invoice, rows)]

    @property
    def invoices(self):
        return self._listed[:INVOICES]

    @property
    def older_invoices(self):
        """The address of the page after this one, or nothing."""
        more = len(self._listed) > INVOICES
        return f"?invoices={self.invoices[-1].number}" if more else ""

    @property
    def newest_invoices(self):
        """The address of the first page, from any other."""
        return "?" if self.before else ""

    @cached_property
    def payments(self):
        return revived(Payment, self.facts["latest"])

    @cached_property
    def months(self):
        """`(first day, sum invoiced)` for six to twelve months, from the first with an invoice on."""
        sums = {date.fromisoformat(row["month"][:10]): row["sum"] for row in self.facts["months"]}
        this = self.on.replace(day=1)
        months = [add_months(this, back) for back in range(1 - MONTHS, 1)]
        begin = min([month for month in months if month in sums] + months[-FEWEST_MONTHS:])
        return [(month, sums.get(month, 0)) for month in months if month >= begin]
