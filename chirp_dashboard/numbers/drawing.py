"""Rows of the number list as plain strings: fifty are drawn at a time, so nothing is worked out twice."""

from datetime import date, timedelta

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Case, DateField, OuterRef, Subquery, When
from django.db.models.functions import JSONObject
from django.urls import reverse

from chirp_dashboard.billing.models import NumberType, Rental
from chirp_dashboard.billing.periods import add_months, months_until, next_billing_date
from chirp_dashboard.organizations.templatetags.ui import money

from .models import Assignment, PhoneNumber

CHIPS = 2  # applications shown in a row; the rest are behind "+3"
TYPES = dict(NumberType.choices)
TERMS = {1: "", 3: "3 months", 6: "6 months", 12: "year"}
HOW_OFTEN = {1: "a month", 3: "every 3 months", 6: "every 6 months", 12: "a year"}


def with_facts(rows):
    """`rows` (a PhoneNumber queryset) as dicts of everything a table row says, in one query."""
    assigned = Assignment.objects.open().filter(phone_number=OuterRef("pk"))
    rentals = Rental.objects.filter(phone_number=OuterRef("pk")).order_by("-id")
    return rows.values(
        "public_id", "number", "label", "number_type", "city", "region", "capabilities", "state",
        "is_test", "release_locked", "assignment_count", "suspended_on", "releases_on", "released_at",
        "rental_amount", "interval_months", "currency",
        applications=ArraySubquery(
            assigned.order_by("assigned_at", "id").values(
                data=JSONObject(name="application__name", slug="application__slug")
            )
        ),
        anchor=Case(
            When(interval_months__gt=1, then=Subquery(rentals.values("anchor")[:1])),
            output_field=DateField(),
        ),
    )  # fmt: skip


def display(number):
    """As `PhoneNumber.display`, for a bare string."""
    if len(number) == 12 and number.startswith("+1"):
        return f"({number[2:5]}) {number[5:8]}-{number[8:]}"
    return number


def long_day(value):
    """ "1 Dec 2026"."""
    return f"{value.day} {value:%b %Y}"


def short_day(value, *, on):
    """ "1 Dec", with the year where it is not that of `on`."""
    return f"{value.day} {value:%b}" if value.year == on.year else long_day(value)


def span(first, last):
    """ "1–30 Nov 2026", for first and last day."""
    if first == last:
        return long_day(first)
    if first.year != last.year:
        return f"{long_day(first)} – {long_day(last)}"
    if first.month != last.month:
        return f"{first.day} {first:%b} – {long_day(last)}"
    return f"{first.day}–{long_day(last)}"


def announced_text(number, price):
    """ "$1.50 a month from 1 Jan 2027": a price that is announced and still ahead."""
    if not price:
        return ""
    how_often, first = HOW_OFTEN[number.interval_months], date.fromisoformat(price["applies_from"])
    return f"{money(price['amount'], number.currency)} {how_often} from {long_day(first)}"


def rental_text(number):
    """ "$1.00 a month"."""
    return f"{money(number.rental_amount, number.currency)} {HOW_OFTEN[number.interval_months]}"


class Drawing:
    """Draws numbers of one organization as they stand on its local date `on`.

    In the list of the application `slug`, only the other ones are named.
    """

    def __init__(self, organization, *, on, slug=""):
        self.slug = slug
        self.zone, self.on = organization.zone, on
        self.billing_date = next_billing_date(organization.billing_day, after=on)
        self.numbers_path = reverse("numbers:list", args=[organization.slug])
        path = reverse("numbers:application_numbers", args=[organization.slug, "-"])
        self.application_path = path.rsplit("-", 1)
        self.amounts, self.days = {}, {}

    def draw(self, row):
        """The strings of one row of `with_facts()`."""
        applications = [
            self._application(each) for each in row["applications"] if each["slug"] != self.slug
        ]
        next_charge = self._next_charge(row)
        return {
            "id": row["public_id"],
            "href": f"{self.numbers_path}{row['public_id']}/",
            "e164": row["number"],
            "text": display(row["number"]),
            "label": row["label"],
            "type": TYPES[row["number_type"]],
            "capabilities": ", ".join(row["capabilities"]),
            "location": ", ".join(filter(None, (row["city"], row["region"]))),
            "applications": applications[:CHIPS],
            "more": applications[CHIPS:],
            "locked": row["release_locked"],
            "test": row["is_test"],
            "rental": "" if row["is_test"] else self._amount(row["rental_amount"], row["currency"]),
            "term": TERMS[row["interval_months"]],
            "next_charge": self._day(next_charge) if next_charge else "",
            "released": row["state"] == PhoneNumber.State.RELEASED,
            "suspended": row["state"] == PhoneNumber.State.SUSPENDED,
            "releasing": row["releases_on"] is not None,
            **self._status(row),
        }

    def _application(self, application):
        before, after = self.application_path
        slug = application["slug"]
        return {"name": application["name"], "slug": slug, "href": f"{before}{slug}{after}"}

    def _status(self, row):
        if row["state"] == PhoneNumber.State.RELEASED:
            return self._dated("released", "Released", row["released_at"].astimezone(self.zone))
        if row["state"] == PhoneNumber.State.SUSPENDED:
            return self._dated("unpaid", "Unpaid since", row["suspended_on"])
        if row["releases_on"]:
            return self._dated("releasing", "Releasing", row["releases_on"] - timedelta(days=1))
        if not row["assignment_count"]:
            return {"status": "unassigned", "word": "Not assigned", "exact": ""}
        return {"status": "active", "word": "Active", "exact": ""}

    def _dated(self, status, word, day):
        if day is None:
            return {"status": status, "word": word.removesuffix(" since"), "exact": ""}
        return {"status": status, "word": f"{word} {self._day(day)}", "exact": long_day(day)}

    def _next_charge(self, row):
        """The day the next period begins and is charged; None where the rental ends before."""
        due = self.billing_date
        if row["is_test"] or row["state"] == PhoneNumber.State.RELEASED:
            return None
        if row["anchor"]:
            months = months_until(row["anchor"], self.on) + row["interval_months"]
            due = add_months(row["anchor"], months - months % row["interval_months"])
        return None if row["releases_on"] and row["releases_on"] <= due else due

    def _amount(self, minor, currency):
        key = minor, currency
        if key not in self.amounts:
            self.amounts[key] = money(minor, currency)
        return self.amounts[key]

    def _day(self, value):
        if value not in self.days:
            self.days[value] = short_day(value, on=self.on)
        return self.days[value]
