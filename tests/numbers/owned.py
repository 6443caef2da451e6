"""Numbers an organization has had for a while, without the purchases that brought them."""

from datetime import UTC, date, datetime, timedelta

from django.db.models import F

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.numbers.models import Assignment, PhoneNumber, Totals

SINCE = datetime(2026, 9, 1, 12, tzinfo=UTC)


def own(organization, *numbers, **facts):
    """Live numbers of `organization`, each with its open rental; returns them in the order given."""
    facts = {
        "country": "US",
        "number_type": "local",
        "region": "NY",
        "city": "New York",
        "area_code": "212",
        "capabilities": ["SMS", "MMS", "Voice"],
        "rental_amount": 100,
        "currency": "USD",
    } | facts
    rows = PhoneNumber.objects.bulk_create(
        PhoneNumber(
            organization=organization,
            number=number,
            **{"purchased_at": SINCE + timedelta(minutes=index)} | facts,
        )
        for index, number in enumerate(numbers)
    )
    Rental.objects.bulk_create(
        Rental(
            organization=organization,
            phone_number=row,
            amount=row.rental_amount,
            currency=row.currency,
            interval_months=row.interval_months,
            anchor=date(2000, 1, 1) if row.interval_months == 1 else date(2026, 9, 10),
            starts_on=date(2026, 9, 1),
        )
        for row in rows
    )
    live = [row for row in rows if not row.is_released]
    Totals.objects.change(
        organization, numbers=len(live), monthly=sum(row.rental_amount for row in live)
    )
    return rows


def own_many(organization, count, **facts):
    return own(organization, *(f"+1212555{index:04}" for index in range(count)), **facts)


def put(numbers, application):
    """Assign `numbers` to `application` since long ago."""
    Assignment.objects.bulk_create(
        Assignment(
            organization=application.organization,
            phone_number=number,
            application=application,
            number=number.number,
            assigned_at=SINCE,
        )
        for number in numbers
    )
    PhoneNumber.objects.filter(pk__in=[number.pk for number in numbers]).update(
        assignment_count=F("assignment_count") + 1
    )
