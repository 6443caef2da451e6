"""Sweeps by workers whose clocks are wrong, late, doubled and in any order: the same invoices, paid once."""

import random
from datetime import UTC, date, datetime, timedelta

import pytest
from django.db import transaction

from chirp_dashboard.billing.gateways import TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import (
    Charge,
    Dunning,
    Invoice,
    Payment,
    Rental,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.numbers.books import check_books

from .conftest import noon, rent

pytestmark = pytest.mark.django_db

WRONG = [timedelta(hours=hours) for hours in (0, 0, 1, -1, 24, -24)]
BILLING_DATES = [date(2026, 12, 1), date(2027, 1, 1)]
END = noon(date(2027, 1, 4))
SWEEPS = [
    lambda at: Rental.objects.charge_due(at=at),
    lambda at: Payment.objects.collect_due(at=at),
    lambda at: Payment.objects.advance_due(at=at),
    lambda at: Dunning.objects.walk(at=at),
]


@pytest.fixture
def payers(organization, rival):
    """Two organizations on either side of the date line, who pay through a gateway that collects."""
    organization.gateway = rival.gateway = "test"
    organization.time_zone, rival.time_zone = "Pacific/Honolulu", "Pacific/Auckland"
    for number, payer in enumerate((organization, rival)):
        payer.save()
        rent(payer, on=date(2026, 11, 23), numbers=2 + number)
        rent(payer, on=date(2026, 11, 24), amount=250)


def moments():
    """Before, around and after the midnights of each billing date."""
    for day in BILLING_DATES:
        for hours in (-25, -11, 0, 11, 25, 48):
            yield datetime.combine(day, datetime.min.time(), UTC) + timedelta(hours=hours)


def undisturbed():
    """The rows of sweeps at the right time, one after the other; taken back afterwards."""
    with transaction.atomic():
        for moment in moments():
            for sweep in SWEEPS:
                sweep(moment)
        settle()
        found = rows()
        transaction.set_rollback(True)
    return found


def disturbed(chance):
    """Sweeps by wrong clocks in any order, while one call in ten goes unanswered."""
    for moment in moments():
        faults = (
            [chance.choice([Fault.ANSWER_LOST, Fault.TIME_OUT])] if chance.random() < 0.1 else []
        )
        with TestGateway.misbehaving(collect=faults):
            for sweep in chance.choices(SWEEPS, k=6):
                sweep(moment + chance.choice(WRONG))
    settle()


def settle():
    """The right clocks again, for a few days: what waits for a late look gets it."""
    for days in range(3):
        for sweep in SWEEPS:
            sweep(END + timedelta(days=days))


def rows():
    of = "organization__slug"
    return {
        "charges": sorted(Charge.objects.values_list(of, "rental_id", "period_start", "amount"), key=str),
        "invoices": sorted(Invoice.objects.values_list(of, "kind", "billing_date", "total", "paid")),
        "payments": sorted(Payment.objects.values_list(of, "amount", "captured", "state")),
        "at the gateway": sorted(TestAuthorisation.objects.values_list("state", "captured")),
        "standings": sorted(Standing.objects.values_list(of, "balance", "closed_through")),
        "rungs": list(Dunning.objects.values_list("steps__rung")),
    }  # fmt: skip


def check(seed):
    expected = undisturbed()
    assert len(expected["invoices"]) == 2 * len(BILLING_DATES)
    disturbed(random.Random(seed))
    found = rows()
    for part in expected:
        assert found[part] == expected[part], part
    assert check_books(at=END + timedelta(days=3)) == []


@pytest.mark.parametrize("seed", range(2))
def test_wrong_clocks_change_no_invoice_and_no_payment(payers, seed):
    check(seed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(2, 100))
def test_wrong_clocks_change_nothing_however_they_fall(payers, seed):
    check(seed)
