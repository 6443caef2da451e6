"""Thirteen months at once: every missed invoice at the price and the tax of its own period."""

import random
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Decimal
from zoneinfo import ZoneInfo

import pytest
from django.db import IntegrityError, transaction

from chirp_dashboard.billing.models import (
    Charge,
    Entry,
    Invoice,
    Posting,
    Price,
    PriceChange,
    Rental,
    RentalPrice,
)
from chirp_dashboard.billing.models import runs as runs_module
from chirp_dashboard.numbers.books import check_books

from .conftest import NOON, noon, periods, rent, run

CHRISTMAS = date(2027, 12, 24)
JUNE = date(2027, 6, 1)
OLD, NEW, LEASE, LEASE_NEW = 100, 250, 900, 1_200


def announce(organization, *, by, amount=NEW, months=1, applies_from=JUNE):
    return PriceChange.objects.announce(
        organization,
        country="US",
        number_type="local",
        interval_months=months,
        amount=amount,
        currency="USD",
        applies_from=applies_from,
        reason="The network costs more",
        by=by,
        at=NOON,
    )


@pytest.fixture
def renting(organization, operator):
    """Five numbers and a lease of three months, dearer from June on; 8.875 per cent tax."""
    organization.tax_rate = Decimal("8.875")
    organization.save()
    rent(organization, on=date(2026, 11, 23), numbers=5, amount=OLD)
    rent(organization, on=date(2026, 11, 23), amount=LEASE, months=3)
    announce(organization, by=operator)
    announce(organization, by=operator, amount=LEASE_NEW, months=3)
    return organization


def expected():
    """`(billing date, net)` of the thirteen invoices, reckoned by hand."""
    first = 5 * (100 + 27 + OLD) + (100 + LEASE)
    leases = {date(2027, 3, 1): LEASE, JUNE: LEASE, date(2027, 9, 1): LEASE_NEW,
              date(2027, 12, 1): LEASE_NEW}  # fmt: skip
    months = [date(2027, month, 1) for month in range(1, 13)]
    return [(date(2026, 12, 1), first)] + [
        (day, 5 * (OLD if day < JUNE else NEW) + leases.get(day, 0)) for day in months
    ]


def rows():
    return [
        model.objects.count() for model in (Charge, Entry, Posting, Invoice, Rental, RentalPrice)
    ]


@pytest.mark.parametrize("batch", [2, 25_000])
def test_missed_months_cost_what_they_would_have_cost(renting, monkeypatch, batch):
    monkeypatch.setattr(runs_module, "BATCH", batch)
    report = run(CHRISTMAS)
    assert (report.failures, report.alarms, report.invoices) == ([], [], 13)
    invoices = Invoice.objects.order_by("billing_date")
    assert [(invoice.billing_date, invoice.net) for invoice in invoices] == expected()
    for invoice in invoices:
        tax = (Decimal(invoice.net) * Decimal("0.08875")).quantize(Decimal(1), ROUND_HALF_UP)
        assert invoice.tax == tax
    assert check_books(at=noon(CHRISTMAS)) == []


def test_repeat_after_catching_up_inserts_nothing(renting):
    run(CHRISTMAS)
    before = rows()
    again = run(CHRISTMAS)
    assert (again.charges, again.amount, again.invoices, again.skipped) == (0, 0, 0, 0)
    assert rows() == before


def test_month_by_month_gives_the_same_as_all_at_once(renting):
    for day, _ in expected():
        run(day)
    run(CHRISTMAS)
    assert list(Invoice.objects.order_by("billing_date").values_list("billing_date", "total")) == [
        (day, net + int((Decimal(net) * Decimal("0.08875")).quantize(Decimal(1), ROUND_HALF_UP)))
        for day, net in expected()
    ]


def test_rental_without_an_announcement_keeps_its_price(renting):
    later = rent(renting, on=date(2026, 12, 10), amount=OLD)[0]
    run(CHRISTMAS)
    assert {amount for _, _, amount in periods(later)[1:]} == {OLD}


