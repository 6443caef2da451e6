"""Invoices and their numbers."""

from django.contrib import admin

from chirp_dashboard.billing.models import Invoice, InvoiceLine, InvoiceSequence
from chirp_dashboard.organizations.operating import Kept

from .columns import sums


@admin.register(Invoice)
class InvoiceAdmin(Kept):
    list_display = ("title", "organization", "billing_date", "issued_on", "due_on",
                    "shown_total", "shown_paid", "line_count")  # fmt: skip
    list_filter = ("kind", "billing_date", "due_on", "organization")
    list_select_related = ("organization",)
    search_fields = ("=number", "=public_id", "organization__name", "organization__slug")
    ordering = ("-number",)
    shown_total = sums("total")
    shown_paid = sums("paid")


@admin.register(InvoiceLine)
class InvoiceLineAdmin(Kept):
    list_display = ("id", "invoice", "charge")
    list_select_related = ("invoice", "charge")
    search_fields = ("=invoice__number", "=invoice__public_id")
    ordering = ("-id",)


@admin.register(InvoiceSequence)
class InvoiceSequenceAdmin(Kept):
    list_display = ("id", "last_number")
