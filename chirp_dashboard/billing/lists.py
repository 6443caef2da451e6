"""The long lists of billing, page by page and as CSV, and their rows in words."""

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import cached_property
from urllib.parse import urlencode

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import CharField, F, OuterRef, Q, Subquery, Sum, Value
from django.db.models.functions import Cast, Coalesce, Concat, JSONObject, LPad, Replace, TruncDate

from chirp_dashboard import keyset, spreadsheet
from chirp_dashboard.keyset import Key
from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.templatetags.ui import day, money
from chirp_dashboard.spreadsheet import Safe

from .models import Charge, Invoice, InvoiceLine, Payment, Refund
from .periods import add_months

NEWEST = (Key(F("id"), keyset.whole),)
BY_DAY = (Key(F("on"), keyset.local_day), Key(F("id"), keyset.whole))
BY_NUMBER = (Key(F("number"), keyset.text), Key(F("id"), keyset.whole))
CHARGE = (
    "kind", "amount", "currency", "on", "period_start", "period_end", "description",
    "phone_number__number", "phone_number__public_id",
)  # fmt: skip
INVOICE = (
    "public_id", "number", "kind", "billing_date", "issued_on", "due_on", "tax", "total", "paid",
    "currency",
)  # fmt: skip
PAYMENT = {
    name.replace("__", "_"): name
    for name in (
        "public_id", "state", "amount", "captured", "refunded", "currency", "received_on", "note",
        "gateway", "decline_code", "action_url", "created_at", "order__public_id",
        "invoice__public_id", "invoice__number", "invoice__kind",
    )
}  # fmt: skip


class ReadsPages:
    """A list of `select()`ed dicts in the order of `keys`; `query` is what the address asked for.

    `filtered()` are the rows themselves, which `columns` turns into CSV.
    """

    keys = NEWEST
    descending = True
    size = 50
    kept = ()
    file = ""

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

    def asked(self, name, *, among=None):
        """What the address says for `name`: short, printable, one of `among` or nothing."""
        text = " ".join(self.query.get(name, "").replace("\0", "").split())[:80]
        return text if among is None or text in among else ""

    def address(self, **changes):
        kept = {name: self.asked(name) for name in self.kept} | changes
        given = {name: value for name, value in kept.items() if value}
        return "?" + urlencode(given) if given else "?"

    @property
    def filters(self):
        """The address of this list from its beginning, as it is filtered."""
        return self.address()

    @property
    def is_filtered(self):
        return any(self.asked(name) for name in self.kept)

    def csv(self):
        """Every row as blocks of CSV, in the order of the list."""
        order = [f"{'-' if self.descending else ''}{key.expression.name}" for key in self.keys]
        return spreadsheet.copied(self.filtered().order_by(*order), self.columns())

    def sum(self, name):
        return spreadsheet.Sum(F(name), currency=self.organization.currency)


def title_of(prefix=""):
    """ "Invoice 000001", as `Invoice.title`, in the database."""
    words = F(f"{prefix}kind")
    for kind in Invoice.Kind:
        words = Replace(words, Value(kind.value), Value(kind.label))
    number = LPad(Cast(F(f"{prefix}number"), CharField()), 6, Value("0"))
    return Concat(words, Value(" "), number, output_field=CharField())


def months_back(on, count=24):
    """The first days of the last `count` months, the latest first."""
    return [add_months(on.replace(day=1), -back) for back in range(count)]


def month_of(text):
    """The first day of "2026-11"; None for anything else."""
    try:
        return date.fromisoformat(f"{text}-01") if len(text) == 7 else None
    except ValueError:
        return None


def month_after(first):
    return add_months(first, 1)


