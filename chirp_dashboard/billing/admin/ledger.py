"""What is owed: standings, charges, rentals, and the books below them."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.forms import CreditForm, TransferForm
from chirp_dashboard.billing.models import Charge, Entry, Payment, Posting, Price, Rental, Standing
from chirp_dashboard.billing.models.books import CreditRefused
from chirp_dashboard.organizations.operating import Kept, KeptInline, among
from chirp_dashboard.organizations.templatetags.ui import money

from .asking import Asks
from .columns import FoundByNumber, sums

INTERVALS = Price._meta.get_field("interval_months").choices


class GivesCredit(Asks):
    def has_credit_permission(self, request):
        return request.user.has_perm("billing.add_charge")

    def give_credit(self, request, organization, answer, *, corrects=None):
        credit = Charge.objects.issue_credit(
            organization,
            amount=answer["amount"],
            reason=answer["reason"],
            corrects=corrects,
            by=request.user,
            at=timezone.now(),
        )
        given = money(-credit.amount, credit.currency)
        return f"Credited {given} to {organization}; it joins the next invoice."


@admin.register(Standing)
class StandingAdmin(GivesCredit, Kept):
    """What each organization owes, and where payments and credits are recorded."""

    list_display = ("organization", "shown_balance", "shown_unsettled", "closed_through",
                    "purchases_stopped_at", "suspended_at")  # fmt: skip
    list_filter = (("purchases_stopped_at", admin.EmptyFieldListFilter),
                   ("suspended_at", admin.EmptyFieldListFilter))  # fmt: skip
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__slug")
    ordering = ("organization__name",)
    actions = ("record_payment", "issue_credit")
    shown_balance = sums("balance", description="owed in all", of="organization")
    shown_unsettled = sums("unsettled", description="reserved for orders", of="organization")

    def has_record_permission(self, request):
        return request.user.has_perm("billing.add_payment")

    @admin.action(description="Record a payment…", permissions=["record"])
    def record_payment(self, request, queryset):
        return self.ask(
            request, queryset, action="record_payment", title="Record a payment",
            form_class=TransferForm, organization_of=lambda standing: standing.organization,
            do=lambda standing, answer: self._record(request, standing.organization, answer),
        )  # fmt: skip

    def _record(self, request, organization, answer):
        payment = Payment.objects.record_transfer(
            organization, **answer, by=request.user, at=timezone.now()
        )
        return f"Recorded {money(payment.amount, payment.currency)} of {organization}."

    @admin.action(description="Issue a credit…", permissions=["credit"])
    def issue_credit(self, request, queryset):
        return self.ask(
            request, queryset, action="issue_credit", title="Issue a credit",
            form_class=CreditForm, organization_of=lambda standing: standing.organization,
            do=lambda standing, answer: self.give_credit(request, standing.organization, answer),
        )  # fmt: skip


@admin.register(Charge)
class ChargeAdmin(FoundByNumber, GivesCredit, Kept):
    list_display = ("id", "organization", "kind", "phone_number", "on", "period_start",
                    "shown_amount", "invoice")  # fmt: skip
    list_filter = ("kind", "on", "organization")
    list_select_related = ("organization", "phone_number", "invoice_line__invoice")
    ordering = ("-id",)
    actions = ("credit_charge", "issue_credit_note")
    shown_amount = sums("amount")

    @admin.display(ordering="invoice_line__invoice__number")
    def invoice(self, charge):
        line = getattr(charge, "invoice_line", None)
        return line and line.invoice.title

    @admin.action(description="Credit this charge…", permissions=["credit"])
    def credit_charge(self, request, queryset):
        return self.ask(
            request, queryset, action="credit_charge", title="Credit a charge",
            form_class=CreditForm, organization_of=lambda charge: charge.organization,
            do=lambda charge, answer: self.give_credit(
                request, charge.organization, answer, corrects=charge
            ),
        )  # fmt: skip

    def has_credit_note_permission(self, request):
        return request.user.has_perm("billing.add_invoice")

    @admin.action(description="Issue a credit note for this charge…", permissions=["credit_note"])
    def issue_credit_note(self, request, queryset):
        return self.ask(
            request, queryset, action="issue_credit_note", title="Issue a credit note",
            form_class=CreditForm, organization_of=lambda charge: charge.organization,
            do=lambda charge, answer: self._credit_invoice(request, charge, answer),
        )  # fmt: skip

    def _credit_invoice(self, request, charge, answer):
        line = getattr(charge, "invoice_line", None)
        if line is None:
            raise CreditRefused("No invoice asks for it yet. Credit the charge itself instead.")
        note = line.invoice.credit(
            {charge: answer["amount"]}, reason=answer["reason"], by=request.user, at=timezone.now()
        )
        return f"Issued {note} for {line.invoice}: {money(note.total, note.currency)}."


@admin.register(Rental)
class RentalAdmin(FoundByNumber, Kept):
    list_display = ("id", "organization", "phone_number", "shown_amount", "shown_now",
                    "interval_months", "starts_on", "ends_on")  # fmt: skip
    list_filter = (among("interval_months", INTERVALS), "starts_on", "organization")
    list_select_related = ("organization", "phone_number")
    ordering = ("-id",)
    shown_amount = sums("amount", description="as purchased")
    shown_now = sums("price", description="today")

    def get_queryset(self, request):
        return super().get_queryset(request).with_price(on=timezone.now().date())


class PostingsOfEntry(KeptInline):
    model = Posting
    fields = ("account", "amount", "currency")


@admin.register(Entry)
class EntryAdmin(Kept):
    list_display = ("id", "organization", "kind", "description", "at")
    list_filter = ("kind", "at", "organization")
    list_select_related = ("organization",)
    search_fields = ("=id", "=description")
    search_help_text = "Id, or the public id of a payment or an order"
    ordering = ("-id",)
    inlines = (PostingsOfEntry,)


@admin.register(Posting)
class PostingAdmin(Kept):
    list_display = ("id", "organization", "entry", "account", "shown_amount")
    list_filter = ("account", "organization")
    list_select_related = ("organization", "entry")
    search_fields = ("=id", "=entry__id")
    ordering = ("-id",)
    shown_amount = sums("amount")
