"""What the next invoices are expected to ask for is what the run then asks for, to the cent."""

import random
from contextlib import suppress
from datetime import date, timedelta

import pytest
from django.db import transaction

from chirp_dashboard.billing.forecast import Forecast
from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    PriceChange,
    Refund,
    Standing,
)
from chirp_dashboard.billing.models.price_changes import PriceChangeRefused
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.numbers.repricing import show_new_prices
from chirp_dashboard.organizations.models import Organization

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

NOVEMBER_20 = date(2026, 11, 20)
FEBRUARY, MARCH = date(2027, 2, 1), date(2027, 3, 1)

pytestmark = pytest.mark.django_db


def expected(organization, *, on):
    """`{billing date: total}` by the kept sums, which has to be what every rental adds up to."""
    organization = Organization.objects.get(pk=organization.pk)
    statement = Statement(organization, on)
    kept = {invoice.date: invoice.total for invoice in statement.expected}
    assert {invoice.date: invoice.total for invoice in Forecast(statement).invoices} == kept
    return kept


def asked_for(organization):
    invoices = Invoice.objects.filter(organization=organization, kind="monthly")
    return dict(invoices.values_list("billing_date", "total"))


def announce(organization, person, *, amount, applies_from, on=NOVEMBER_20):
    """Announce what every local number of `organization` rents for from `applies_from`."""
    return PriceChange.objects.announce(
        organization, country="US", number_type="local", interval_months=1, amount=amount,
        currency="USD", applies_from=applies_from, reason="Carrier", by=person, at=noon(on),
    )  # fmt: skip


def test_scheduled_releases_end_in_the_forecast_too(organization):
    rent(organization, on=date(2026, 11, 5), numbers=3)
    rent(organization, on=date(2026, 11, 5), ends_on=DECEMBER)
    rent(organization, on=date(2026, 11, 5), numbers=2, ends_on=JANUARY)
    run(NOVEMBER_20)
    forecast = expected(organization, on=NOVEMBER_20)
    run(FEBRUARY)
    assert asked_for(organization) == forecast


def test_leases_stand_on_the_invoice_after_their_period_begins(organization):
    rent(organization, on=date(2026, 9, 15), amount=9_000, months=3, fee=None)
    run(NOVEMBER_20)
    forecast = expected(organization, on=NOVEMBER_20)
    assert forecast == {DECEMBER: 0, JANUARY: 9_000, FEBRUARY: 0}
    run(FEBRUARY)
    assert asked_for(organization)[JANUARY] == 9_000


def test_lease_whose_period_began_before_the_run_came_is_expected_once(organization):
    rent(organization, on=date(2026, 9, 15), amount=9_000, months=3, fee=None)
    run(NOVEMBER_20)
    before = expected(organization, on=date(2026, 12, 15))
    run(date(2026, 12, 15))
    assert expected(organization, on=date(2026, 12, 15))[JANUARY] == before[JANUARY] == 9_000


def test_tax_is_computed_on_each_invoice(organization):
    organization.tax_rate = "7.5"
    organization.save()
    rent(organization, on=date(2026, 11, 5), numbers=3, amount=111)
    run(NOVEMBER_20)
    forecast = expected(organization, on=NOVEMBER_20)
    assert forecast[JANUARY] == 333 + 25
    run(FEBRUARY)
    assert asked_for(organization) == forecast


def test_announced_prices_are_expected_from_their_day(organization, operator):
    rent(organization, on=date(2026, 11, 5), numbers=3)
    rent(organization, on=date(2026, 11, 5), ends_on=FEBRUARY)
    run(NOVEMBER_20)
    announce(organization, operator, amount=250, applies_from=JANUARY)
    rent(organization, on=NOVEMBER_20, amount=100)
    forecast = expected(organization, on=NOVEMBER_20)
    assert forecast[JANUARY] == 4 * 250 + 100
    assert forecast[FEBRUARY] == 3 * 250 + 100
    run(FEBRUARY)
    assert asked_for(organization) == forecast


def test_credit_is_used_invoice_by_invoice(organization, rental):
    Payment.objects.record_transfer(
        organization, amount=300, received_on=date(2026, 11, 24), reference="T", by=OPERATOR,
        at=noon(date(2026, 11, 24)),
    )  # fmt: skip
    first, second, third = Statement(organization, date(2026, 11, 24)).expected
    assert (first.total, first.credit_used, first.to_pay) == (227, 227, 0)
    assert (second.total, second.credit_used, second.to_pay) == (100, 73, 27)
    assert (third.credit_used, third.to_pay) == (0, 100)


def test_invoice_below_zero_gives_money_to_the_next(organization, rental):
    Charge.objects.issue_credit(
        organization, amount=400, reason="Outage", by=OPERATOR, at=noon(date(2026, 11, 24))
    )
    first, second, third = Statement(organization, date(2026, 11, 24)).expected
    assert (first.total, first.to_pay) == (-173, 0)
    assert (second.credit_used, second.to_pay) == (100, 0)
    assert (third.credit_used, third.to_pay) == (73, 27)
    run(JANUARY)
    assert asked_for(organization)[DECEMBER] == -173
    assert Invoice.objects.get(billing_date=JANUARY).due == 0


