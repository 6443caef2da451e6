"""The long lists of billing, page by page, and their rows in words."""

from dataclasses import dataclass, field
from datetime import timedelta
from functools import cached_property
from urllib.parse import urlencode

from django.db.models import F, OuterRef, Q, Subquery, Sum
from django.db.models.functions import Coalesce

from chirp_dashboard import keyset
from chirp_dashboard.keyset import Key
from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.templatetags.ui import day

from .models import Charge, Invoice, InvoiceLine

NEWEST = (Key(F("id"), keyset.whole),)
BY_NUMBER = (Key(F("number"), keyset.text), Key(F("id"), keyset.whole))
CHARGE = (
    "kind", "amount", "currency", "on", "period_start", "period_end", "description",
    "phone_number__number", "phone_number__public_id",
)  # fmt: skip


class ReadsPages:
    """A list of `select()`ed dicts in the order of `keys`; `query` is what the address asked for."""

    keys = NEWEST
    descending = True
    size = 50
    kept = ()

    @cached_property
    def page(self):
        return keyset.read_page(
            self.select(), self.keys, descending=self.descending, size=self.size,
            after=self.query.get("after", ""), before=self.query.get("before", ""),
        )  # fmt: skip

    @cached_property
    def rows(self):
        return [row | self.words(row) for row in self.page.rows]

    @property
    def newer(self):
        return self.address(before=self.page.newer) if self.page.newer else ""

    @property
    def older(self):
        return self.address(after=self.page.older) if self.page.older else ""

    def address(self, **changes):
        kept = {name: self.query.get(name, "") for name in self.kept} | changes
        return "?" + urlencode({name: value for name, value in kept.items() if value})


@dataclass
class CostPerNumber(ReadsPages):
    """What each number has cost so far, in the order of the numbers; `q` finds digits or a label."""

    organization: Organization
    query: dict = field(default_factory=dict)

    keys = BY_NUMBER
    descending = False
    size = 25
    kept = ("q", "state")

    @cached_property
    def q(self):
        return " ".join(self.query.get("q", "").replace("\0", "").lower().split())[:80]

    @property
    def is_released(self):
        return self.query.get("state") == "released"

    def select(self):
        charges = Charge.objects.filter(phone_number=OuterRef("pk")).order_by()
        charged = charges.values("phone_number").annotate(sum=Sum("amount"))
        released = Q(state="released")
        return (
            self.organization.phone_numbers.filter(released if self.is_released else ~released)
            .filter(self._search())
            .values(
                "public_id", "number", "label", "rental_amount", "interval_months", "currency",
                charged=Coalesce(Subquery(charged.values("sum")), 0),
            )
        )  # fmt: skip

    def _search(self):
        digits = "".join(filter(str.isdigit, self.q))
        wanted = Q()
        if self.q:
            wanted |= Q(search__contains=self.q)
        if digits and not any(letter.isalpha() for letter in self.q):
            wanted |= Q(search__contains=digits)
        return wanted

    def words(self, row):
        return {"text": written(self.organization, row["number"])}

    @property
    def unsearched(self):
        return self.address(q="")


@dataclass
class Ledger(ReadsPages):
    """Every charge of the organization, or of one of its numbers, the latest first."""

    organization: Organization
    number: object = None
    query: dict = field(default_factory=dict)

    kept = ("number",)

    def select(self):
        charges = Charge.objects.filter(organization=self.organization)
        if self.number:
            charges = charges.filter(phone_number=self.number)
        return charges.values(
            *CHARGE, "order__public_id",
            **{f"invoice_{name}": F(f"invoice_line__invoice__{name}")
               for name in ("public_id", "number", "kind")},
        )  # fmt: skip

    def words(self, row):
        title = ""
        if row["invoice_public_id"]:
            title = Invoice(kind=row["invoice_kind"], number=row["invoice_number"]).title
        return words_of_charge(self.organization, row) | {"invoice_title": title}


@dataclass
class Lines(ReadsPages):
    """The lines of an invoice as they were written: those of one number side by side."""

    invoice: Invoice
    query: dict = field(default_factory=dict)

    descending = False
    size = 100

    def select(self):
        return InvoiceLine.objects.filter(invoice=self.invoice).values(
            **{name: F(f"charge__{name}") for name in CHARGE}
        )

    def words(self, row):
        return words_of_charge(self.invoice.organization, row)


def words_of_charge(organization, row):
    number = row["phone_number__number"]
    return {
        "text": written(organization, number) if number else "",
        "what": Charge.Kind(row["kind"]).label,
        "for_what": what_for(row),
    }


def what_for(row):
    """The days it pays for, or why it was written. A fee is paid once and needs no more words."""
    if row["period_start"]:
        return span(row)
    return "" if row["kind"] == Charge.Kind.PURCHASE_FEE else row["description"]


def span(row):
    """ "23–30 Nov 2026", "15 Nov – 14 Dec 2026": the days a rental charge pays for."""
    first, last = row["period_start"], row["period_end"] - timedelta(days=1)
    if first == last:
        return day(first)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{day(last)}"
    if first.year == last.year:
        return f"{first.day} {first:%b} – {day(last)}"
    return f"{day(first)} – {day(last)}"


def written(organization, number):
    """The number as people read it."""
    return organization.phone_numbers.model(number=number).display