def test_withdrawn_change_is_not_charged(renting, operator):
    for change in PriceChange.objects.all():
        change.withdraw(reason="Not needed", by=operator, at=NOON)
    run(CHRISTMAS)
    assert set(Charge.objects.filter(kind="rental").values_list("amount", flat=True)) == {
        27, OLD, LEASE,
    }  # fmt: skip


def test_period_charged_outside_the_run_has_the_announced_price(renting):
    rental = Rental.objects.filter(interval_months=1).first()
    rental.charge_periods_begun(JUNE, at=noon(JUNE))
    assert [amount for _, _, amount in periods(rental)] == [27, *[OLD] * 6, NEW]
    run(CHRISTMAS)
    assert check_books(at=noon(CHRISTMAS)) == []


def test_negative_prices_are_refused_by_the_database(renting, operator):
    price = {"country": "US", "number_type": "local", "valid_from": date(2026, 1, 1)}
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(**price, purchase_fee=0, rental=-1)
    with pytest.raises(IntegrityError), transaction.atomic():
        Price.objects.create(**price, purchase_fee=-1, rental=0)
    with pytest.raises(IntegrityError), transaction.atomic():
        Rental.objects.filter(pk=Rental.objects.first().pk).update(amount=-1)
    change, rental = PriceChange.objects.first(), rent(renting, on=date(2026, 11, 23))[0]
    with pytest.raises(IntegrityError), transaction.atomic():
        RentalPrice.objects.create(change=change, rental=rental, amount=-1)


# Outages and wrong clocks ---------------------------------------------------------------------

NEW_YORK = ZoneInfo("America/New_York")
MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)


def schedule():
    """Moments at which the worker runs: around every midnight on which something begins."""
    begins = [day for day, _ in expected()] + [date(2027, month, 23) for month in (2, 5, 8, 11)]
    midnights = [datetime.combine(day, time(), NEW_YORK).astimezone(UTC) for day in begins]
    around = sorted(midnight + gap for midnight in midnights for gap in (-MINUTE, MINUTE))
    return [NOON, *around, noon(CHRISTMAS)]


def billed(moments):
    """What stands in the books after runs at `moments`, apart from when it was written; taken back."""
    with transaction.atomic():
        for moment in moments:
            report = Rental.objects.charge_due(at=moment)
            assert (report.failures, report.alarms) == ([], [])
        assert check_books(at=max(moments)) == []
        found = (
            sorted(
                Charge.objects.values_list(
                    "rental", "kind", "phone_number", "period_start", "period_end", "on",
                    "billing_date", "amount", "invoice_line__invoice__billing_date",
                ),
                key=str,
            ),
            sorted(Invoice.objects.values_list("billing_date", "total", "tax", "line_count")),
        )  # fmt: skip
        transaction.set_rollback(True)
    return found


@pytest.mark.parametrize("down", [11 * MINUTE, DAY, 45 * DAY, 395 * DAY])
def test_outage_changes_nothing_but_the_time(renting, down):
    moments = schedule()
    undisturbed = billed(moments)
    assert len(undisturbed[1]) == 13
    begins = datetime.combine(date(2026, 12, 1), time(), NEW_YORK) - 5 * MINUTE
    up = [moment for moment in moments if not begins <= moment < begins + down]
    assert len(up) < len(moments)
    assert billed([*up, moments[-1]]) == undisturbed


@pytest.mark.parametrize("wrong", [-DAY, -HOUR, HOUR, DAY])
def test_wrong_clock_changes_nothing_but_the_time(renting, wrong):
    moments = schedule()
    chance = random.Random(7)
    shifted = [moment + chance.choice([timedelta(), wrong]) for moment in moments[:-1]]
    assert billed([*shifted, moments[-1]]) == billed(moments)
