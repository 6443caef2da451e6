"""The operator's desk for prices and money. The ledger is only read; actions call the verbs."""

import re
import secrets

from django import forms
from django.contrib import admin, messages
from django.http import HttpResponseRedirect
from django.shortcuts import render
from django.utils import timezone

from chirp_dashboard.organizations.operating import Capped, Kept, KeptInline
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import money

from .forms import CreditForm, TransferForm
from .models import (
    BillingRun,
    Charge,
    Entry,
    Invoice,
    InvoiceLine,
    InvoiceSequence,
    Payment,
    PaymentEvent,
    Posting,
    Price,
    Rental,
    Standing,
    TestAuthorisation,
)


def sums(attribute, *, description=None, of=None):
    """A column of money in the currency of its row, or of what the attribute `of` leads to."""

    @admin.display(description=description or attribute.replace("_", " "), ordering=attribute)
    def column(self, row):
        return money(getattr(row, attribute), (getattr(row, of) if of else row).currency)

    return column


class FoundByNumber:
    """Finds the rows of a phone number by its digits, through the index of the numbers."""

    search_fields = ("=id",)
    search_help_text = "Digits of the phone number, at least three"

    def get_search_results(self, request, queryset, search_term):
        digits = re.sub(r"\D", "", search_term)
        if not search_term.strip():
            return queryset, False
        if len(digits) < 3:
            return queryset.none(), False
        return queryset.filter(phone_number__search__contains=digits), False


# Prices ---------------------------------------------------------------------------------------


class PriceForm(forms.ModelForm):
    def clean_country(self):
        return self.cleaned_data["country"].upper()

    def clean_currency(self):
        return self.cleaned_data["currency"].upper()

    def clean(self):
        cleaned = super().clean()
        organization = cleaned.get("organization")
        if organization and cleaned.get("currency") not in {None, organization.currency}:
            self.add_error("currency", f"{organization} pays in {organization.currency}.")
        return cleaned


@admin.register(Price)
class PriceAdmin(Capped, admin.ModelAdmin):
    """A price is changed by a new row that is valid from a day. Running rentals keep theirs."""

    form = PriceForm
    list_display = ("country", "number_type", "for_whom", "shown_fee", "shown_rental",
                    "interval_months", "valid_from")  # fmt: skip
    list_filter = ("country", "number_type", "currency", "valid_from", "organization")
    list_select_related = ("organization",)
    search_fields = ("=country", "organization__name", "organization__slug")
    autocomplete_fields = ("organization",)
    shown_fee = sums("purchase_fee")
    shown_rental = sums("rental")

    @admin.display(description="for", ordering="organization")
    def for_whom(self, price):
        return price.organization or "everyone"

    def has_delete_permission(self, request, obj=None):
        """What may have been quoted stays; a row that is not in force yet may go."""
        if obj is None or obj.valid_from <= timezone.now().date():
            return False
        return super().has_delete_permission(request, obj)


# What is owed ---------------------------------------------------------------------------------


class Asks(Kept):
    """Actions that ask for something on a page of their own before they call a verb.

    The page carries a word that is good for one answer, so a form sent twice does its work once.
    """

    def ask(self, request, queryset, *, action, title, form_class, organization_of, do):
        """Show `form_class` for the one row chosen; with a valid answer `do(row, answer)`."""
        rows = list(queryset[:2])
        if len(rows) != 1:
            self.message_user(request, "Choose one row for this.", messages.WARNING)
            return None
        row = rows[0]
        organization = organization_of(row)
        is_answer = "answer" in request.POST
        form = form_class(request.POST if is_answer else None, organization=organization)
        if is_answer and not self._is_first_answer(request):
            self.message_user(request, "This form was sent already.", messages.WARNING)
            return HttpResponseRedirect(request.get_full_path())
        if is_answer and form.is_valid():
            try:
                self.message_user(request, do(row, form.cleaned_data), messages.SUCCESS)
            except Refused as refusal:
                form.add_error(None, str(refusal))
            else:
                return HttpResponseRedirect(request.get_full_path())
        context = {
            **self.admin_site.each_context(request),
            "title": title, "form": form, "row": row, "action": action, "opts": self.opts,
            "once": self._one_answer(request),
        }  # fmt: skip
        return render(request, "admin/billing/ask.html", context)

    def _one_answer(self, request):
        word = secrets.token_urlsafe(16)
        request.session["operator_asked"] = [
            *request.session.get("operator_asked", [])[-9:],
            word,
        ]
        return word

    def _is_first_answer(self, request):
        asked = request.session.get("operator_asked", [])
        if request.POST["answer"] not in asked:
            return False
        asked.remove(request.POST["answer"])
        request.session["operator_asked"] = asked
        return True

    def has_record_permission(self, request):
        return request.user.has_perm("billing.add_payment")

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
class StandingAdmin(Asks):
    """What each organization owes, and where payments and credits are recorded."""

    list_display = ("organization", "shown_balance", "shown_unsettled", "closed_through")
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__slug")
    ordering = ("organization__name",)
    actions = ("record_payment", "issue_credit")
    shown_balance = sums("balance", description="owed in all", of="organization")
    shown_unsettled = sums("unsettled", description="reserved for orders", of="organization")

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
class ChargeAdmin(FoundByNumber, Asks):
    list_display = ("id", "organization", "kind", "phone_number", "on", "period_start",
                    "shown_amount", "invoice")  # fmt: skip
    list_filter = ("kind", "on", "organization")
    list_select_related = ("organization", "phone_number", "invoice_line__invoice")
    ordering = ("-id",)
    actions = ("credit_charge",)
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


@admin.register(Rental)
class RentalAdmin(FoundByNumber, Kept):
    list_display = ("id", "organization", "phone_number", "shown_amount", "interval_months",
                    "starts_on", "ends_on")  # fmt: skip
    list_filter = ("interval_months", "starts_on", "organization")
    list_select_related = ("organization", "phone_number")
    ordering = ("-id",)
    shown_amount = sums("amount")


class PostingsOfEntry(KeptInline):
    model = Posting
    fields = ("account", "amount", "currency")


@admin.register(Entry)
class EntryAdmin(Kept):
    list_display = ("id", "organization", "kind", "description", "at")
    list_filter = ("kind", "at", "organization")
    list_select_related = ("organization",)
    search_fields = ("=id", "=description")
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


# Invoices and payments ------------------------------------------------------------------------


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


@admin.register(BillingRun)
class BillingRunAdmin(Kept):
    list_display = ("as_of", "started_at", "finished_at", "organizations", "charges", "invoices",
                    "failed")  # fmt: skip
    list_filter = ("as_of",)
    search_fields = ("failures",)
    ordering = ("-id",)

    @admin.display(description="failures")
    def failed(self, run):
        return ", ".join(failure["organization"] for failure in run.failures) or "none"
