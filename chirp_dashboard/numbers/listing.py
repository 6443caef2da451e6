"""The list of numbers: what an address asks for, and the one page of numbers it shows.

The address is the view. Whatever in it makes no sense is left out, so that an old bookmark still
opens. Every order, tab and filter is answered from an index (see `PhoneNumber.Meta.indexes`).
"""

import re
from dataclasses import dataclass, replace
from datetime import date
from functools import cached_property, lru_cache
from urllib.parse import urlencode

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import BigIntegerField, F, IntegerField, Q, Subquery
from django.db.models.functions import JSONObject, Lower
from django.utils.html import format_html_join
from django.utils.safestring import SafeString

from chirp_dashboard import keyset
from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.keyset import Key
from chirp_dashboard.organizations.models import Application, Organization
from chirp_dashboard.postgres.prepared import Given, fetch_dicts

from .area_codes import regions
from .drawing import Drawing, short_day, with_facts
from .models import Assignment, PhoneNumber
from .models.inventory import Capability
from .models.phone_numbers import LIVE, UNLABELLED

PAGE_SIZE = 50
COUNTED_UP_TO = 10_000  # for tabs, from their indexes, and for what is to be sorted
FOUND_UP_TO = 1_000  # for what a search or filter finds
LONGEST_SEARCH = 80

TABS = {
    "": ("All", LIVE),
    "unassigned": ("Not assigned", LIVE & Q(assignment_count=0)),
    "unpaid": ("Unpaid", Q(state=PhoneNumber.State.SUSPENDED)),
    "releasing": ("Releasing", LIVE & Q(releases_on__isnull=False)),
    "released": ("Released", Q(state=PhoneNumber.State.RELEASED)),
}

NUMBER, ID = Key(F("number"), keyset.text), Key(F("id"), keyset.whole)
ORDERS = {
    "number": (NUMBER, ID),
    "label": (Key(UNLABELLED, keyset.flag), Key(Lower("label"), keyset.text), ID),
    "type": (Key(F("number_type"), keyset.text), NUMBER, ID),
    "purchased": (Key(F("purchased_at"), keyset.moment), ID),
    "rental": (Key(F("rental_amount"), keyset.whole), ID),
}
ASSIGNED = (  # an application's numbers in order of number, read from its assignments
    Key(F("assignments__number"), keyset.text),
    Key(F("assignments__id"), keyset.whole),
)
SORTS = {
    "number": "Number, ascending",
    "-number": "Number, descending",
    "label": "Label, A to Z",
    "-label": "Label, Z to A",
    "type": "Type, A to Z",
    "-type": "Type, Z to A",
    "-purchased": "Purchased last",
    "purchased": "Purchased first",
    "rental": "Rental, lowest first",
    "-rental": "Rental, highest first",
}
REGIONS = {"United States": regions("US"), "Canada": regions("CA")}
FILTERS = {  # name: label, and choices; those of `application` differ by organization
    "type": ("Type", dict(NumberType.choices)),
    "application": ("Application", {}),
    "region": (
        "State or province",
        {code: name for listed in REGIONS.values() for code, name in listed},
    ),
    "capability": ("Capability", dict(Capability.choices)),
    "locked": ("Release lock", {"yes": "Release locked"}),
    "kind": ("Kind", {"live": "Live numbers", "test": "Test numbers"}),
}
OPEN = {  # what a filter says that is not in use
    "type": "Any type",
    "application": "Any application",
    "region": "Any state",
    "capability": "Any capability",
    "locked": "Locked or not",
    "kind": "Live and test",
}
COMMON = {"type", "application", "region"}  # stand beside the search; the rest fold away
NONE = {  # what an empty tab says
    "": ("No live numbers", "Every number this organization had was released."),
    "unassigned": ("Every number is assigned", "Each has at least one application."),
    "unpaid": ("Nothing is unpaid", "No number is suspended."),
    "releasing": ("No number is being released", "A release at the end of a period shows here."),
    "released": ("No number was released", "Released numbers show here and can be brought back."),
}


