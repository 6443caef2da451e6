"""What billing does on which day of the coming months, for the calendar page and for feeds."""

from calendar import Calendar
from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from chirp_dashboard.organizations.templatetags.ui import day, money

from .models import NumberType
from .periods import add_months

ONE_DAY = timedelta(days=1)
WEEKDAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]


@dataclass(frozen=True)
class Event:
    """Something of one day. `key` names it for ever, so that a calendar moves it instead of doubling it."""

    date: date
    kind: str  # invoice, due, lease, release, price, dunning
    key: str
    title: str
    note: str = ""


@dataclass(frozen=True)
class Day:
    date: date
    events: list
    is_inside: bool
    is_today: bool


@dataclass(frozen=True)
class Agenda:
    """The events of a Statement's organization, from the first unpaid invoice to the last expected one."""

    statement: object

    @property
    def currency(self):
        return self.statement.organization.currency

    @property
    def until(self):
        return self.statement.next_dates[-1]

    @cached_property
    def events(self):
        """Every event, by day."""
        found = [
            *self._expected(), *self._due(), *self._leases(), *self._releases(),
            *self._prices(), *self._dunning(),
        ]  # fmt: skip
        return sorted(found, key=lambda event: (event.date, event.kind, event.key))

    def _money(self, amount):
        return money(amount, self.currency)

    def _expected(self):
        for invoice in self.statement.expected:
            yield Event(
                invoice.date,
                "invoice",
                f"invoice-{invoice.date:%Y%m%d}",
                f"Invoice, about {self._money(invoice.total)}",
                f"Expected if nothing is purchased or released until then. Due {day(invoice.due_on)}.",
            )

    def _due(self):
        for invoice in self.statement.unpaid:
            yield Event(
                invoice.due_on,
                "due",
                f"due-{invoice.number:06d}",
                f"{invoice.title} is due, {self._money(invoice.due)}",
                f"Issued on {day(invoice.issued_on)}.",
            )

    def _leases(self):
        for lease in self.statement.coming["leases"]:
            on = date.fromisoformat(lease["date"])
            if on <= self.until:
                words = (
                    "1 lease renews" if lease["count"] == 1 else f"{lease['count']:,} leases renew"
                )
                yield Event(
                    on, "lease", f"leases-{on:%Y%m%d}", f"{words}, {self._money(lease['amount'])}"
                )

    def _releases(self):
        """On the last day that a number works."""
        for row in self.statement.facts["leaving"]:
            last = date.fromisoformat(row["on"]) - ONE_DAY
            if self.statement.on <= last <= self.until:
                words = "1 number" if row["count"] == 1 else f"{row['count']:,} numbers"
                yield Event(
                    last, "release", f"releases-{last:%Y%m%d}", f"Last day of {words}",
                    f"Released from {day(last + ONE_DAY)}.",
                )  # fmt: skip

    def _prices(self):
        for change in self.statement.price_changes:
            if change.applies_from <= self.until:
                kind = NumberType(change.number_type).label
                yield Event(
                    change.applies_from, "price", f"price-{change.pk}",
                    f"{kind} rental becomes {self._money(change.amount)}",
                    f"For {change.rentals:,} numbers, from the first period that begins then.",
                )  # fmt: skip

    def _dunning(self):
        for step in self.statement.dunning_steps:
            yield Event(step.on, "dunning", f"dunning-{step.on:%Y%m%d}", step.title, step.meaning)

    @cached_property
    def months(self):
        """`(first day, weeks of Days)` from this month to that of the last expected invoice."""
        first, months = self.statement.on.replace(day=1), []
        while first <= self.until:
            months.append((first, self._weeks(first)))
            first = add_months(first, 1)
        return months

    def _weeks(self, first):
        by_day = {}
        for event in self.events:
            by_day.setdefault(event.date, []).append(event)
        return [
            [
                Day(
                    each, by_day.get(each, []), each.month == first.month, each == self.statement.on
                )
                for each in week
            ]
            for week in Calendar().monthdatescalendar(first.year, first.month)
        ]

    @property
    def earlier(self):
        """What lies before this month: invoices that are overdue."""
        first = self.statement.on.replace(day=1)
        return [event for event in self.events if event.date < first]

    @property
    def weekdays(self):
        return WEEKDAYS
