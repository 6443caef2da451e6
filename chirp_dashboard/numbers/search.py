"""Searching the stock: what somebody looks for, what it finds, and what to try when it finds nothing.

How digits are matched, because it decides what people find:

* Letters are keys of a telephone keypad; spaces and punctuation do not count. A country code in
  front (`+1 212…`, `1-800-…`) is dropped: everything is matched against the national number.
* *Starting with* means the beginning of the national number, so 212555 finds (212) 555-…. Where an
  area code is chosen it also means the digits right after it, and for toll-free numbers always the
  digits after the 800: people say 1-800-FLOWERS, and look for FLOWERS.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime
from operator import attrgetter
from typing import ClassVar

import phonenumbers
from django.contrib.postgres.expressions import ArraySubquery
from django.db import models
from django.db.models import (
    Case,
    CharField,
    Exists,
    Func,
    IntegerField,
    Lookup,
    OuterRef,
    Q,
    Subquery,
    Value,
    When,
)
from django.db.models.functions import Coalesce, JSONObject, NullIf, Substr
from django.utils.dateparse import parse_datetime

from chirp_dashboard.billing.models import NumberType, Price
from chirp_dashboard.organizations.models import Organization

from .area_codes import TOLL_FREE, area_codes, regions
from .models import Hold, InventoryNumber
from .models.inventory import NumberFacts

PER_PAGE = 25
COUNTED_TO = 100

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
KEYPAD = str.maketrans(LETTERS + LETTERS.lower(), "22233344455566677778889999" * 2)


@CharField.register_lookup
class Like(Lookup):
    """SQL's LIKE with the pattern as it is written; the caller answers for its wildcards."""

    lookup_name = "like"
    prepare_rhs = False

    def as_sql(self, compiler, connection):
        left, left_parameters = self.process_lhs(compiler, connection)
        right, right_parameters = self.process_rhs(compiler, connection)
        return f"{left} LIKE {right}", (*left_parameters, *right_parameters)


class Position(models.TextChoices):
    CONTAINS = "contains", "Containing"
    STARTS_WITH = "starts_with", "Starting with"
    ENDS_WITH = "ends_with", "Ending with"


@dataclass(frozen=True)
class Criteria:
    """What somebody looks for. Empty means any; the values have been validated."""

    FILTERS: ClassVar = ("pattern", "area_code", "city", "region", "capabilities")

    number_type: str
    country: str = "US"
    region: str = ""
    city: str = ""
    area_code: str = ""
    pattern: str = ""
    position: str = Position.CONTAINS
    capabilities: tuple[str, ...] = ()

    @property
    def filters(self) -> list[str]:
        """The names of the filters in use, the most particular first."""
        return [name for name in self.FILTERS if getattr(self, name)]

    def without(self, *names) -> "Criteria":
        return replace(self, **{name: type(getattr(self, name))() for name in names})

    @property
    def calling_code(self) -> str:
        """`+1` for the United States; empty for short codes, which have none."""
        if self.number_type == NumberType.SHORT_CODE:
            return ""
        return f"+{phonenumbers.country_code_for_region(self.country)}"

    @property
    def digits(self) -> str:
        """The pattern as digits of a national number."""
        typed = self.pattern.translate(KEYPAD)
        digits = "".join(character for character in typed if character in "0123456789")
        code = self.calling_code.removeprefix("+")
        abroad = typed.lstrip().startswith("+") or (code == "1" and len(digits) == 11)
        return digits.removeprefix(code) if code and abroad else digits

    @property
    def number_matches(self) -> Q:
        """Only digits go into the LIKE patterns, so nobody's wildcard can."""
        code, digits = self.calling_code, self.digits
        if self.position == Position.ENDS_WITH:
            return Q(number__like=f"%{digits}")
        if self.position == Position.STARTS_WITH:
            starts = [f"{code}{prefix}{digits}%" for prefix in ("", *self._prefixes)]
            return Q(*(Q(number__like=start) for start in starts), _connector=Q.OR)
        anywhere = Q(number__like=f"%{digits}%")
        if code and digits.startswith(code[-1]):  # not across the country code's end
            national = Substr("number", len(code) + 1)
            anywhere &= Q(Like(national, Value(f"%{digits}%")))
        return anywhere

    @property
    def _prefixes(self) -> tuple[str, ...]:
        if self.area_code:
            return (self.area_code,)
        return TOLL_FREE if self.number_type == NumberType.TOLL_FREE else ()

    @property
    def q(self) -> Q:
        condition = Q(country=self.country, number_type=self.number_type)
        if self.region:
            condition &= Q(region=self.region)
        if self.city:
            condition &= Q(city=self.city)
            if codes := [code for code, _ in regions(self.country) if not self.region]:
                condition &= Q(region__in=codes)  # so that the index by region and city answers
        if self.area_code:
            condition &= Q(area_code=self.area_code)
        if self.capabilities:
            condition &= Q(capabilities__contains=list(self.capabilities))
        if self.digits:
            condition &= self.number_matches
        return condition


