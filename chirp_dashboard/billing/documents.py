"""Invoices, receipts and credit notes in words: what their page, their PDF and their CSV say alike."""

import hashlib
import json
from dataclasses import dataclass
from functools import cached_property

from django.conf import settings
from django.db.models import Exists, F, OuterRef, Q, Value
from django.db.models.lookups import Exact
from django.shortcuts import get_object_or_404
from django.urls import reverse
from django.utils.text import slugify

from chirp_dashboard import spreadsheet
from chirp_dashboard.organizations.templatetags.ui import day, money, percent

from . import lists
from .gateways import gateway_for
from .models import Charge, Invoice, InvoiceLine, NumberType, Payment, Refund
from .statement import revived, rows_of

NOTE = ("public_id", "number", "kind", "issued_on", "total")
PAYMENT = ("public_id", "captured", "refunded", "gateway", "created_at", "received_on", "note")
REFUND = ("public_id", "amount", "state", "created_at")

LINES_AT_MOST = 10_000
"""Above that, a PDF carries the sums and says where every line is."""


def find(organization, public_id):
    """The `Document` of the organization's invoice, or 404; with all it hangs together with, in one query."""
    receipts = Invoice.objects.filter(order=OuterRef("order"), kind=Invoice.Kind.RECEIPT)
    is_beside_a_receipt = Q(Exact(OuterRef("kind"), Value(Invoice.Kind.ORDER)), Exists(receipts))
    payments = Payment.objects.filter(
        Q(invoice=OuterRef("pk"))
        # What an order's own payment collected, its receipt says; an invoice beside that is of the rest.
        | Q(order__isnull=False, order=OuterRef("order")) & ~is_beside_a_receipt,
        captured__gt=0,
    )
    invoices = organization.invoices.select_related("order", "corrects").annotate(
        corrected_by=rows_of(
            NOTE, Invoice.objects.filter(corrects=OuterRef("pk")).order_by("number")
        ),
        collected_by=rows_of(PAYMENT, payments.order_by("id")),
        given_back=rows_of(
            REFUND, Refund.objects.filter(credit_note=OuterRef("pk")).order_by("id")
        ),
    )
    invoice = get_object_or_404(invoices, public_id=public_id)
    invoice.organization = organization
    return Document(invoice)