# Search ---------------------------------------------------------------------------------------

FORMATTING = re.compile(r"[\s().+/-]")
KEYPAD = str.maketrans("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999")
SPELLED_ALONE = 7  # letters this many are looked for as digits too: FLOWERS, but not Sales


def matching(typed):
    """The condition for what somebody typed: digits in any formatting, words, or 800-FLOWERS."""
    typed = typed.lower()
    packed = FORMATTING.sub("", typed)
    if packed.isascii() and packed.isdigit():
        return _digits(packed, typed)
    wanted = Q()
    for word in typed.split():
        # One or two letters begin a word, so "ny" is the state and no part of "Sunnyvale".
        wanted &= Q(search__contains=word if len(word) > 2 else f" {word}")
    spelled = packed.translate(KEYPAD)
    is_vanity = len(packed) >= SPELLED_ALONE or any(map(str.isdigit, packed))
    if is_vanity and len(spelled) > 2 and spelled.isascii() and spelled.isdigit():
        wanted |= Q(search__contains=spelled)
    return wanted


def _digits(digits, typed):
    if len(digits) < 3:
        return Q(number__startswith=f"+1{digits.removeprefix('1')}")
    if typed == digits:
        return Q(search__contains=digits)
    return Q(search__contains=digits) | Q(search__contains=typed)


# What an address asks for ---------------------------------------------------------------------


@dataclass(frozen=True)
class Wanted:
    """Which numbers, in which order, from where: a query string without its nonsense."""

    state: str = ""
    q: str = ""
    type: str = ""
    application: str = ""
    region: str = ""
    capability: str = ""
    locked: str = ""
    kind: str = ""
    sort: str = "number"
    after: str = ""
    before: str = ""

    @classmethod
    def read(cls, asked):
        """From a query string (`request.GET`)."""
        known = {name: choices for name, (_, choices) in FILTERS.items() if choices}
        known |= {"state": TABS, "sort": SORTS}
        values = {}
        for name in cls.__dataclass_fields__:
            value = " ".join(asked.get(name, "").replace("\x00", "").split())
            if value and value in known.get(name, (value,)):
                values[name] = value[:LONGEST_SEARCH] if name == "q" else value
        return cls(**values)

    @property
    def order(self):
        return self.sort.removeprefix("-")

    @property
    def is_descending(self):
        return self.sort.startswith("-")

    @property
    def narrowing(self):
        """The names of the search and the filters in use."""
        return [name for name in ("q", *FILTERS) if getattr(self, name)]

    def query(self, **changes):
        """The query string of this view with `changes`: on its first page unless they say where."""
        wanted = replace(self, **{"after": "", "before": ""} | changes)
        values = {name: getattr(wanted, name) for name in self.__dataclass_fields__}
        if wanted.sort == "number":
            del values["sort"]
        return urlencode({name: value for name, value in values.items() if value})

    def condition(self):
        """Everything but the application, which the list joins itself."""
        wanted = TABS[self.state][1]
        if self.q:
            wanted &= matching(self.q)
        if self.type:
            wanted &= Q(number_type=self.type)
        if self.region:
            wanted &= Q(region=self.region)
        if self.capability:
            wanted &= Q(capabilities__contains=[self.capability])
        if self.locked:
            wanted &= Q(release_locked=True)
        if self.kind:
            wanted &= Q(is_test=self.kind == "test")
        return wanted


# Counts ---------------------------------------------------------------------------------------


class Counted(Subquery):
    """How many rows, counted no further than the cap."""

    template = "(SELECT COUNT(*) FROM (%(subquery)s) AS counted)"
    output_field = IntegerField()

    def __init__(self, rows, *, up_to=None):
        super().__init__(rows.values("pk")[: (up_to or COUNTED_UP_TO) + 1])


def count_text(count, *, up_to=None):
    """ "96", or "10,000+" beyond what was counted."""
    up_to = up_to or COUNTED_UP_TO
    return f"{up_to:,}+" if count > up_to else f"{count:,}"


