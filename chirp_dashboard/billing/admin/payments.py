"""Payments, and what the test gateway remembers."""

from django.contrib import admin

from chirp_dashboard.billing.models import Payment, PaymentEvent, TestAuthorisation
from chirp_dashboard.organizations.operating import Kept, KeptInline

from .columns import sums


class EventsOfPayment(KeptInline):
    model = PaymentEvent
    fields = ("from_state", "to_state", "detail", "at")


@admin.register(Payment)
class PaymentAdmin(Kept):
    list_display = ("public_id", "organization", "gateway", "state", "shown_amount",
                    "shown_captured", "received_on", "note", "created_at")  # fmt: skip
    list_filter = ("state", "gateway", "created_at", "organization")
    list_select_related = ("organization",)
    search_fields = ("=public_id", "reference", "organization__name", "organization__slug")
    ordering = ("-id",)
    inlines = (EventsOfPayment,)
    shown_amount = sums("amount", description="asked for")
    shown_captured = sums("captured", description="collected")


@admin.register(PaymentEvent)
class PaymentEventAdmin(Kept):
    list_display = ("payment", "from_state", "to_state", "detail", "at")
    list_filter = ("to_state", "at")
    list_select_related = ("payment",)
    search_fields = ("=payment__public_id", "=payment__reference")
    ordering = ("-id",)


@admin.register(TestAuthorisation)
class TestAuthorisationAdmin(Kept):
    list_display = ("reference", "shown_amount", "shown_captured", "state", "created_at")
    list_filter = ("state",)
    search_fields = ("reference",)
    ordering = ("-id",)
    shown_amount = sums("amount")
    shown_captured = sums("captured")
