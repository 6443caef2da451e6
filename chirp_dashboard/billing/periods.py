"""Billing dates and periods: pure arithmetic on local dates.

Every date is computed from an anchor, never from the date before it: the anchor plus n months, on the
anchor's day or the last day of a shorter month. So a billing day of 31 gives 31 Jan, 28 Feb, 31 Mar.
PostgreSQL's `anchor + make_interval(months => n)` follows the same rule; the run relies on it.
"""

from calendar import monthrange
from dataclasses import dataclass
from datetime import date


def add_months(anchor, months):
    """`months` after `anchor`, on the same day of the month or its last."""
    index = anchor.year * 12 + anchor.month - 1 + months
    year, month = divmod(index, 12)
    return date(year, month + 1, min(anchor.day, monthrange(year, month + 1)[1]))


def anchor_of(billing_day):
    """The anchor of an organization's billing dates: that day of a month that has all 31."""
    return date(2000, 1, billing_day)


def months_until(anchor, on):
    """The largest n with `anchor` + n months on or before `on`."""
    months = (on.year - anchor.year) * 12 + on.month - anchor.month
    return months if add_months(anchor, months) <= on else months - 1


def last_billing_date(billing_day, *, on):
    """The last billing date on or before `on`."""
    anchor = anchor_of(billing_day)
    return add_months(anchor, months_until(anchor, on))


def next_billing_date(billing_day, *, after):
    """The first billing date strictly after `after`."""
    anchor = anchor_of(billing_day)
    return add_months(anchor, months_until(anchor, after) + 1)


def billing_dates(billing_day, *, after, until):
    """Every billing date in (after, until], oldest first."""
    due = next_billing_date(billing_day, after=after)
    while due <= until:
        yield due
        due = next_billing_date(billing_day, after=due)


def prorate(amount, *, days, of):
    """`days`/`of` of `amount` in the minor unit, halves rounded up (design §8)."""
    return (2 * amount * days + of) // (2 * of)


@dataclass(frozen=True)
class Period:
    """Half-open local dates `[start, end)` and what they cost in the minor unit."""

    start: date
    end: date
    days: int
    days_in_month: int
    amount: int

    @property
    def is_full(self):
        return self.days == self.days_in_month


def first_period(billing_day, rent, *, on, interval_months=1):
    """The first period of a rental that starts on `on`: up to the next billing date, prorated.

    A lease of several months is anchored at its own start and charged whole.
    """
    if interval_months > 1:
        end = add_months(on, interval_months)
        return Period(on, end, (end - on).days, (end - on).days, rent)
    end = next_billing_date(billing_day, after=on)
    days_in_month = (end - last_billing_date(billing_day, on=on)).days
    days = (end - on).days
    return Period(on, end, days, days_in_month, prorate(rent, days=days, of=days_in_month))