def test_invoice_below_zero_pays_what_is_due_first(organization, rental):
    run(DECEMBER)
    Charge.objects.issue_credit(
        organization, amount=400, reason="Outage", by=OPERATOR, at=noon(date(2026, 12, 2))
    )
    first, second, _ = Statement(organization, date(2026, 12, 2)).expected
    assert (first.total, second.total) == (-300, 100)
    assert second.credit_used == 300 - 227
    run(FEBRUARY)
    assert Invoice.objects.get(billing_date=FEBRUARY).due == second.to_pay == 27


def test_money_being_given_back_is_neither_credit_nor_charge(organization, operator, rental):
    at = noon(date(2026, 11, 24))
    payment = Payment.objects.record_transfer(
        organization, amount=500, received_on=date(2026, 11, 24), reference="T", by=operator, at=at
    )

    def stands():
        statement = Statement(organization, date(2026, 11, 24))
        assert statement.not_invoiced == 127
        return statement.credit

    assert stands() == 500
    refund = Refund.objects.begin(payment, amount=200, reason="Too much", by=operator, at=at)
    assert stands() == 300
    if refund.state != "refunded":
        with transaction.atomic():
            Standing.lock(organization)
            refund.refresh_from_db()
            refund.give_back(by=operator, at=at)
    assert stands() == 300


def test_lines_name_types_counts_and_what_is_released(organization):
    rent(organization, on=date(2026, 11, 5), numbers=2)
    rent(organization, on=date(2026, 11, 5), ends_on=DECEMBER)
    run(NOVEMBER_20)
    first, second, _ = Forecast(Statement(organization, NOVEMBER_20)).invoices
    lines = {part.what + part.note: (part.count, part.amount) for part in first.parts}
    assert lines["Local purchase feecharged already"] == (3, 300)
    assert lines["Local rental1 released by then"] == (2, 200)
    said = {part.of_what for part in first.parts}
    assert {"3 charged already", "2 numbers, 1 released by then"} <= said
    assert [part.of_what for part in second.parts] == ["2 numbers, 1 released by then"]
    assert [part.what for part in second.parts] == ["Local rental"]


def live_a_day(organization, rng, day):
    """Something that may happen to an organization on `day`."""
    happens = rng.random()
    if happens < 0.3:
        rent(organization, on=day, numbers=rng.randint(1, 4), amount=rng.randint(0, 999))
    elif happens < 0.4:
        months = rng.choice([3, 6, 12])
        rent(organization, on=day, amount=rng.randint(1, 9_999), months=months)
    elif happens < 0.6:
        release_one(organization, rng, day)
    elif happens < 0.7:
        Charge.objects.issue_credit(
            organization, amount=rng.randint(1, 300), reason="Outage", by=OPERATOR, at=noon(day)
        )
    elif happens < 0.8:
        Payment.objects.record_transfer(
            organization, amount=rng.randint(1, 2_000), received_on=day, reference=f"T{day}",
            by=OPERATOR, at=noon(day),
        )  # fmt: skip


def release_one(organization, rng, day):
    numbers = organization.phone_numbers.live().filter(releases_on=None)
    if not (numbers := list(numbers.order_by("pk"))):
        return
    number = rng.choice(numbers)
    rental = number.rentals.get()
    _, rental.ends_on = rental.period_containing(day)
    rental.save(update_fields=["ends_on"])
    PhoneNumber.objects.filter(pk=number.pk).update(releases_on=rental.ends_on)


def announce_something(organization, rng, person, day):
    applies_from = day + timedelta(days=rng.randint(31, 70))
    with suppress(PriceChangeRefused):  # nothing to change yet, or twice for one day
        announce(
            organization, person, amount=rng.randint(0, 999), applies_from=applies_from, on=day
        )


def settle(day):
    """What the worker does on `day`."""
    run(day)
    PhoneNumber.objects.complete_releases(at=noon(day))
    show_new_prices(at=noon(day))


@pytest.mark.parametrize("seed", range(3))
def test_whatever_happened_the_run_writes_what_was_expected(organization, operator, seed):
    """Live for ten weeks, look ahead on any day, then let the runs come: equal to the cent."""
    rng = random.Random(seed)
    organization.billing_day = rng.choice([1, 15, 31])
    organization.tax_rate = rng.choice([0, "7.25", 19])
    organization.save()
    first = date(2026, 8, 20)
    days = [first + timedelta(days=n) for n in range(rng.randint(60, 75))]
    for day in days:
        live_a_day(organization, rng, day)
        if day.day == 10:
            announce_something(organization, rng, operator, day)
        if day.day % 5 == 0:
            settle(day)
    settle(days[-1])
    forecast = expected(organization, on=days[-1])
    for later in range(5, 110, 5):
        settle(days[-1] + timedelta(days=later))
    written = {on: total for on, total in asked_for(organization).items() if on in forecast}
    assert written == forecast
    assert organization.price_changes.exists()
