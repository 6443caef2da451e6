"""The price list, and what is announced to running rentals."""

from datetime import timedelta

from django import forms
from django.contrib import admin
from django.shortcuts import render
from django.utils import timezone

from chirp_dashboard.billing.models import Price, PriceAnnouncement, PriceChange, RentalPrice
from chirp_dashboard.billing.models.price_changes import NOTICE
from chirp_dashboard.billing.models.price_effects import PriceEffect
from chirp_dashboard.billing.models.prices import PriceRefused
from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.billing.tasks import wake_announcements
from chirp_dashboard.organizations.operating import Capped, Kept
from chirp_dashboard.organizations.templatetags.ui import day, money

from .asking import Asks
from .columns import sums
from .forms import AnnounceForm, ReasonForm

NAMED = 3  # organizations in a line
SAVES = ("_addanother", "_continue", "_save")  # the buttons of the admin's own form


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
        if not self.errors:
            self._check_day(cleaned)
        return cleaned

    def _check_day(self, cleaned):
        price = Price(pk=self.instance.pk, **cleaned)
        try:
            price.check_day(at=timezone.now())
        except PriceRefused as refusal:
            self.add_error("valid_from", str(refusal))


@admin.register(Price)
class PriceAdmin(Asks, Capped, admin.ModelAdmin):
    """A price is changed by a new row that is valid from a day. Running rentals keep theirs."""

    form = PriceForm
    list_display = ("country", "number_type", "for_whom", "shown_fee", "shown_rental",
                    "interval_months", "valid_from")  # fmt: skip
    list_filter = ("country", "number_type", "currency", "valid_from", "organization")
    list_select_related = ("organization",)
    search_fields = ("=country", "organization__name", "organization__slug")
    autocomplete_fields = ("organization",)
    actions = ("apply_to_running",)
    shown_fee = sums("purchase_fee")
    shown_rental = sums("rental")

    @admin.display(description="for", ordering="organization")
    def for_whom(self, price):
        return price.for_whom

    def has_change_permission(self, request, obj=None):
        """What may have been quoted stays as it is."""
        if obj is not None and obj.pk and obj.has_begun(at=timezone.now()):
            return False
        return super().has_change_permission(request, obj)

    def has_delete_permission(self, request, obj=None):
        """A row that is not in force yet may go."""
        if obj is None or obj.has_begun(at=timezone.now()):
            return False
        return super().has_delete_permission(request, obj)

    # A row is saved by whoever has seen what it affects

    def changeform_view(self, request, object_id=None, form_url="", extra_context=None):
        if request.method == "POST" and "seen" not in request.POST:
            row = self.get_object(request, object_id) if object_id else None
            form = self.get_form(request, row, change=row is not None)(request.POST, instance=row)
            if self._may_save(request, object_id, row) and form.is_valid():
                return self._show_effect(request, form)
        return super().changeform_view(request, object_id, form_url, extra_context)

    def _may_save(self, request, object_id, row):
        if object_id is None:
            return self.has_add_permission(request)
        saved = row and Price.objects.get(pk=row.pk)
        return bool(saved) and self.has_change_permission(request, saved)

    def _show_effect(self, request, form):
        context = {
            **self.admin_site.each_context(request),
            "title": "What this price affects", "form": form, "opts": self.opts,
            "effect": PriceEffect.of(form.instance, at=timezone.now()),
            "kept": next(name for name in SAVES if name in request.POST or name == "_save"),
        }  # fmt: skip
        return render(request, "admin/billing/price_effect.html", context)

    # Running rentals

    def has_announce_permission(self, request):
        return request.user.has_perm("billing.add_pricechange")

    @admin.action(description="Apply to running rentals…", permissions=["announce"])
    def apply_to_running(self, request, queryset):
        return self.ask(
            request, queryset.select_related("organization"), action="apply_to_running",
            title="Apply to running rentals", template="admin/billing/announce.html",
            form_class=AnnounceForm, organization_of=lambda price: price.organization,
            initial=self._first_day, preview=self._preview,
            do=lambda price, answer: self._announce(request, price, answer),
        )  # fmt: skip

    def _first_day(self, price):
        """The first billing date that gives notice, where one organization pays the price."""
        at = timezone.now()
        earliest = max(price.valid_from, (at + timedelta(hours=14)).date() + NOTICE)
        billing_day = price.organization.billing_day if price.organization else 1
        return {"applies_from": next_billing_date(billing_day, after=earliest - timedelta(days=1))}

    def _facts(self, price, answer):
        return {
            "country": price.country,
            "number_type": price.number_type,
            "interval_months": price.interval_months,
            "amount": price.rental,
            "currency": price.currency,
            "applies_from": answer["applies_from"],
        }

    def _preview(self, price, answer):
        preview = PriceChange.objects.preview(
            price.organization, **self._facts(price, answer), at=timezone.now()
        )
        return {
            "price": price,
            "answer": answer,
            "preview": preview,
            "every": PriceChange(interval_months=price.interval_months).every,
            "button": "Announce it now",
            "carried": {"through": preview.through},
        }

    def _announce(self, request, price, answer):
        through = request.POST.get("through", "")
        announcement = PriceAnnouncement.objects.ask(
            price.organization,
            **self._facts(price, answer),
            reason=answer["reason"],
            through=int(through) if through.isdecimal() else None,
            by=request.user,
            at=timezone.now(),
        )
        wake_announcements()
        return (
            f"Being announced. Organizations: {announcement.organizations}, running rentals: "
            f"{announcement.rentals}, {money(price.rental, price.currency)} each from "
            f"{day(answer['applies_from'])}. Price announcements say how far it is."
        )