@dataclass
class CostPerNumber(ReadsPages):
    """What each number has cost so far, in the order of the numbers; `q` finds digits or a label.

    Test numbers cost nothing and are left out.
    """

    organization: Organization
    query: dict = field(default_factory=dict)

    keys = BY_NUMBER
    descending = False
    kept = ("q", "state")
    file = "cost-per-number"

    @cached_property
    def q(self):
        return self.asked("q").lower()

    @property
    def is_released(self):
        return self.asked("state") == "released"

    def filtered(self):
        charges = Charge.objects.filter(phone_number=OuterRef("pk")).order_by()
        charged = charges.values("phone_number").annotate(sum=Sum("amount"))
        released = Q(state="released")
        return (
            self.organization.phone_numbers.filter(released if self.is_released else ~released)
            .filter(self._search(), is_test=False)
            .annotate(charged=Coalesce(Subquery(charged.values("sum")), 0))
        )

    def select(self):
        return self.filtered().values(
            "public_id",
            "number",
            "label",
            "rental_amount",
            "interval_months",
            "currency",
            "charged",
        )

    def columns(self):
        return {
            "Number": Safe(F("number")),
            "Label": Safe(F("label")),
            "Type": F("number_type"),
            "State": F("state"),
            "Currency": F("currency"),
            "Rental": self.sum("rental_amount"),
            "Months per rental": F("interval_months"),
            "Charged so far": self.sum("charged"),
        }

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

    keys = BY_DAY
    kept = ("number", "kind", "month")
    file = "charges"

    @property
    def kind(self):
        return self.asked("kind", among=Charge.Kind.values)

    @property
    def month(self):
        return month_of(self.asked("month"))

    @property
    def kinds(self):
        return Charge.Kind.choices

    @property
    def unfiltered(self):
        return self.address(kind="", month="")

    def filtered(self):
        charges = Charge.objects.filter(organization=self.organization)
        if self.number:
            charges = charges.filter(phone_number=self.number)
        if self.kind:
            charges = charges.filter(kind=self.kind)
        if self.month:
            charges = charges.filter(on__gte=self.month, on__lt=month_after(self.month))
        return charges

    def select(self):
        return self.filtered().values(
            *CHARGE, "order__public_id",
            **{f"invoice_{name}": F(f"invoice_line__invoice__{name}")
               for name in ("public_id", "number", "kind")},
        )  # fmt: skip

    def columns(self):
        return {
            "Date": F("on"),
            "Number": Safe(F("phone_number__number")),
            "Charge": F("kind"),
            "From": F("period_start"),
            "Until": F("period_end"),
            "Currency": F("currency"),
            "Amount": self.sum("amount"),
            "Description": Safe(F("description")),
            "Invoice": F("invoice_line__invoice__number"),
            "Order": F("order__public_id"),
        }

    def words(self, row):
        title = ""
        if row["invoice_public_id"]:
            title = Invoice(kind=row["invoice_kind"], number=row["invoice_number"]).title
        return words_of_charge(self.organization, row) | {"invoice_title": title}


@dataclass
class Documents(ReadsPages):
    """Invoices, receipts and credit notes, the latest first."""

    organization: Organization
    on: date
    query: dict = field(default_factory=dict)

    keys = (Key(F("number"), keyset.whole),)
    kept = ("kind", "state", "year")
    file = "invoices"

    KINDS = {
        "invoice": ("Invoices", ["monthly", "order"]),
        "receipt": ("Receipts", ["receipt"]),
        "credit_note": ("Credit notes", ["credit_note"]),
    }
    STATES = {"unpaid": "To pay", "overdue": "Overdue", "paid": "Paid"}

    @property
    def kind(self):
        return self.asked("kind", among=self.KINDS)

    @property
    def state(self):
        return self.asked("state", among=self.STATES)

    @property
    def year(self):
        text = self.asked("year")
        return int(text) if text.isascii() and text.isdigit() and len(text) == 4 else None

    @property
    def kinds(self):
        return [(kind, words) for kind, (words, _) in self.KINDS.items()]

    @property
    def states(self):
        return list(self.STATES.items())

    @property
    def years(self):
        return range(self.on.year, self.on.year - 6, -1)

    def filtered(self):
        invoices = Invoice.objects.filter(organization=self.organization)
        if self.kind:
            invoices = invoices.filter(kind__in=self.KINDS[self.kind][1])
        if self.state:
            is_paid = Q(paid__gte=F("total"))
            invoices = invoices.filter(is_paid if self.state == "paid" else ~is_paid)
        if self.state == "overdue":
            invoices = invoices.filter(due_on__lt=self.on)
        if self.year:
            invoices = invoices.filter(billing_date__year=self.year)
        return invoices

    def select(self):
        return self.filtered().values(*INVOICE)

    def columns(self):
        return {
            "Document": title_of(),
            "Number": F("number"),
            "Billing date": F("billing_date"),
            "Issued": F("issued_on"),
            "Due": F("due_on"),
            "Currency": F("currency"),
            "Net": spreadsheet.Sum(F("total") - F("tax"), currency=self.organization.currency),
            "Tax": self.sum("tax"),
            "Total": self.sum("total"),
            "Paid": self.sum("paid"),
        }

    def words(self, row):
        invoice = Invoice(
            **{name: row[name] for name in ("kind", "number", "total", "paid", "due_on")}
        )
        state = invoice.state(self.on)
        return {
            "title": invoice.title,
            "shown_state": state,
            "shown_words": words_of_invoice(state, row["due_on"]),
        }