@dataclass(frozen=True)
class Document:
    """One invoice, receipt or credit note; everything but `corrections` and money stays as issued."""

    invoice: Invoice

    @property
    def organization(self):
        return self.invoice.organization

    @property
    def is_credit_note(self):
        return self.invoice.kind == Invoice.Kind.CREDIT_NOTE

    @property
    def is_receipt(self):
        return self.invoice.kind == Invoice.Kind.RECEIPT

    def file_name(self, ending):
        """ "invoice-000012-northwind.pdf"."""
        return f"{slugify(self.invoice.title)}-{self.organization.slug}.{ending}"

    @property
    def address(self):
        """Of its page."""
        path = reverse("billing:invoice", args=[self.organization.slug, self.invoice.public_id])
        return f"{settings.BASE_URL}{path}"

    # Whom, when, what for

    @property
    def seller(self):
        return party(self.invoice.seller)

    @property
    def buyer(self):
        return party(self.invoice.buyer)

    @property
    def facts(self):
        """`(name, value)` of what stands in its head."""
        invoice = self.invoice
        facts = [("Issued", day(invoice.issued_on))]
        if invoice.kind == Invoice.Kind.MONTHLY:
            facts.insert(0, ("Billing date", day(invoice.billing_date)))
        if invoice.kind in {Invoice.Kind.MONTHLY, Invoice.Kind.ORDER}:
            facts.append(("Due", day(invoice.due_on)))
        if invoice.corrects:
            facts.append(
                ("Corrects", f"{invoice.corrects.title} of {day(invoice.corrects.issued_on)}")
            )
        if invoice.order:
            facts.append(("Order", invoice.order.public_id))
        return facts

    @property
    def tax_words(self):
        """ "VAT 19%", as the seller called it when this was issued."""
        return f"{self.invoice.seller.get('tax_name', 'Tax')} {percent(self.invoice.tax_rate)}"

    @property
    def has_tax(self):
        return bool(self.invoice.tax_rate)

    @property
    def totals(self):
        """`(name, sum in words)`: net and tax where there is a tax, then the total."""
        invoice = self.invoice
        sums = [("Net", invoice.net), (self.tax_words, invoice.tax)] if self.has_tax else []
        sums.append(("Total", invoice.total))
        return [(name, money(sum, invoice.currency)) for name, sum in sums]

    @cached_property
    def sums(self):
        """`(type of number, charge, how many, sum)` of its lines."""
        groups = (
            self.invoice.sums or Charge.objects.filter(invoice_line__invoice=self.invoice).sums()
        )
        return [
            (
                NumberType(group["type"]).label if group["type"] else "No number",
                Charge.Kind(group["kind"]).label,
                group["count"],
                group["amount"],
            )
            for group in groups
        ]

    @property
    def has_every_line(self):
        """Whether the PDF shows each line."""
        return self.invoice.line_count <= LINES_AT_MOST

    def lines(self):
        """Every line: number, charge, what for, and the sum in the minor unit."""
        lines = lists.Lines(self.invoice)
        for row in lines.select().order_by("id").iterator(chunk_size=2000):
            words = lines.words(row)
            yield words["text"], words["what"], words["for_what"], row["amount"]

    # Paying it

    @property
    def is_paid_by_transfer(self):
        return not gateway_for(self.organization).collects_orders

    @property
    def payment_words(self):
        """What the person who gets it has to do, as of the day it was issued."""
        invoice, total = self.invoice, money(self.invoice.total, self.invoice.currency)
        if self.is_receipt:
            return f"Paid on {day(invoice.issued_on)}. Nothing is left to pay."
        if self.is_credit_note:
            credited = money(-invoice.total, invoice.currency)
            return f"{credited} is taken off {invoice.corrects.title}, then off what else is owed."
        if invoice.total <= 0:
            return "Nothing to pay. What is below zero pays other invoices."
        if self.is_paid_by_transfer:
            return (
                f"Transfer {total} to {invoice.seller['name']} by {day(invoice.due_on)} with the "
                f"reference {invoice.transfer_reference}."
            )
        return f"{total} is collected from the saved card. There is nothing to transfer."

    @property
    def bank(self):
        """Where to transfer it, if that is how it is paid."""
        asks = not self.is_receipt and not self.is_credit_note and self.invoice.total > 0
        return settings.SELLER_BANK if asks and self.is_paid_by_transfer else ""

    # What became of it

    @property
    def credit_notes(self):
        return revived(Invoice, self.invoice.corrected_by)

    @property
    def payments(self):
        """Those of this invoice or its order; a transfer pays several and stands with none."""
        return [] if self.is_credit_note else revived(Payment, self.invoice.collected_by)

    @property
    def refunds(self):
        return revived(Refund, self.invoice.given_back)

    # Files

    @property
    def fingerprint(self):
        """Changes exactly when the PDF would."""
        from .paper import LAYOUT

        said = [
            LAYOUT, self.invoice.public_id, self.address, self.seller, self.buyer, self.facts,
            self.totals, self.payment_words, self.bank,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:32]

    def csv(self):
        """Every line, then net, tax and total; the sums of the lines add up to the net sum."""
        invoice = self.invoice
        lines = InvoiceLine.objects.filter(invoice=invoice).order_by("id")
        columns = self._columns()
        yield from spreadsheet.copied(lines, columns)
        for name, sum in (
            ("Net", invoice.net),
            (self.tax_words, invoice.tax),
            ("Total", invoice.total),
        ):
            row = dict.fromkeys(columns, "") | {
                "Charge": name,
                "Currency": invoice.currency,
                "Amount": spreadsheet.decimal(sum, invoice.currency),
            }
            if name != self.tax_words or self.has_tax:
                yield spreadsheet.written([row.values()])

    def _columns(self):
        amount = spreadsheet.Sum(F("charge__amount"), currency=self.invoice.currency)
        return {
            "Document": lists.title_of("invoice__"),
            "Issued": F("invoice__issued_on"),
            "Number": spreadsheet.Safe(F("charge__phone_number__number")),
            "Type": F("charge__phone_number__number_type"),
            "Charge": F("charge__kind"),
            "From": F("charge__period_start"),
            "Until": F("charge__period_end"),
            "Description": spreadsheet.Safe(F("charge__description")),
            "Currency": F("charge__currency"),
            "Amount": amount,
        }


def party(facts):
    """The lines that name a seller or a buyer."""
    lines = [facts.get("name", ""), *facts.get("address", "").splitlines()]
    if tax_id := facts.get("tax_id"):
        lines.append(f"Tax number {tax_id}")
    return [line.strip() for line in lines if line.strip()]
