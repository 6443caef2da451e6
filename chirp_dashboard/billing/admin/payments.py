"""Payments, refunds and saved cards, and what the test gateway remembers."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import (
    Customer,
    Payment,
    PaymentEvent,
    Refund,
    RefundEvent,
    TestAuthorisation,
)
from chirp_dashboard.organizations.operating import Kept, KeptInline, among
from chirp_dashboard.organizations.templatetags.ui import money

from .asking import Asks
from .columns import sums
from .forms import RefundForm

BY_GATEWAY = [(name, name) for name in ("account", "stripe", "test")]
LOOKS = 10
"""Rows asked for at the gateway in one go: each may take its full time-out."""


class LooksAgain(Asks):
    """Asks the gateway now, for what waits or seems stuck."""

    @admin.action(description="Look again at the gateway", permissions=["look"])
    def look_again(self, request, queryset):
        self.each(request, queryset, self._look, most=LOOKS)

    def _look(self, row):
        before = row.get_state_display()
        row.look_again(at=timezone.now())
        now = row.get_state_display()
        return f"Looked at {row}: {now}{' as before' if now == before else f', was {before}'}."


class EventsOfPayment(KeptInline):
    model = PaymentEvent
    fields = ("from_state", "to_state", "detail", "at")


class RefundsOfPayment(KeptInline):
    model = Refund
    fields = ("public_id", "state", "amount", "currency", "reason", "created_at")


@admin.register(Payment)
class PaymentAdmin(LooksAgain, Kept):
    list_display = ("public_id", "organization", "gateway", "state", "shown_amount",
                    "shown_captured", "shown_refunded", "decline_code", "received_on", "note",
                    "created_at")  # fmt: skip
    list_filter = ("state", among("gateway", BY_GATEWAY), "created_at", "organization")
    list_select_related = ("organization",)
    search_fields = ("=public_id", "reference", "=gateway_id", "organization__name",
                     "organization__slug")  # fmt: skip
    ordering = ("-id",)
    inlines = (EventsOfPayment, RefundsOfPayment)
    actions = ("refund", "look_again")
    shown_amount = sums("amount", description="asked for")
    shown_captured = sums("captured", description="collected")
    shown_refunded = sums("refunded", description="given back")

    def has_look_permission(self, request):
        return request.user.has_perm("billing.change_payment")

    def has_refund_permission(self, request):
        return request.user.has_perm("billing.add_refund")

    @admin.action(description="Refund…", permissions=["refund"])
    def refund(self, request, queryset):
        return self.ask(
            request, queryset, action="refund", title="Refund a payment", form_class=RefundForm,
            organization_of=lambda payment: payment.organization,
            do=lambda payment, answer: self._refund(request, payment, answer),
        )  # fmt: skip

    def _refund(self, request, payment, answer):
        refund = Refund.objects.begin(payment, **answer, by=request.user, at=timezone.now())
        given = money(refund.amount, refund.currency)
        return f"{given} of {payment} is given back to {payment.organization} by {refund}."


@admin.register(PaymentEvent)
class PaymentEventAdmin(Kept):
    list_display = ("payment", "from_state", "to_state", "detail", "at")
    list_filter = (among("to_state", Payment.State.choices), "at")
    list_select_related = ("payment",)
    search_fields = ("=payment__public_id", "=payment__reference")
    ordering = ("-id",)


class EventsOfRefund(KeptInline):
    model = RefundEvent
    fields = ("from_state", "to_state", "detail", "at")


@admin.register(Refund)
class RefundAdmin(LooksAgain, Kept):
    list_display = ("public_id", "organization", "payment", "state", "shown_amount", "reason",
                    "credit_note", "created_at")  # fmt: skip
    list_filter = ("state", "created_at", "organization")
    list_select_related = ("organization", "payment", "credit_note")
    search_fields = ("=public_id", "=payment__public_id", "=gateway_id", "organization__slug")
    ordering = ("-id",)
    inlines = (EventsOfRefund,)
    actions = ("look_again",)
    shown_amount = sums("amount")

    def has_look_permission(self, request):
        return request.user.has_perm("billing.change_refund")


@admin.register(RefundEvent)
class RefundEventAdmin(Kept):
    list_display = ("refund", "from_state", "to_state", "detail", "at")
    list_filter = (among("to_state", Refund.State.choices), "at")
    list_select_related = ("refund",)
    search_fields = ("=refund__public_id",)
    ordering = ("-id",)


@admin.register(Customer)
class CustomerAdmin(Kept):
    """What an organization is called at a gateway. Its people manage the card themselves."""

    list_display = ("organization", "gateway", "gateway_id", "brand", "last4", "expires_on",
                    "updated_at")  # fmt: skip
    list_filter = (
        among("gateway", BY_GATEWAY),
        ("payment_method", admin.EmptyFieldListFilter),
        "expires_on",
    )
    list_select_related = ("organization",)
    search_fields = ("=gateway_id", "=last4", "organization__name", "organization__slug")
    ordering = ("-id",)


@admin.register(TestAuthorisation)
class TestAuthorisationAdmin(Kept):
    list_display = ("reference", "shown_amount", "shown_captured", "state", "created_at")
    list_filter = ("state",)
    search_fields = ("reference",)
    ordering = ("-id",)
    shown_amount = sums("amount")
    shown_captured = sums("captured")
