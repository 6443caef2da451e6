"""Billing dates and periods against an oracle that knows no month arithmetic: it walks day by day."""

from bisect import bisect_right
from datetime import date, timedelta
from functools import cache
from itertools import pairwise

import pytest
from django.db import connection

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.billing.models.runs import LEASES_DUE
from chirp_dashboard.billing.periods import (
    add_months,
    anchor_of,
    billing_dates,
    first_period,
    last_billing_date,
    months_until,
    next_billing_date,
    prorate,
)
from chirp_dashboard.numbers.models import PhoneNumber

from .conftest import noon, periods, rent

DAY = timedelta(days=1)
FIRST, LAST = date(2051, 1, 1), date(2055, 12, 31)  # 600 months on, 2100 is no leap year
MONTHS = 600
FEBRUARIES = [date(2052, 2, 28), date(2052, 2, 29), date(2052, 3, 1), date(2055, 2, 28)]


def walk(day, until):
    while day <= until:
        yield day
        day += DAY


def is_last_of_month(day):
    return (day + DAY).month != day.month


@cache
def dates_of(wanted):
    """The oracle: every day that is number `wanted` of its month, or the last of a shorter one."""
    return [
        day
        for day in walk(date(2050, 11, 1), date(2106, 3, 1))
        if day.day == wanted or (day.day < wanted and is_last_of_month(day))
    ]


EVERY_START = list(walk(FIRST, LAST))
SOME_STARTS = sorted({*EVERY_START[::37], *FEBRUARIES, LAST})
STARTS = [
    pytest.param(SOME_STARTS, id="sample"),
    pytest.param(EVERY_START, id="all", marks=pytest.mark.slow),
]


def billing_days_for(start):
    """Four billing days for each start date; over all of them, every pair of days comes up."""
    turn = start.toordinal()
    return {start.day, turn % 31 + 1, (turn * 7) % 31 + 1, 31}


@pytest.mark.parametrize("starts", STARTS)
def test_periods_of_fifty_years_are_those_of_the_calendar(starts):
    for start in starts:
        for billing_day in billing_days_for(start):
            dates = dates_of(billing_day)
            first = bisect_right(dates, start)
            expected = [start, *dates[first : first + MONTHS]]
            rental = Rental(anchor=anchor_of(billing_day), starts_on=start)
            found = [start, first_period(billing_day, 100, on=start).end]
            found += [end for _, end in rental.periods_begun(expected[-2])]
            assert found == expected


@pytest.mark.parametrize("starts", STARTS)
def test_first_period_costs_its_days(starts):
    for start in starts:
        for billing_day in billing_days_for(start):
            first = first_period(billing_day, 1000, on=start)
            month = [day for day in dates_of(billing_day) if day <= start][-1]
            days = sum(1 for _ in walk(start, first.end - DAY))
            days_in_month = sum(1 for _ in walk(month, first.end - DAY))
            assert (first.days, first.days_in_month) == (days, days_in_month)
            # Rounded half up, by long division on whole cents.
            whole, rest = divmod(1000 * days, days_in_month)
            assert first.amount == whole + (1 if 2 * rest >= days_in_month else 0)


@pytest.mark.parametrize("billing_day", range(1, 32))
def test_billing_dates_are_those_of_the_calendar(billing_day):
    expected = dates_of(billing_day)
    first, last = expected[0], expected[-1]
    assert list(billing_dates(billing_day, after=first - DAY, until=last)) == expected
    for before, following in pairwise(expected[:200]):
        assert last_billing_date(billing_day, on=before) == before
        assert last_billing_date(billing_day, on=following - DAY) == before
        assert next_billing_date(billing_day, after=before) == following
        assert next_billing_date(billing_day, after=following - DAY) == following


def test_billing_dates_are_reached_but_not_begun_again():
    assert list(billing_dates(31, after=date(2027, 1, 31), until=date(2027, 2, 28))) == [
        date(2027, 2, 28)
    ]
    assert list(billing_dates(31, after=date(2027, 1, 31), until=date(2027, 2, 27))) == []


def test_months_lead_there_and_back():
    for start in SOME_STARTS:
        for months in (0, 1, 2, 11, 12, 13, 48, 599):
            assert months_until(start, add_months(start, months)) == months
            assert months_until(start, add_months(start, months) - DAY) == months - 1


@pytest.mark.parametrize(
    ("amount", "days", "of", "expected"),
    [(100, 8, 30, 27), (100, 15, 30, 50), (1, 15, 30, 1), (1, 14, 30, 0), (0, 3, 30, 0), (100, 30, 30, 100)],
)  # fmt: skip
def test_half_a_cent_is_rounded_up(amount, days, of, expected):
    assert prorate(amount, days=days, of=of) == expected


# PostgreSQL's own month arithmetic ------------------------------------------------------------


def leased(organization, starts, *, months):
    """`{id: start}` of a lease for each of `starts`; what they were charged is not looked at."""
    numbers = PhoneNumber.objects.bulk_create(
        PhoneNumber(
            organization=organization,
            country="US",
            number=f"+1212{place:07}",
            number_type="local",
            rental_amount=100,
            currency="USD",
        )
        for place, _ in enumerate(starts)
    )
    leases = Rental.objects.bulk_create(
        Rental(
            organization=organization,
            phone_number=number,
            amount=100,
            currency="USD",
            interval_months=months,
            anchor=start,
            starts_on=start,
        )
        for number, start in zip(numbers, starts, strict=True)
    )
    return {lease.pk: lease.starts_on for lease in leases}


@pytest.mark.parametrize("starts", STARTS)
@pytest.mark.parametrize("months", [3, 6, 12])
def test_leases_of_fifty_years_fall_on_the_dates_of_the_calendar(organization, starts, months):
    leases = leased(organization, starts, months=months)
    through = date(2101, 1, 15)
    with connection.cursor() as cursor:
        cursor.execute(LEASES_DUE, {"organization": organization.pk, "through": through})
        due = sorted((row[0], row[4], row[5]) for row in cursor.fetchall())
    expected = []
    for pk, start in leases.items():
        dates = [day for day in dates_of(start.day) if day >= start][::months]
        expected += [(pk, begin, end) for begin, end in pairwise(dates) if start < begin <= through]
    assert due == sorted(expected)


@pytest.mark.parametrize(
    ("days", "begin", "until"),
    [
        pytest.param([1, 28, 29, 30, 31], date(2099, 1, 31), date(2100, 4, 30), id="sample"),
        pytest.param([1, 29, 30, 31], FIRST, date(2101, 1, 1), id="all", marks=pytest.mark.slow),
    ],
)
def test_run_charges_the_periods_of_the_calendar(organization, days, begin, until):
    for billing_day in days:
        organization.billing_day = billing_day
        organization.save()
        rentals = rent(organization, on=begin)
        Rental.objects.charge_due(on=until, at=noon(until))
        dates = [begin, *(day for day in dates_of(billing_day) if day > begin)]
        expected = [(str(a), str(b)) for a, b in pairwise(dates) if a <= until]
        assert [(start, end) for start, end, _ in periods(rentals[0])] == expected
        start_over(organization)


def start_over(organization):
    """Forget this organization's books, so that it can be billed on another day."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SET session_replication_role = replica")
        for table in (
            "billing_invoiceline", "billing_invoice", "billing_charge", "billing_posting",
            "billing_entry", "billing_rental", "billing_standing",
        ):  # fmt: skip
            cursor.execute(f"DELETE FROM {table}")
        cursor.execute("SET session_replication_role = DEFAULT")
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")