def numbers_text(count, *, up_to=None):
    return "1 number" if count == 1 else f"{count_text(count, up_to=up_to)} numbers"


# The list -------------------------------------------------------------------------------------

ORGANIZATION = Given("organization", output_field=BigIntegerField())


def whole_list():
    """All live numbers of any organization: the page most asked for, so it is compiled only once."""
    return with_facts(PhoneNumber.objects.filter(LIVE, organization=ORGANIZATION))


def above_whole_list():
    return above_list(ORGANIZATION, tab_counts(ORGANIZATION))


def above_list(organization, counts):
    """What stands above the list of the organization with this key, and `counts`."""
    applications = Application.objects.open().filter(organization=organization)
    return Organization.objects.filter(pk=organization).values(
        **counts,
        numbers=F("totals__numbers"),
        monthly=F("totals__monthly"),
        tests=Counted(PhoneNumber.objects.tests_of(organization)),
        open_applications=ArraySubquery(
            applications.order_by("name", "id").values(
                data=JSONObject(
                    id="id",
                    name="name",
                    slug="slug",
                    kind="kind",
                    paused_at="billing_paused_at",
                )
            )
        ),
    )


def tab_counts(organization):
    owned = PhoneNumber.objects.filter(organization=organization)
    return {
        f"tab_{name}": Counted(owned.filter(condition))
        for name, (_, condition) in TABS.items()
        if name
    }