@dataclass(frozen=True)
class Offer:
    """One number for sale with its price. `holder` is set while a colleague, or oneself, holds it."""

    country: str
    number: str
    number_type: str
    region: str
    city: str
    area_code: str
    capabilities: tuple[str, ...]
    purchase_fee: int
    rental: int
    interval_months: int
    currency: str
    carrier: str = "stock"
    holder: int | None = None
    held_by: str = ""
    held_until: datetime | None = None

    __str__ = NumberFacts.__str__
    display = NumberFacts.display
    location = NumberFacts.location
    key = NumberFacts.key
    facts = NumberFacts.facts
    FACTS = NumberFacts.FACTS

    @classmethod
    def at_price(cls, price, *, hold=None, **facts) -> "Offer":
        held = {}
        if hold:
            until = parse_datetime(hold["until"])
            held = {"holder": hold["person"], "held_by": hold["name"], "held_until": until}
        return cls(
            purchase_fee=price.purchase_fee,
            rental=price.rental,
            interval_months=price.interval_months,
            currency=price.currency,
            **facts,
            **held,
        )


@dataclass(frozen=True)
class OfferPage:
    """One page of offers in the order of their numbers, and the prices of that type by country."""

    offers: list[Offer]
    prices: dict[str, Price]
    has_previous: bool = False
    has_next: bool = False


def stock_offers(
    criteria: Criteria, organization, *, at, after="", before="", limit=PER_PAGE
) -> OfferPage:
    """What stock has for `criteria`, at the organization's prices, after or before a number.

    Numbers other organizations hold are left out; what has no price is not for sale. One query: the
    page hangs on its row of the price list, which comes even when there is nothing to show.
    """
    rows = _visible(criteria.q, organization, at=at).order_by("-number" if before else "number")
    if after or before:
        rows = rows.filter(number__lt=before) if before else rows.filter(number__gt=after)
    found = ArraySubquery(rows.values(data=_offer_as_json(at=at))[: limit + 1])
    prices = (
        Price.objects.filter(
            Q(organization=organization) | Q(organization=None),
            number_type=criteria.number_type,
            currency=organization.currency,
            valid_from__lte=organization.local_date(at),
        )
        .order_by("country", "organization_id", "-valid_from")  # the general row (NULL) sorts last
        .distinct("country")
        .annotate(found=Case(When(country=criteria.country, then=found)))
    )
    prices = {price.country: price for price in prices}
    price = prices.get(criteria.country)
    rows = price.found if price else []
    more, rows = len(rows) > limit, rows[:limit]
    if before:
        rows.reverse()
    return OfferPage(
        offers=[Offer.at_price(price, **row) for row in rows],
        prices=prices,
        has_previous=more if before else bool(after),
        has_next=bool(before) or more,
    )


def stock_offer(key, organization, *, at) -> Offer | None:
    """One number as `organization` may see it now; None when it is not on offer to it."""
    country, number = key
    rows = _visible(Q(country=country, number=number), organization, at=at)
    facts = rows.values_list(_offer_as_json(at=at), flat=True).first()
    prices = Price.objects.in_force(organization, on=organization.local_date(at))
    price = prices.get((country, facts["number_type"])) if facts else None
    return Offer.at_price(price, **facts) if price else None


def _visible(condition, organization, *, at):
    """Stock for sale that meets `condition` and that no other organization holds."""
    others = _holds(at=at).exclude(organization=organization)
    return InventoryNumber.objects.for_sale(at=at).filter(condition).filter(~Exists(others))


def _holds(*, at):
    same_number = {"country": OuterRef("country"), "number": OuterRef("number")}
    return Hold.objects.live(at=at).filter(**same_number).order_by()


def _offer_as_json(*, at):
    """The facts of a number in stock and, while somebody holds it, who does and until when."""
    name = Coalesce(NullIf("person__name", Value("")), "person__email")
    hold = _holds(at=at).values(data=JSONObject(person="person_id", name=name, until="held_until"))
    return JSONObject(**{fact: fact for fact in NumberFacts.FACTS}, hold=Subquery(hold))