@admin.register(PriceAnnouncement)
class PriceAnnouncementAdmin(Kept):
    """Asked for by an action on the price list; how far the worker is with it."""

    list_display = ("applies_from", "state", "told", "of_rentals", "refused", "for_whom", "shown_kind",
                    "shown_amount", "asked_at", "asked_by")  # fmt: skip
    list_filter = (("finished_at", admin.EmptyFieldListFilter), "number_type")
    list_select_related = ("organization", "asked_by")
    search_fields = ("organization__name", "organization__slug", "reason", "refusals")
    exclude = ("waiting",)
    ordering = ("-id",)
    shown_amount = sums("amount", description="price")

    @admin.display
    def state(self, announcement):
        if announcement.is_finished:
            return "Announced"
        return "Being announced" if announcement.done else "Waits for the worker"

    @admin.display(description="organizations")
    def told(self, announcement):
        return f"{announcement.done:,} of {announcement.organizations:,}"

    @admin.display(description="rentals")
    def of_rentals(self, announcement):
        return f"{announcement.changed:,} of {announcement.rentals:,}"

    @admin.display
    def refused(self, announcement):
        said = [f"{each['organization']}: {each['reason']}" for each in announcement.refusals]
        more = f" and {len(said) - NAMED} more" if len(said) > NAMED else ""
        return "; ".join(said[:NAMED]) + more or "none"

    @admin.display(description="for", ordering="organization")
    def for_whom(self, announcement):
        return announcement.organization or "everyone"

    @admin.display(description="numbers", ordering="number_type")
    def shown_kind(self, announcement):
        return shown_kind(announcement)


def shown_kind(change):
    every = PriceChange(interval_months=change.interval_months).every
    return f"{change.country} {change.get_number_type_display()}, per {every}"


@admin.register(PriceChange)
class PriceChangeAdmin(Asks, Kept):
    """Announced by an action on the price list; withdrawn here before its day."""

    list_display = ("organization", "state", "shown_kind", "shown_amount", "applies_from",
                    "rentals", "shown_before", "shown_after")  # fmt: skip
    list_display_links = ("organization",)
    list_filter = ("applies_from", "number_type", ("withdrawn_at", admin.EmptyFieldListFilter),
                   "organization")  # fmt: skip
    list_select_related = ("organization",)
    search_fields = ("organization__name", "organization__slug", "reason")
    ordering = ("-id",)
    actions = ("withdraw",)
    shown_amount = sums("amount", description="price")
    shown_before = sums("before", description="together, before")

    @admin.display(description="numbers", ordering="number_type")
    def shown_kind(self, change):
        return shown_kind(change)

    @admin.display(description="together, after")
    def shown_after(self, change):
        return money(change.after, change.currency)

    @admin.display
    def state(self, change):
        if change.is_withdrawn:
            return "Withdrawn"
        return "Applies" if change.has_begun(at=timezone.now()) else "Announced"

    def has_withdraw_permission(self, request):
        return request.user.has_perm("billing.change_pricechange")

    @admin.action(description="Withdraw…", permissions=["withdraw"])
    def withdraw(self, request, queryset):
        return self.ask(
            request, queryset.select_related("organization"), action="withdraw",
            title="Withdraw a price change", form_class=ReasonForm,
            organization_of=lambda change: change.organization,
            do=lambda change, answer: self._withdraw(request, change, answer),
        )  # fmt: skip

    def _withdraw(self, request, change, answer):
        change.withdraw(reason=answer["reason"], by=request.user, at=timezone.now())
        return f"Withdrawn: {change} of {change.organization}."


@admin.register(RentalPrice)
class RentalPriceAdmin(Kept):
    list_display = ("rental", "change", "organization", "shown_amount")
    list_display_links = None
    list_filter = ("change__applies_from",)
    list_select_related = ("rental", "change__organization")
    search_fields = ("=rental__id", "=change__id")
    search_help_text = "Id of the rental or of the change"
    ordering = ("-id",)

    @admin.display(ordering="change__organization")
    def organization(self, priced):
        return priced.change.organization

    @admin.display(description="price", ordering="amount")
    def shown_amount(self, priced):
        return money(priced.amount, priced.change.currency)
