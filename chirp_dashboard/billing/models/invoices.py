"""Invoices: charges gathered for one organization, immutable once issued."""

import pgtrigger
from django.db import models
from django.db.models import F, Q

from chirp_dashboard.organizations.models import INSERT_ONLY, Organization, refuse
from chirp_dashboard.organizations.public_ids import PublicIdField

from .books import Charge


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
        return self.filter(paid__lt=F("total"))


class Invoice(models.Model):
    """A month's invoice, or the receipt of an order that was paid when it was placed.

    `issued_on` is the real day; `billing_date` the day it belongs to. Only `paid` ever changes.
    """

    class Kind(models.TextChoices):
        MONTHLY = "monthly", "Invoice"
        RECEIPT = "receipt", "Receipt"

    public_id = PublicIdField("inv")
    number = models.BigIntegerField(unique=True)
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="invoices"
    )
    kind = models.CharField(max_length=8, choices=Kind, default=Kind.MONTHLY)
    order = models.ForeignKey(
        "numbers.Order", on_delete=models.PROTECT, null=True, related_name="receipts"
    )
    billing_date = models.DateField()
    issued_on = models.DateField()
    due_on = models.DateField()
    seller = models.JSONField(default=dict)
    buyer = models.JSONField(default=dict)
    currency = models.CharField(max_length=3)
    total = models.BigIntegerField()
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
            models.UniqueConstraint(
                fields=["order"],
                condition=Q(kind="receipt"),
                name="invoice_receipt_once",
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


class InvoiceLine(models.Model):
    """Joins a charge to the one invoice that asks for it."""

    invoice = models.ForeignKey(Invoice, on_delete=models.PROTECT, related_name="lines")
    charge = models.OneToOneField(Charge, on_delete=models.PROTECT, related_name="invoice_line")

    class Meta:
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.invoice}: {self.charge}"