@dataclass
class Payments(ReadsPages):
    """Every attempt to collect money, and what was given back, the latest first."""

    organization: Organization
    query: dict = field(default_factory=dict)

    kept = ("state",)
    file = "payments"

    STATES = {
        "collected": ("Collected", Q(state="captured")),
        "waiting": (
            "Under way",
            Q(state__in=["created", "unknown", "action_required", "authorised"]),
        ),
        "failed": ("Failed", Q(state="declined")),
        "refunded": ("With refunds", Q(refunded__gt=0)),
    }

    @property
    def state(self):
        return self.asked("state", among=self.STATES)

    @property
    def states(self):
        return [(state, words) for state, (words, _) in self.STATES.items()]

    def filtered(self):
        payments = Payment.objects.filter(organization=self.organization)
        return payments.filter(self.STATES[self.state][1]) if self.state else payments

    def select(self):
        refunds = Refund.objects.filter(payment=OuterRef("pk")).order_by("id")
        return self.filtered().values(
            data=JSONObject(**PAYMENT),
            given_back=ArraySubquery(
                refunds.values(
                    data=JSONObject(
                        public_id="public_id", amount="amount", state="state", reason="reason",
                        created_at="created_at",
                    )
                )
            ),
        )  # fmt: skip

    def csv(self):
        """Payments, then refunds."""
        yield from super().csv()
        refunds = Refund.objects.filter(payment__in=self.filtered().values("pk")).order_by("-pk")
        blocks = spreadsheet.copied(refunds, self._columns_of_refunds())
        next(blocks)  # the head stands there already
        yield from blocks

    def columns(self):
        return {
            "What": Value("payment"),
            "Id": F("public_id"),
            "Created": local_day_of(self.organization),
            "State": F("state"),
            "Currency": F("currency"),
            "Asked for": self.sum("amount"),
            "Collected": self.sum("captured"),
            "Given back": self.sum("refunded"),
            "Received": F("received_on"),
            "Gateway": F("gateway"),
            "Invoice": F("invoice__number"),
            "Order": F("order__public_id"),
            "Note": Safe(F("note")),
        }

    def _columns_of_refunds(self):
        return self.columns() | {
            "What": Value("refund"),
            "Collected": Value(None, output_field=CharField()),
            "Given back": Value(None, output_field=CharField()),
            "Received": Value(None, output_field=CharField()),
            "Gateway": F("payment__gateway"),
            "Invoice": F("credit_note__number"),
            "Order": F("payment__public_id"),
            "Note": Safe(F("reason")),
        }

    def words(self, row):
        refunds = [refund | words_of_refund(refund) for refund in row["given_back"]]
        return row["data"] | words_of_payment(row["data"]) | {"refunds": refunds}


def local_day_of(organization):
    """The local date of `created_at`."""
    return TruncDate("created_at", tzinfo=organization.zone)


def words_of_invoice(state, due_on):
    return {
        "paid": "Paid",
        "open": f"Due {day(due_on)}",
        "overdue": f"Overdue, was due {day(due_on)}",
    }[state]


def words_of_payment(row):
    """When, for what, how it stands and with which sign, how much."""
    when = date.fromisoformat(row["received_on"] or row["created_at"][:10])
    for_what, invoice = "", ""
    if row["invoice_public_id"]:
        invoice = Invoice(kind=row["invoice_kind"], number=row["invoice_number"]).title
    elif row["order_public_id"]:
        for_what = "Order"
    else:
        for_what = row["note"] or "Transfer"
    sign, state = state_of_payment(row)
    return {
        "when": when,
        "invoice_title": invoice,
        "for_what": for_what,
        "sign": sign,
        "words": state,
        "why": row["decline_code"].replace("_", " ") if row["state"] == "declined" else "",
        "sum": row["captured"] or row["amount"],
        "needs_action": row["state"] == "action_required",
    }


def state_of_payment(row):
    if row["state"] == "captured" and row["refunded"]:
        return ("void", "Given back") if row["refunded"] == row["captured"] else (
            "partly", f"{money(row['refunded'], row['currency'])} given back")  # fmt: skip
    return {
        "created": ("pending", "Being collected"),
        "unknown": ("pending", "Being checked"),
        "action_required": ("unpaid", "Waits for your confirmation"),
        "authorised": ("pending", "Reserved"),
        "captured": ("paid", "Collected"),
        "voided": ("void", "Cancelled"),
        "declined": ("failed", "Declined"),
    }[row["state"]]


def words_of_refund(row):
    sign, state = {
        "created": ("pending", "Being given back"),
        "unknown": ("pending", "Being checked"),
        "refunded": ("paid", "Given back"),
        "failed": ("failed", "Failed"),
    }[row["state"]]
    when = datetime.fromisoformat(row["created_at"])
    return {"when": when, "sign": sign, "words": state, "minus": -row["amount"]}


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
