"""Columns and searches that pages of prices and money share."""

import re

from django.contrib import admin

from chirp_dashboard.organizations.templatetags.ui import money


def sums(attribute, *, description=None, of=None):
    """A column of money in the currency of its row, or of what the attribute `of` leads to."""

    ordering = None if attribute == "price" else attribute

    @admin.display(description=description or attribute.replace("_", " "), ordering=ordering)
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
