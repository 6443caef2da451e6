"""Invoices: charges gathered for one organization, immutable once issued."""

from datetime import timedelta

import pgtrigger
from django.conf import settings
from django.db import connection, models, transaction
from django.db.models import F, Q, Sum

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.organizations.models import (
    INSERT_ONLY,
    Activity,
    Actor,
    Mail,
    Organization,
    refuse,
)
from chirp_dashboard.organizations.public_ids import PublicIdField

from .books import Account, Charge, Entry, Standing, take_id
from .crediting import Credits

SYSTEM = Actor.system("billing run")


class BooksDisagree(Exception):
    """Two sums that must be equal are not. Whatever was being written is not; an operator looks."""


class InvoiceSequence(models.Model):
    """The one row that numbers invoices without a gap: locked and raised in the invoice's transaction."""

    last_number = models.BigIntegerField(default=0)

    def __str__(self):
        return str(self.last_number)

    @classmethod
    def take(cls):
        sequence, _ = cls.objects.select_for_update().get_or_create(pk=1)
        sequence.last_number += 1
        sequence.save(update_fields=["last_number"])
        return sequence.last_number


class InvoiceQuerySet(models.QuerySet):
    def unpaid(self):
        """What is due, oldest first."""
        return self.filter(paid__lt=F("total")).order_by("due_on", "number")

    def issue(self, standing, billing_date, *, at):
        """Close `billing_date` and invoice what it asks for; None where that is nothing.

        Call under `Standing.lock()`. Money received before pays it at once.
        """
        organization = standing.organization
        charges = Charge.objects.asked_for_on(standing, billing_date)
        terms = timedelta(days=gateway_for(organization).terms_days)
        issued_on = organization.local_date(at)
        invoice = self.write(
            standing,
            charges,
            tax_rate=organization.tax_rate,
            billing_date=billing_date,
            issued_on=issued_on,
            due_on=issued_on + terms,
            created_at=at,
        )
        standing.close(billing_date)
        if invoice:
            invoice.collect_unused_money()
            invoice.tell("invoice_issued")
        return invoice

    def issue_receipt(self, order, *, captured, at):
        """The receipt of an order that its own payment collected: one line per charge, paid.

        Raises BooksDisagree when the order's charges and their tax are not what was collected. Call
        under `Standing.lock()`.
        """
        charges = Charge.objects.filter(order=order, invoice_line=None)
        asked = order.with_tax(charges.total())
        if asked != captured:
            raise BooksDisagree(f"{order}: {captured} was collected for charges of {asked}.")
        return self._write_for(order, charges, kind=Invoice.Kind.RECEIPT, paid=captured, at=at)

    @transaction.atomic
    def issue_for_order(self, order, *, at):
        """The unpaid invoice of a delivered order whose own payment collects nothing; due today.

        None where no charge of the order is left to ask for.
        """
        Standing.lock(order.organization)
        charges = Charge.objects.filter(order=order, invoice_line=None)
        invoice = self._write_for(order, charges, kind=Invoice.Kind.ORDER, at=at)
        if invoice:
            invoice.collect_unused_money()
            invoice.tell("invoice_issued")
        return invoice

    def _write_for(self, order, charges, *, at, **facts):
        standing = Standing.lock(order.organization)
        today = standing.organization.local_date(at)
        return self.write(
            standing,
            charges,
            order=order,
            tax_rate=order.tax_rate,
            billing_date=today,
            issued_on=today,
            due_on=today,
            created_at=at,
            **facts,
        )

    def write(self, standing, charges, *, tax=None, by=SYSTEM, **facts):
        """Write the lines, then the invoice, so that the sequence is locked for a moment only.

        Its tax, at `tax_rate` on the sum of its charges unless `tax` says another, is posted with it.
        """
        organization = standing.organization
        sums = charges.sums()
        if not sums:
            return None
        count, net = (sum(group[key] for group in sums) for key in ("count", "amount"))
        tax = tax_on(net, facts["tax_rate"]) if tax is None else tax
        pk = take_id(self.model)
        if InvoiceLine.objects.write(pk, charges) != count:
            raise BooksDisagree(f"{organization}: the charges changed while they were invoiced.")
        invoice = self.create(
            pk=pk,
            number=InvoiceSequence.take(),
            organization=organization,
            seller=seller(),
            buyer=buyer(organization),
            currency=organization.currency,
            tax=tax,
            total=net + tax,
            sums=sums,
            line_count=count,
            **{"paid": min(net + tax, 0)} | facts,
        )
        invoice.post_tax(standing)
        Activity.objects.record(
            organization, "issued", subject=invoice, by=by, at=invoice.created_at,
            after={"total": invoice.total, "due_on": str(invoice.due_on)},
        )  # fmt: skip
        return invoice

    def apply_money(self, organization, *, first=None, others=True):
        """Apply money that is not used yet to unpaid invoices; returns those it paid.

        To `first` if given, then to the oldest `others`. Not used yet: what was collected and not
        given back, and what invoices below zero gave back, less what invoices were paid. Call under
        `Standing.lock()`.
        """
        left = self.unused_money(organization)
        unpaid = list(self.filter(organization=organization).unpaid()) if left > 0 else []
        paid = []
        for invoice in sorted(unpaid, key=lambda invoice: invoice != first):
            if not (others or invoice == first):
                break
            part = min(left, invoice.due)
            invoice.paid += part
            invoice.save(update_fields=["paid"])
            paid.append(invoice)
            left -= part
            if not left:
                break
        return paid

    def unused_money(self, organization):
        """What was collected and neither given back nor used to pay an invoice."""
        collected = organization.payments.aggregate(
            sum=Sum(F("captured") - F("refunded"), default=0)
        )["sum"]
        used = self.filter(organization=organization).aggregate(sum=Sum("paid", default=0))["sum"]
        return collected - used


