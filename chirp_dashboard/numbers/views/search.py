"""The search page: filters, a map, offers with both prices, and what to try when there are none."""

from collections import Counter
from dataclasses import replace
from functools import cached_property

from django.http import Http404
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_htmx.http import push_url, trigger_client_event

from chirp_dashboard.billing.models import NumberType, Price
from chirp_dashboard.numbers.area_codes import REGIONS, area_codes, tile_grid
from chirp_dashboard.numbers.basket import Basket
from chirp_dashboard.numbers.forms.search import (
    SearchForm,
    in_words,
    places_of,
    search_query,
)
from chirp_dashboard.numbers.search import Criteria, stock_offers, suggestions
from chirp_dashboard.organizations.permissions import requires, roles_with

FRAGMENTS = {"results": "_results", "search": "_search"}


@require_safe
@requires("view_numbers")
def search(request, org, number_type):
    if number_type not in NumberType.values:
        raise Http404("No kind of number is called this.")
    at = timezone.now()
    results = Results(request, SearchForm(number_type, request.GET), at=at)
    context = {
        "form": results.form,
        "results": results,
        "kind": NumberType(number_type),
        "at": at,
        "here": results.address,
        "purchasers": roles_with("purchase_numbers"),
    }
    fragment = FRAGMENTS.get(request.htmx.target)
    if not fragment and request.can.purchase_numbers:
        context["basket"] = Basket.of(request.organization, request.user, at=at)
    template = f"numbers/purchase/{fragment or 'search'}.html"
    response = render(request, template, context, status=422 if results.form.errors else 200)
    if fragment:
        trigger_client_event(response, "announce", {"text": results.summary})
        push_url(response, results.address)
    return response


class Results:
    """What a search found, as the page shows it."""

    def __init__(self, request, form, *, at):
        self.path, self.organization = request.path, request.organization
        self.form, self.at = form, at
        self.criteria = form.criteria if form.is_valid() else None
        self.page = self._search()
        self.address = request.get_full_path()
        if self.page:
            self.address = self._address(self.criteria, **self._place)

    def _search(self):
        """A page of offers; None, with the reason at its field, when the form asks for the impossible."""
        if self.criteria is None:
            self._offer_countries(self._priced_countries())
            return None
        page = self._look_up()
        if (
            self.criteria.country not in page.prices
            and page.prices
            and not self.form.data.get("country")
        ):
            self.criteria = replace(self.criteria, country=min(page.prices))
            page = self._look_up()
        self._offer_countries(page.prices)
        if self.criteria.country in page.prices or not page.prices:
            return page
        self.form.add_error("country", "Numbers of this country are not sold here.")
        return None

    def _look_up(self):
        return stock_offers(self.criteria, self.organization, at=self.at, **self._place)

    @property
    def _place(self):
        return {name: self.form.cleaned_data[name] for name in ("after", "before")}

    def _priced_countries(self):
        prices = Price.objects.in_force(self.organization, on=self.organization.local_date(self.at))
        return {country for country, kind in prices if kind == self.form.number_type}

    def _offer_countries(self, codes):
        self.countries = sorted(codes)
        self.form.offer_countries(codes)

    def _address(self, criteria, **more):
        query = search_query(criteria, **more)
        return f"{self.path}?{query}" if query else self.path

    @property
    def country(self):
        return self.criteria.country if self.criteria else self.form.chosen_country

    @property
    def offers(self):
        return self.page.offers if self.page else []

    @property
    def price(self):
        return self.page.prices.get(self.criteria.country) if self.page else None

    @property
    def summary(self):
        if self.page is None:
            return " ".join(str(text) for texts in self.form.errors.values() for text in texts)
        if not self.offers:
            return "No numbers found."
        count = len(self.offers)
        found = "1 number" if count == 1 else f"{count} numbers"
        return f"{found}, more on the next page." if self.page.has_next else f"{found}."

    @property
    def previous(self):
        if self.offers and self.page.has_previous:
            return self._address(self.criteria, before=self.offers[0].number)
        return ""

    @property
    def next(self):
        if self.offers and self.page.has_next:
            return self._address(self.criteria, after=self.offers[-1].number)
        return ""

    @cached_property
    def chips(self):
        """Every filter in use, in words, with the address that drops it."""
        if self.criteria is None:
            return []
        return [
            (in_words(self.criteria, name), self._address(self.criteria.without(name)))
            for name in self.criteria.filters
        ]

    @property
    def wanted(self):
        """What was looked for, in short: "7777 + 212"."""
        names = self.criteria.filters
        return " + ".join(
            self.criteria.pattern if name == "pattern" else in_words(self.criteria, name)
            for name in names
        )

    @property
    def unfiltered(self):
        return self._address(self.criteria.without(*self.criteria.filters))

    @cached_property
    def advice(self):
        """What would find something, in words, with its count and address."""
        return [
            (self._change(suggestion), suggestion, self._address(suggestion.criteria))
            for suggestion in suggestions(self.criteria, self.organization, at=self.at)
        ]

    def _change(self, suggestion):
        dropped, criteria = suggestion.dropped, suggestion.criteria
        if len(dropped) > 1:
            return "Without any filter"
        if dropped:
            return f"Without “{in_words(self.criteria, dropped[0])}”"
        if criteria.area_code != self.criteria.area_code:
            return f"In {criteria.area_code}"
        return f"With {in_words(criteria, 'pattern').partition(' ')[2]} anywhere in the number"

    @property
    def regions(self):
        return REGIONS.get(self.country, {}).items()

    @property
    def places(self):
        return places_of(self.country, self.criteria.region if self.criteria else "")

    @property
    def map_name(self):
        return "Provinces and territories" if self.country == "CA" else "States"

    @cached_property
    def tiles(self):
        """The states or provinces as a map; a darker tile has more area codes."""
        if self.form.number_type != NumberType.LOCAL:
            return []
        codes = Counter(
            place.region for place in area_codes().values() if place.country == self.country
        )
        grid = tile_grid().get(self.country, {})
        return [self._tile(region, *grid[region], codes[region]) for region in grid]

    def _tile(self, region, column, row, codes):
        here = self.criteria or Criteria(self.form.number_type, self.country)
        there = replace(here, region=region, city="", area_code="")
        return {
            "code": region,
            "name": REGIONS[self.country][region],
            "col": column + 1,
            "row": row + 1,
            "level": (codes > 0) + (codes > 1) + (codes > 5),
            "count": "1 area code" if codes == 1 else f"{codes} area codes",
            "href": self._address(there),
            "current": region == here.region,
        }
