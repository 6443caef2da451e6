from datetime import UTC, date, datetime, time
from itertools import count

import pytest
from django.db import transaction

from chirp_dashboard.billing.models import Rental, Standing
from chirp_dashboard.billing.models.starting import RentalTerms
from chirp_dashboard.numbers.models import PhoneNumber, Totals
from chirp_dashboard.organizations.models import Actor

# Noon in New York on 23 November 2026: 8 of the 30 days of the period that ends on 1 December.
NOON = datetime(2026, 11, 23, 17, tzinfo=UTC)
DECEMBER, JANUARY = date(2026, 12, 1), date(2027, 1, 1)
OPERATOR = Actor.system("tests")

unused = count()


def noon(day):
    """Noon in New York, near enough, on `day`."""
    return datetime.combine(day, time(17), UTC)


@transaction.atomic
def rent(organization, *, on, numbers=1, amount=100, fee=100, months=1, ends_on=None, order=None):
    """Rent numbers to `organization` from the local date `on`, as a purchase would; the rentals."""
    owned = PhoneNumber.objects.bulk_create(
        PhoneNumber(
            organization=organization,
            country="US",
            number=f"+1212{next(unused):07}",
            number_type="local",
            rental_amount=amount,
            interval_months=months,
            currency=organization.currency,
            purchased_at=noon(on),
            releases_on=ends_on,
        )
        for _ in range(numbers)
    )
    terms = [
        RentalTerms.from_purchase(
            number.pk,
            fee=fee,
            amount=amount,
            interval_months=months,
            billing_day=organization.billing_day,
            on=on,
        )
        for number in owned
    ]
    standing = Standing.lock(organization)
    Rental.objects.start(
        organization, terms, on=standing.posting_date(on), at=noon(on), order=order
    )
    Totals.objects.change(
        organization, numbers=numbers, monthly=amount * numbers if months == 1 else 0
    )
    rentals = Rental.objects.filter(phone_number__in=owned).order_by("pk")
    rentals.update(ends_on=ends_on)
    return list(rentals)


@pytest.fixture
def rental(organization):
    """One number at 1.00 a month since 23 November 2026, fee 1.00."""
    return rent(organization, on=date(2026, 11, 23))[0]


def run(on):
    """Run the billing as if it were `on` everywhere."""
    return Rental.objects.charge_due(on=on, at=noon(on))


def periods(rental):
    """`(start, end, amount)` of every charge of `rental`, in order."""
    charges = rental.charges.order_by("period_start", "pk")
    return [(str(charge.period_start), str(charge.period_end), charge.amount) for charge in charges]