def seller():
    """Who asks for the money, as it stands on an invoice for ever."""
    return {
        "name": settings.SELLER_NAME,
        "address": settings.SELLER_ADDRESS,
        "tax_id": settings.SELLER_TAX_ID,
        "tax_name": settings.TAX_NAME,
    }


def buyer(organization):
    """Who owes the money, as it stands on an invoice for ever."""
    return {
        "name": organization.name,
        "address": organization.billing_address,
        "tax_id": organization.tax_id,
    }


class Invoice(Credits, models.Model):
    """A month's invoice, that of an order, its receipt where it was paid at once, or a credit note.

    Its charges are without tax: `total` is their sum and `tax`, which is reckoned once, at `tax_rate`.
    `issued_on` is the real day; `billing_date` the day it belongs to. Only `paid` ever changes. An
    invoice below zero (credits only) counts as paid, and what it gives back pays the others.
    """

    class Kind(models.TextChoices):
        MONTHLY = "monthly", "Invoice"
        RECEIPT = "receipt", "Receipt"
        ORDER = "order", "Invoice"  # of an order whose own payment collected nothing
        CREDIT_NOTE = "credit_note", "Credit note"

    public_id = PublicIdField("inv")
    number = models.BigIntegerField(unique=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="invoices"
    )
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.MONTHLY)
    corrects = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="credit_notes"
    )
    order = models.ForeignKey(
        "numbers.Order", on_delete=models.PROTECT, null=True, related_name="receipts"
    )
    billing_date = models.DateField()
    issued_on = models.DateField()
    due_on = models.DateField()
    seller = models.JSONField(default=dict)
    buyer = models.JSONField(default=dict)
    currency = models.CharField(max_length=3)
    tax_rate = models.DecimalField(max_digits=6, decimal_places=3, default=0)
    tax = models.BigIntegerField(default=0, help_text="Part of the total, in the minor unit.")
    total = models.BigIntegerField()
    sums = models.JSONField(
        default=list, help_text="Its lines by number type and kind: type, kind, count, amount."
    )
    line_count = models.PositiveIntegerField()
    paid = models.BigIntegerField(default=0)
    created_at = models.DateTimeField()

    objects = InvoiceQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "billing_date"],
                condition=Q(kind="monthly"),
                name="invoice_once_per_billing_date",
            ),
            models.CheckConstraint(
                condition=Q(kind="credit_note", corrects__isnull=False, total__lte=0)
                | (~Q(kind="credit_note") & Q(corrects=None)),
                name="invoice_credit_note",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-number"], name="invoice_of_organization"),
            models.Index(
                fields=["organization", "due_on"],
                condition=Q(paid__lt=F("total")),
                name="invoice_unpaid",
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(name="issued", exclude=["paid"]),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]
        ordering = ["-number"]

    def __str__(self):
        return self.title

    @property
    def title(self):
        return f"{self.get_kind_display()} {self.number:06d}"

    @property
    def net(self):
        return self.total - self.tax

    @property
    def due(self):
        return self.total - self.paid

    @property
    def is_paid(self):
        return self.paid >= self.total

    @property
    def transfer_reference(self):
        """What to write on a transfer that pays it, so that it is found again."""
        return f"{self.organization.slug} {self.number:06d}"

    def post_tax(self, standing):
        """Add its tax to what the organization owes; its charges are in the books already."""
        if self.tax:
            Entry.objects.post(
                standing, Entry.Kind.TAX, self.tax,
                against=Account.TAX, at=self.created_at, description=self.public_id,
            )  # fmt: skip

    def collect_unused_money(self):
        """Let money received before pay the oldest unpaid invoices, perhaps this one."""
        if Invoice.objects.apply_money(self.organization):
            self.refresh_from_db(fields=["paid"])

    def tell(self, kind):
        """Write the mail about this invoice, in the transaction that issues it."""
        Mail.objects.write(
            self.organization,
            kind,
            key=f"issued-{self.public_id}",
            at=self.created_at,
            invoice=self,
        )

    def state(self, on):
        """`paid`, `open` or `overdue` on the organization's local date `on`."""
        if self.is_paid:
            return "paid"
        return "overdue" if self.due_on < on else "open"


class InvoiceLineQuerySet(models.QuerySet):
    def write(self, invoice_id, charges):
        """Join `charges` to the invoice, those of one number side by side; returns how many."""
        rows = charges.order_by(F("phone_number").asc(nulls_last=True), "pk").values("pk")
        query, parameters = rows.query.sql_with_params()
        statement = "INSERT INTO billing_invoiceline (invoice_id, charge_id) SELECT %s, id FROM "
        with connection.cursor() as cursor:
            cursor.execute(f"{statement} ({query}) AS charges (id)", [invoice_id, *parameters])
            return cursor.rowcount


class InvoiceLine(models.Model):
    """Joins a charge to the one invoice that asks for it."""

    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="lines", db_index=False
    )
    charge = models.OneToOneField(Charge, on_delete=models.PROTECT, related_name="invoice_line")

    objects = InvoiceLineQuerySet.as_manager()

    class Meta:
        indexes = [models.Index(fields=["invoice", "id"], name="line_of_invoice")]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.invoice}: {self.charge}"
