"""Invoices: charges gathered for one organization, immutable once issued."""

from datetime import timedelta

import pgtrigger
from django.conf import settings
from django.db import connection, models
from django.db.models import Count, F, Q, Sum

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.organizations.models import INSERT_ONLY, Activity, Actor, Organization, refuse
from chirp_dashboard.organizations.public_ids import PublicIdField

from .books import Charge, take_id

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
        invoice = self._write(
            organization,
            charges,
            billing_date=billing_date,
            issued_on=issued_on,
            due_on=issued_on + terms,
            created_at=at,
        )
        standing.close(billing_date)
        if invoice:
            self.apply_money(organization)
            invoice.refresh_from_db(fields=["paid"])
        return invoice

    def issue_receipt(self, order, *, captured, at):
        """The receipt of an order that its own payment collected: one line per charge, paid.

        Raises BooksDisagree when the order's charges are not what was collected. Call under
        `Standing.lock()`.
        """
        organization = order.organization
        charges = Charge.objects.filter(order=order, invoice_line=None)
        if (total := charges.total()) != captured:
            raise BooksDisagree(f"{order}: {captured} was collected for charges of {total}.")
        today = organization.local_date(at)
        return self._write(
            organization,
            charges,
            kind=Invoice.Kind.RECEIPT,
            order=order,
            billing_date=today,
            issued_on=today,
            due_on=today,
            paid=captured,
            created_at=at,
        )

    def _write(self, organization, charges, **facts):
        """Write the lines, then the invoice, so that the sequence is locked for a moment only."""
        sums = charges.aggregate(count=Count("pk"), total=Sum("amount", default=0))
        if not sums["count"]:
            return None
        pk = take_id(self.model)
        if InvoiceLine.objects.write(pk, charges) != sums["count"]:
            raise BooksDisagree(f"{organization}: the charges changed while they were invoiced.")
        invoice = self.create(
            pk=pk,
            number=InvoiceSequence.take(),
            organization=organization,
            seller={"name": settings.SELLER_NAME, "address": settings.SELLER_ADDRESS},
            buyer={"name": organization.name},
            currency=organization.currency,
            total=sums["total"],
            line_count=sums["count"],
            **{"paid": min(sums["total"], 0)} | facts,
        )
        Activity.objects.record(
            organization, "issued", subject=invoice, by=SYSTEM, at=invoice.created_at,
            after={"total": invoice.total, "due_on": str(invoice.due_on)},
        )  # fmt: skip
        return invoice

    def apply_money(self, organization):
        """Apply money that is not used yet to the oldest unpaid invoices; returns those it paid.

        Not used yet: what was collected, and what invoices below zero gave back, less what invoices
        were paid. Call under `Standing.lock()`.
        """
        left = self.unused_money(organization)
        paid = []
        for invoice in self.filter(organization=organization).unpaid() if left > 0 else []:
            part = min(left, invoice.due)
            invoice.paid += part
            invoice.save(update_fields=["paid"])
            paid.append(invoice)
            left -= part
            if not left:
                break
        return paid

    def unused_money(self, organization):
        collected = organization.payments.aggregate(sum=Sum("captured", default=0))["sum"]
        used = self.filter(organization=organization).aggregate(sum=Sum("paid", default=0))["sum"]
        return collected - used


class Invoice(models.Model):
    """A month's invoice, or the receipt of an order that was paid when it was placed.

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
    def due(self):
        return self.total - self.paid

    @property
    def is_paid(self):
        return self.paid >= self.total

    @property
    def transfer_reference(self):
        """What to write on a transfer that pays it, so that it is found again."""
        return f"{self.organization.slug} {self.number:06d}"

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
