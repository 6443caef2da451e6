"""Days begin where the organization is. PostgreSQL, which the run does not ask, is the judge."""

import random
import zoneinfo
from datetime import UTC, date, datetime, timedelta
from itertools import accumulate

import pytest
from django.db import connection

from chirp_dashboard.billing.models import Charge, Invoice, Rental
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Organization

from .conftest import rent

# The moment at which a local day begins, or would begin if the clock were not changed just then.
MIDNIGHTS = [
    # Midnight does not exist: 23:59:59 is followed by 01:00.
    ("America/Asuncion", datetime(2023, 10, 1, 4, tzinfo=UTC)),
    ("America/Santiago", datetime(2023, 9, 3, 4, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2024, 3, 30, 22, tzinfo=UTC)),
    ("America/Havana", datetime(2024, 3, 10, 5, tzinfo=UTC)),
    # The hour before midnight comes twice.
    ("America/Asuncion", datetime(2024, 3, 24, 3, tzinfo=UTC)),
    ("America/Santiago", datetime(2024, 4, 7, 3, tzinfo=UTC)),
    ("Asia/Beirut", datetime(2024, 10, 26, 21, tzinfo=UTC)),
    # Midnight itself comes twice: 01:00 is followed by 00:00.
    ("America/Havana", datetime(2024, 11, 3, 5, tzinfo=UTC)),
    # A minute after midnight it is 23:01 of the day before again.
    ("America/St_Johns", datetime(2010, 11, 7, 2, 31, tzinfo=UTC)),
    # 30 December 2011 never was.
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC)),
    # The first and the last places to begin a day, and one a quarter of an hour off.
    ("Pacific/Kiritimati", datetime(2026, 11, 30, 10, tzinfo=UTC)),
    ("Etc/GMT+12", datetime(2026, 12, 1, 12, tzinfo=UTC)),
    ("Pacific/Chatham", datetime(2026, 11, 30, 10, 15, tzinfo=UTC)),
]
AROUND = [
    timedelta(seconds=seconds)
    for seconds in (
        -7200, -3601, -3600, -3599, -61, -60, -1, 0, 1, 59, 60, 61, 1800, 3599, 3600, 3601, 7200,
    )
]  # fmt: skip


def judged(zone, moments):
    """The local dates of `moments`, as PostgreSQL sees them."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT (moment AT TIME ZONE %s)::date FROM unnest(%s::timestamptz[])"
            " WITH ORDINALITY AS given (moment, place) ORDER BY place",
            [zone, moments],
        )
        return [day for (day,) in cursor.fetchall()]


@pytest.mark.parametrize(("zone", "midnight"), MIDNIGHTS)
def test_run_charges_from_the_first_moment_of_the_day(organization, zone, midnight):
    moments = [midnight + offset for offset in AROUND]
    days = judged(zone, moments)
    day = max(days)
    assert min(days) < day, "the moments reach into two days"
    organization.time_zone, organization.billing_day = zone, day.day
    organization.save()
    rental = rent(organization, on=day - timedelta(days=20))[0]
    for moment, latest in zip(moments, accumulate(days, max), strict=True):
        run = Rental.objects.charge_due(at=moment)
        assert rental.charges.filter(period_start=day).exists() == (latest >= day), moment
        assert (run.failures, run.alarms) == ([], [])
    assert check_books(at=moments[-1]) == []
    charge = rental.charges.get(period_start=day)
    assert (charge.on, charge.invoice_line.invoice.billing_date) == (day, day)
    assert Invoice.objects.filter(billing_date=day).count() == 1


def test_purchase_in_an_hour_that_comes_twice_is_not_lost(organization):
    """At St John's the day was invoiced in its first minute; then it was the day before again."""
    organization.time_zone, organization.billing_day = "America/St_Johns", 7
    organization.save()
    begins = datetime(2010, 11, 7, 2, 30, tzinfo=UTC)
    rent(organization, on=date(2010, 10, 20))
    Rental.objects.charge_due(at=begins)
    assert Invoice.objects.get().billing_date == date(2010, 11, 7)
    again = begins + timedelta(minutes=10)
    assert organization.local_date(again) == date(2010, 11, 6)
    late = rent(organization, on=date(2010, 11, 6))[0]
    Rental.objects.charge_due(at=again)
    Rental.objects.charge_due(at=begins + timedelta(hours=2))
    Rental.objects.charge_due(at=begins + timedelta(days=31))
    assert Charge.objects.filter(invoice_line=None).count() == 0
    assert [str(start) for start in late.charges.order_by("period_start").values_list(
        "period_start", flat=True
    )] == ["2010-11-06", "2010-11-07", "2010-12-07"]  # fmt: skip
    assert check_books(at=begins + timedelta(days=31)) == []


def test_local_dates_are_those_of_another_reckoner(db):
    chance = random.Random(1582)
    first, last = datetime(2000, 1, 1, tzinfo=UTC), datetime(2024, 1, 1, tzinfo=UTC)
    with connection.cursor() as cursor:
        cursor.execute("SELECT name FROM pg_timezone_names")
        known = {name for (name,) in cursor.fetchall()}
    # Without a slash PostgreSQL takes some for abbreviations, such as CET, that have no summer.
    zones = sorted(zone for zone in known & zoneinfo.available_timezones() if "/" in zone)
    assert len(zones) > 400
    for zone in zones:
        moments = [first + chance.random() * (last - first) for _ in range(40)]
        ours = [Organization(time_zone=zone).local_date(moment) for moment in moments]
        assert ours == judged(zone, moments), zone
