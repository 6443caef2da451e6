"""Invoices, their numbers, and the credit notes that correct them."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import Charge, Invoice, InvoiceLine, InvoiceSequence
from chirp_dashboard.organizations.operating import Kept
from chirp_dashboard.organizations.templatetags.ui import money

from .asking import Asks
from .columns import sums
from .forms import ReasonForm


@admin.register(Invoice)
class InvoiceAdmin(Asks, Kept):
    """Immutable once issued; a mistake is corrected by a credit note."""

    list_display = ("title", "organization", "billing_date", "issued_on", "due_on",
                    "shown_total", "shown_tax", "shown_paid", "line_count", "corrects")  # fmt: skip
    list_filter = ("kind", "billing_date", "due_on", "organization")
    list_select_related = ("organization", "corrects")
    search_fields = ("=number", "=public_id", "organization__name", "organization__slug")
    ordering = ("-number",)
    actions = ("issue_credit_note",)
    shown_total = sums("total")
    shown_tax = sums("tax")
    shown_paid = sums("paid")

    def has_credit_note_permission(self, request):
        return request.user.has_perm("billing.add_invoice")

    @admin.action(description="Issue a credit note for all of it…", permissions=["credit_note"])
    def issue_credit_note(self, request, queryset):
        return self.ask(
            request, queryset, action="issue_credit_note", title="Issue a credit note",
            form_class=ReasonForm, organization_of=lambda invoice: invoice.organization,
            preview=self._preview, template="admin/billing/credit_note.html",
            do=lambda invoice, answer: self._credit(request, invoice, answer),
        )  # fmt: skip

    def _preview(self, invoice, answer):
        return {
            "invoice": invoice,
            "answer": answer,
            "left": invoice.left_to_credit,
            "button": "Issue the credit note",
        }

    def _credit(self, request, invoice, answer):
        charges = Charge.objects.filter(invoice_line__invoice=invoice)
        note = invoice.credit(charges, reason=answer["reason"], by=request.user, at=timezone.now())
        return f"Issued {note} for {invoice}: {money(note.total, note.currency)}."


@admin.register(InvoiceLine)
class InvoiceLineAdmin(Kept):
    list_display = ("id", "invoice", "charge")
    list_select_related = ("invoice", "charge")
    search_fields = ("=invoice__number", "=invoice__public_id")
    ordering = ("-id",)


@admin.register(InvoiceSequence)
class InvoiceSequenceAdmin(Kept):
    list_display = ("id", "last_number")