@dataclass(frozen=True)
class NumberList:
    """One page of the numbers of `organization`; with `slug`, of that application of it."""

    organization: Organization
    wanted: Wanted
    path: str
    on: date
    slug: str = ""

    @cached_property
    def counts(self):
        """All that stands above the table, in one query: totals, tabs, matches, applications."""
        key = self.organization.pk
        if self.slug or self.wanted.narrowing:
            return above_list(key, self._part_counts()).get()
        (counts,) = fetch_dicts((NumberList, "above"), above_whole_list, organization=key)
        return counts

    def _part_counts(self):
        counts = {"assigned": self._count(Wanted())} if self.slug else tab_counts(self.organization)
        if self.wanted.narrowing:
            counts["matches"] = self._count(self.wanted)
        return counts

    @property
    def numbers(self):
        return self.counts["numbers"] or 0

    @property
    def tests(self):
        return self.counts["tests"]

    @property
    def paid_for(self):
        """How many of the numbers are live ones, which cost something."""
        return self.numbers - self.tests

    @property
    def monthly(self):
        return self.counts["monthly"] or 0

    @property
    def next_invoice(self):
        return short_day(
            next_billing_date(self.organization.billing_day, after=self.on), on=self.on
        )

    @cached_property
    def here(self):
        """The application whose list this is; None for the organization's, or once it is archived."""
        return next((a for a in self.counts["open_applications"] if a["slug"] == self.slug), None)

    @property
    def matches(self):
        """How many numbers the view holds, counted up to a cap; exact for all of an organization."""
        if self.wanted.narrowing:
            return self.counts["matches"]
        if self.slug:
            return self.counts["assigned"]
        return self.counts[f"tab_{self.wanted.state}"] if self.wanted.state else self.numbers

    @property
    def matches_text(self):
        if self.wanted.narrowing:
            return numbers_text(self.matches, up_to=self._counts_up_to(self.wanted))
        is_exact = not (self.slug or self.wanted.state)
        return numbers_text(self.matches, up_to=self.matches if is_exact else COUNTED_UP_TO)

    @property
    def assigned_text(self):
        """How many numbers the application has, whatever is searched among them."""
        return numbers_text(self.counts["assigned"])

    def _count(self, wanted):
        """The number of matches, as part of a query."""
        application = self._application(wanted)
        if application and not wanted.state and wanted.narrowing in ([], ["application"]):
            rows = Assignment.objects.open().filter(**application)  # from its index alone
        else:
            rows = self._matching(wanted)
        return Counted(rows, up_to=self._counts_up_to(wanted))

    @staticmethod
    def _counts_up_to(wanted):
        """All that is to be sorted is counted; in order of number, as many as people want to know."""
        is_whole = not wanted.narrowing
        return COUNTED_UP_TO if is_whole or wanted.order != "number" else FOUND_UP_TO

    # Rows

    @cached_property
    def page(self):
        if not self.matches:
            return keyset.Page(rows=[], newer="", older="")
        place = {
            "descending": self.order_shown.startswith("-"),
            "after": self.wanted.after,
            "before": self.wanted.before,
            "size": PAGE_SIZE,
        }
        if self._is_part:
            rows, keys = self._ordered()
            return keyset.read_page(with_facts(rows), keys, **place)
        order = self.wanted.order
        return keyset.read_prepared_page(
            (NumberList, order),
            whole_list,
            ORDERS[order],
            **place,
            organization=self.organization.pk,
        )

    @cached_property
    def rows(self):
        draw = Drawing(self.organization, on=self.on, slug=self.slug).draw
        return [draw(row) for row in self.page.rows]

    @property
    def order_shown(self):
        """The order asked for; that of numbers where too many match to sort them otherwise."""
        return "number" if self.is_too_long_to_sort else self.wanted.sort

    @property
    def is_too_long_to_sort(self):
        """A part of the list has no index in other orders; what is found is sorted up to the cap."""
        return self._is_part and self.wanted.order != "number" and self.matches > COUNTED_UP_TO

    @property
    def _is_part(self):
        return bool(self.slug or self.wanted.state or self.wanted.narrowing)

    def _ordered(self):
        """The numbers asked for and the key of their order, so that an index answers.

        A search, or another order than that of numbers, finds first and sorts then: the planner would
        rather walk an order to its end, hoping that what is looked for comes early.
        """
        order = self.order_shown.removeprefix("-")
        found = self._matching(self.wanted)
        is_found_first = self._is_part and (order != "number" or bool(self.wanted.q))
        if is_found_first and self.matches <= self._counts_up_to(self.wanted):
            keys = found.values("pk")[:COUNTED_UP_TO]
            return PhoneNumber.objects.filter(pk__in=keys), ORDERS[order]
        key = self._application_key()
        if key is None:
            return found, ORDERS[order]
        rows = self._owned(self.wanted)
        return rows.filter(assignments__application=key, assignments__ended_at=None), ASSIGNED

    def _owned(self, wanted):
        return PhoneNumber.objects.filter(wanted.condition(), organization=self.organization)

    def _matching(self, wanted):
        """Everything `wanted` asks for, in no order."""
        application = self._application(wanted)
        if not application:
            return self._owned(wanted)
        joined = {f"assignments__{name}": value for name, value in application.items()}
        return self._owned(wanted).filter(assignments__ended_at=None, **joined)

    def _application(self, wanted):
        """What assignments to the application the list is confined to have in common, if it is."""
        slug = self.slug or wanted.application
        if not slug:
            return {}
        return {"application__slug": slug, "application__organization": self.organization}

    def _application_key(self):
        """The key of that application: a constant, so that the planner knows how many it has."""
        slug = self.slug or self.wanted.application
        if not slug:
            return None
        keys = {each["slug"]: each["id"] for each in self.counts["open_applications"]}
        return keys.get(slug, -1)

    # Links

    def address(self, **changes):
        query = self.wanted.query(**changes)
        return f"{self.path}?{query}" if query else self.path

    @property
    def current(self):
        """The address of this very page."""
        return self.address(after=self.wanted.after, before=self.wanted.before)

    @property
    def newer(self):
        return self.address(before=self.page.newer) if self.page.newer else ""

    @property
    def older(self):
        return self.address(after=self.page.older) if self.page.older else ""

    @property
    def unfiltered(self):
        """The same tab and order without search and filters."""
        return self.address(**dict.fromkeys(self.wanted.narrowing, ""))

    @property
    def tabs(self):
        """State tabs with something in them, and the one that is open."""
        shown = []
        for name, (word, _) in TABS.items():
            count = self.counts[f"tab_{name}"] if name else self.numbers
            is_current = name == self.wanted.state
            if count or is_current or not name:
                text = count_text(count) if name else f"{count:,}"
                shown.append(
                    {"id": f"tab-{name or 'all'}", "word": word, "count": text,
                     "href": self.address(state=name), "is_current": is_current}
                )  # fmt: skip
        return shown

    @property
    def columns(self):
        """Sort links of the column heads, by order: the address and the value of aria-sort."""
        heads = {}
        for order in ORDERS:
            is_current = order == self.wanted.order
            turned = f"-{order}" if self.wanted.sort == order else order
            direction = "descending" if self.wanted.is_descending else "ascending"
            heads[order] = {
                "href": self.address(sort=turned),
                "sorted": direction if is_current else "",
            }
        return heads

    @property
    def chips(self):
        """What narrows the list, each with the address that drops it."""
        return [
            {"name": name, "word": self.word(name), "href": self.address(**{name: ""})}
            for name in self.wanted.narrowing
        ]

    def word(self, name):
        """A filter in the words of a person."""
        value = getattr(self.wanted, name)
        if name == "q":
            return f"“{value}”"
        if name == "application":
            names = {each["slug"]: each["name"] for each in self.counts["open_applications"]}
            return names.get(value, value)
        return FILTERS[name][1][value]

    # Controls

    @property
    def selects(self):
        """The filters as select boxes: name, label, options."""
        needless = {"application", "kind"} if self.slug else set()
        if not self.tests and not self.wanted.kind:
            needless.add("kind")
        return [self._select(name) for name in FILTERS if name not in needless]

    def _select(self, name):
        chosen = getattr(self.wanted, name)
        label, choices = FILTERS[name]
        if name == "application":
            listed = [(each["slug"], each["name"]) for each in self.counts["open_applications"]]
            drawn = options(chosen, tuple(listed))
        elif name == "region":
            drawn = region_options(chosen)
        else:
            drawn = options(chosen, tuple(choices.items()))
        return {
            "name": name,
            "label": label,
            "open": OPEN[name],
            "options": drawn,
            "is_common": name in COMMON,
        }

    @property
    def sort_options(self):
        return options(self.wanted.sort, tuple(SORTS.items()))

    # Nothing found

    @property
    def is_unused(self):
        """Whether the organization never had a number."""
        return not self.numbers and not self.counts["tab_released"]

    @property
    def tab_word(self):
        return TABS[self.wanted.state][0].lower()

    @property
    def none(self):
        heading, text = NONE[self.wanted.state]
        return {"heading": heading, "text": text}

    @property
    def first_page(self):
        return self.address()

    @cached_property
    def without(self):
        """What would be found with one filter dropped; asked only where nothing was."""
        counts = {
            f"without_{name}": self._count(replace(self.wanted, **{name: ""}))
            for name in self.wanted.narrowing
        }
        found = Organization.objects.filter(pk=self.organization.pk).values(**counts).get()
        return [
            chip | {"count": numbers_text(found[f"without_{chip['name']}"], up_to=FOUND_UP_TO)}
            for chip in self.chips
            if found[f"without_{chip['name']}"]
        ]

    @property
    def announcement(self):
        """What a swap shows, for those who cannot see it."""
        return f"{self.matches_text}." if self.matches else "No number matches."


SELECTED = SafeString(" selected")


@lru_cache(maxsize=200)
def options(chosen, choices):
    """The `<option>`s of a select box."""
    return format_html_join(
        "",
        '<option value="{}"{}>{}</option>',
        ((value, SELECTED if value == chosen else "", word) for value, word in choices),
    )


@lru_cache(maxsize=100)
def region_options(chosen):
    return format_html_join(
        "",
        '<optgroup label="{}">{}</optgroup>',
        ((country, options(chosen, tuple(listed))) for country, listed in REGIONS.items()),
    )
