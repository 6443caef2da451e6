"""The next invoices before they are written, from what is charged, what runs and what was announced.

`Expected` is one of them. The parts of several are read by `COMING` at a cost that does not grow with the
number of monthly rentals; `Forecast` adds up every rental by type and takes a second for a million.
"""

from collections import Counter
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import cached_property

from django.conf import settings
from django.db import connection

from chirp_dashboard.billing import tax
from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.spreadsheet import decimal

from .models import Charge, NumberType, Standing
from .models.price_changes import PRICE_FOR
from .models.runs import LEASES_DUE

AHEAD = 3  # invoices
CHARGED = "charged already"

# What pending price changes add to the kept sum of monthly rentals, on each of `dates`: the latest one
# that applies by then counts, on what still runs. Changes that were applied are in the sum already.
CHANGES = """
    SELECT due.date, coalesce(sum(price.amount - number.rental_amount), 0) AS amount
    FROM unnest(%(dates)s::date[]) AS due (date)
    CROSS JOIN LATERAL (
        SELECT DISTINCT ON (price.rental_id) price.rental_id, price.amount
        FROM billing_pricechange change JOIN billing_rentalprice price ON price.change_id = change.id
        WHERE change.organization_id = %(organization)s AND change.interval_months = 1
          AND change.withdrawn_at IS NULL AND change.applied_at IS NULL
          AND change.applies_from <= due.date
        ORDER BY price.rental_id, change.applies_from DESC
    ) AS price
    JOIN billing_rental rental ON rental.id = price.rental_id
        AND (rental.ends_on IS NULL OR rental.ends_on > due.date)
    JOIN numbers_phonenumber number ON number.id = rental.phone_number_id
    GROUP BY due.date
"""
COMING = f"""
    SELECT jsonb_build_object(
        'leases', (
            SELECT coalesce(jsonb_agg(leases), '[]') FROM (
                SELECT starts AS date, count(*) AS count, sum(amount) AS amount
                FROM ({LEASES_DUE}) AS due GROUP BY starts ORDER BY starts
            ) AS leases
        ),
        'changes', (SELECT coalesce(jsonb_agg(changes), '[]') FROM ({CHANGES}) AS changes)
    )
"""  # noqa: S608

BY_TYPE = f"""
    SELECT number.number_type, rental.ends_on, count(*), sum(number.rental_amount)::bigint,
           sum({PRICE_FOR.format(start="(%(dates)s::date[])[1]")})::bigint,
           sum({PRICE_FOR.format(start="(%(dates)s::date[])[2]")})::bigint,
           sum({PRICE_FOR.format(start="(%(dates)s::date[])[3]")})::bigint
    FROM billing_rental rental JOIN numbers_phonenumber number ON number.id = rental.phone_number_id
    WHERE rental.organization_id = %(organization)s AND rental.interval_months = 1
      AND (rental.ends_on IS NULL OR rental.ends_on > (%(dates)s::date[])[1])
    GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608
LEASES_BY_TYPE = f"""
    SELECT starts, number_type, count(*), sum(due.amount)::bigint
    FROM ({LEASES_DUE}) AS due JOIN numbers_phonenumber number ON number.id = due.phone_number_id
    GROUP BY 1, 2 ORDER BY 1, 2
"""  # noqa: S608
LEAVING_BY_TYPE = """
    SELECT ends_on, number_type, count(*), sum(number.rental_amount)::bigint
    FROM billing_rental rental JOIN numbers_phonenumber number ON number.id = rental.phone_number_id
    WHERE rental.organization_id = %(organization)s AND NOT number.state = 'released'
      AND number.releases_on = rental.ends_on AND ends_on <= %(through)s
    GROUP BY 1, 2 ORDER BY 1, 2
