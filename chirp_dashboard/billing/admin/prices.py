"""The price list."""

from django import forms
from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import Price
from chirp_dashboard.organizations.operating import Capped

from .columns import sums


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