@dataclass(frozen=True)
class Suggestion:
    """Other criteria that would find something, and how many up to `COUNTED_TO`."""

    criteria: Criteria
    dropped: tuple[str, ...]
    count: int

    @property
    def is_more(self) -> bool:
        return self.count > COUNTED_TO


def suggestions(criteria: Criteria, organization, *, at) -> list[Suggestion]:
    """Which filter to drop or change when nothing was found, those that find something only."""
    tries = list(_alternatives(criteria))
    counts = Organization.objects.filter(pk=organization.pk).values_list(
        *(_count(_visible(other.q, organization, at=at)) for _, other in tries)
    )
    found = zip(tries, counts.get() if tries else (), strict=True)
    return [Suggestion(other, dropped, count) for (dropped, other), count in found if count]


def _alternatives(criteria: Criteria) -> Iterator[tuple[tuple[str, ...], Criteria]]:
    """Every change worth a try, as (filters dropped, the criteria then)."""
    for code in _neighbours(criteria.area_code):
        yield (), replace(criteria, area_code=code)
    if criteria.pattern and criteria.position != Position.CONTAINS:
        yield (), replace(criteria, position=Position.CONTAINS)
    for name in criteria.filters:
        yield (name,), criteria.without(name)
    if len(criteria.filters) > 2:
        yield tuple(criteria.filters), criteria.without(*criteria.filters)


def _neighbours(code: str) -> list[str]:
    """The other area codes of the same city; for a toll-free code the other toll-free codes."""
    if code in TOLL_FREE:
        return [other for other in TOLL_FREE if other != code]
    place = area_codes().get(code)
    city = attrgetter("country", "region", "city")
    alike = (other for other in area_codes().values() if place and city(other) == city(place))
    return [other.code for other in alike if other is not place]


def _count(rows):
    """How many rows there are, counted no further than one beyond `COUNTED_TO`."""
    some = ArraySubquery(rows.order_by().values("pk")[: COUNTED_TO + 1])
    return Func(some, function="CARDINALITY", output_field=IntegerField())


def nearest(
    country: str, number: str, number_type: str, *, organization, at, limit=3, without=()
) -> list[Offer]:
    """The offers most like a number somebody lost, the most alike first.

    First the same area code, by numeric distance; where that has too few, other area codes of the
    same city (for toll-free numbers: other toll-free codes), then of the same state. Numbers anybody
    holds are not offered, nor those in `without`.
    """
    price = Price.objects.in_force(organization, on=organization.local_date(at)).get(
        (country, number_type)
    )
    free = InventoryNumber.objects.for_sale(at=at).filter(
        ~Exists(_holds(at=at)),
        ~Q(number__in=list(without)),
        country=country,
        number_type=number_type,
    )
    found: dict[str, Offer] = {}
    for wanted in _nearby(country, number, number_type) if price else ():
        rows = [row for row in _around(free, wanted, limit=limit) if row["number"] not in found]
        rows.sort(key=lambda row: (_distance(row["number"], number), row["number"]))
        found |= {row["number"]: Offer.at_price(price, **row) for row in rows}
        if len(found) >= limit:
            break
    return list(found.values())[:limit]


def _nearby(country: str, number: str, number_type: str) -> Iterator[list[tuple[Q, str]]]:
    """Where to look, nearest first: sets of numbers, each with the number to look around in it."""
    if Criteria(number_type, country).calling_code != "+1":
        yield [(Q(), number)]
        return
    area_code, subscriber = number[2:5], number[5:]
    yield [(Q(area_code=area_code), number)]
    yield [(Q(area_code=code), f"+1{code}{subscriber}") for code in _neighbours(area_code)]
    if place := area_codes().get(area_code):
        yield [(Q(region=place.region), number)]


def _around(rows, wanted: list[tuple[Q, str]], *, limit: int) -> list[dict]:
    """The rows nearest to each wanted number on either side, within its set."""
    parts = []
    for near, number in wanted:
        parts.append(rows.filter(near, number__gte=number).order_by("number"))
        parts.append(rows.filter(near, number__lt=number).order_by("-number"))
    parts = [part.values(*NumberFacts.FACTS)[:limit] for part in parts]
    return list(parts[0].union(*parts[1:], all=True)) if parts else []


def _distance(number: str, lost: str) -> int:
    """How far apart two numbers are, the area code left out: 555-0142 is next to 555-0143."""
    tail = 7 if lost.startswith("+1") else 15
    return abs(int(number[-tail:]) - int(lost[-tail:]))