"""


def label(number_type):
    return NumberType(number_type).label if number_type else "Without a number"


def words_of(kind, number_type):
    """ "Local purchase fee", "Credit"."""
    what = Charge.Kind(kind).label
    return f"{label(number_type)} {what.lower()}" if number_type else what


def billing_dates_after(organization, day, *, count=AHEAD):
    """The next `count` billing dates of `organization` after `day`."""
    dates = []
    for _ in range(count):
        day = next_billing_date(organization.billing_day, after=day)
        dates.append(day)
    return dates


@dataclass(frozen=True)
class Part:
    """One line of a forecast, in the minor unit."""

    what: str
    amount: int
    count: int | None = None
    note: str = ""

    @property
    def of_what(self):
        """ "8 numbers, 1 released by then", "2 charged already"."""
        if self.note == CHARGED:
            return f"{self.count:,} {CHARGED}"
        numbers = "1 number" if self.count == 1 else f"{self.count:,} numbers"
        return f"{numbers}, {self.note}" if self.note else numbers


@dataclass(frozen=True)
class Expected:
    """An invoice to come. `credit` is the money that waits for it when it is written."""

    date: date
    parts: tuple
    tax_rate: object
    terms_days: int
    credit: int = 0

    @property
    def net(self):
        return sum(part.amount for part in self.parts)

    @property
    def tax(self):
        return tax.tax_on(self.net, self.tax_rate)

    @property
    def total(self):
        return self.net + self.tax

    @property
    def credit_used(self):
        return max(0, min(self.credit, self.total))

    @property
    def credit_taken(self):
        return -self.credit_used

    @property
    def to_pay(self):
        return max(0, self.total - self.credit_used)

    @property
    def due_on(self):
        return self.date + timedelta(days=self.terms_days)


def with_credit(expected, credit, *, due):
    """`expected`, in order, each with the money that waits for it when it is written.

    `credit` is what waits now. An invoice below zero gives money back: it pays what is `due` first.
    """
    given = []
    for invoice in expected:
        given.append(replace(invoice, credit=max(0, credit)))
        back = max(0, -invoice.total)
        credit += max(0, back - due) - given[-1].credit_used
        due = max(0, due - back)
    return given


@dataclass(frozen=True)
class Forecast:
    """The next invoices of `organization` line by line, as its `statement` sums them up."""

    statement: object

    @property
    def organization(self) -> Organization:
        return self.statement.organization

    @property
    def tax_name(self):
        return settings.TAX_NAME

    @property
    def tax_words(self):
        """ "7.5 per cent"."""
        return f"{self.organization.tax_rate.normalize():f} per cent"

    @cached_property
    def invoices(self):
        dates = self.statement.next_dates
        after = [date.min, *dates]
        return with_credit(
            [
                Expected(
                    date=day,
                    parts=tuple(self._parts(day, after=after[place])),
                    tax_rate=self.organization.tax_rate,
                    terms_days=self.statement.terms_days,
                )
                for place, day in enumerate(dates)
            ],
            self.statement.credit,
            due=self.statement.due,
        )

    def table(self):
        """Everything the page says, as rows for a spreadsheet."""
        currency = self.organization.currency
        yield ["Invoice date", "Due", "Line", "Count", "Currency", "Amount", "Note"]
        for invoice in self.invoices:
            dates = [invoice.date.isoformat(), invoice.due_on.isoformat()]
            for part in invoice.parts:
                amount = decimal(part.amount, currency)
                yield [*dates, part.what, part.count, currency, amount, part.note]
            for what in ("tax", "total", "credit_used", "to_pay"):
                words = what.replace("_", " ").capitalize()
                yield [*dates, words, "", currency, decimal(getattr(invoice, what), currency), ""]

    def _parts(self, day, *, after):
        if day == self.statement.next_dates[0]:
            yield from self._charged
        for kind, (count, before, amount) in self._monthly_on(day).items():
            note = self._note(day, kind, amount, before)
            yield Part(f"{label(kind)} rental", amount, count, note)
        leases = Counter(), Counter()
        for starts, kind, count, amount in self._leases:
            if after < starts <= day:
                leases[0][kind] += count
                leases[1][kind] += amount
        for kind, count in sorted(leases[0].items()):
            yield Part(f"{label(kind)} lease", leases[1][kind], count, "several months at once")

    def _note(self, day, kind, amount, before):
        """Why it is not what it was: announced prices, scheduled releases."""
        gone = sum(row[2] for row in self._leaving if row[1] == kind and row[0] <= day)
        notes = ["at the announced price"] if amount != before else []
        if gone:
            notes.append(f"{gone:,} released by then")
        return ", ".join(notes)

    @cached_property
    def _charged(self):
        """What is charged and on no invoice yet, by kind and type."""
        standing = Standing.objects.filter(organization=self.organization).first()
        sums = Charge.objects.uninvoiced(standing).sums() if standing else []
        return [
            Part(
                words_of(group["kind"], group["type"]),
                group["amount"],
                group["count"],
                CHARGED,
            )
            for group in sums
        ]

    def _monthly_on(self, day):
        """`{type: [count, at the prices of now, at those of day]}` of what still runs on `day`."""
        place, sums = self.statement.next_dates.index(day), {}
        for kind, ends_on, count, now, *then in self._monthly:
            if ends_on is None or ends_on > day:
                known = sums.setdefault(kind, [0, 0, 0])
                for part, value in enumerate((count, now, then[place])):
                    known[part] += value
        return sums

    @cached_property
    def _monthly(self):
        return self._read(BY_TYPE)

    @cached_property
    def _leases(self):
        return self._read(LEASES_BY_TYPE)

    @cached_property
    def _leaving(self):
        return self._read(LEAVING_BY_TYPE)

    def _read(self, statement):
        dates = self.statement.next_dates
        with connection.cursor() as cursor:
            cursor.execute(
                statement,
                {"organization": self.organization.pk, "dates": dates, "through": dates[-1]},
            )
            return cursor.fetchall()
