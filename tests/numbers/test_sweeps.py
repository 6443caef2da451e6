from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.numbers import tasks
from chirp_dashboard.numbers.models import Hold, Order, PhoneNumber

from .conftest import NOON, quoted


@pytest.fixture
def at():
    """Run a sweep as if it were another moment."""

    def at(moment, sweep):
        with time_machine.travel(moment, tick=False):
            sweep(timestamp=int(moment.timestamp()))

    return at


def test_releases_complete_where_the_organization_is(number, owner, at):
    number.release(when="period_end", by=owner, at=NOON)
    midnight = datetime(2026, 12, 1, 5, tzinfo=UTC)
    at(midnight - timedelta(seconds=1), tasks.complete_releases)
    assert not PhoneNumber.objects.get().is_released
    at(midnight, tasks.complete_releases)
    assert PhoneNumber.objects.get().is_released


def test_a_sweep_that_comes_weeks_late_does_the_same(number, owner, at):
    number.release(when="period_end", by=owner, at=NOON)
    at(NOON + timedelta(days=60), tasks.complete_releases)
    assert PhoneNumber.objects.get().is_released


def test_open_orders_are_advanced(stock, organization, owner, monkeypatch, at):
    organization.gateway = "test"
    organization.save()

    class Crash(BaseException):
        pass

    def crash(payment):
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(GATEWAYS["test"], "authorise", crash)
        with pytest.raises(Crash):
            Order.objects.place(
                organization,
                person=owner,
                numbers=[stock[0].key],
                expected_total=sum(quoted(organization, stock[:1], at=NOON)),
                idempotency_key="key",
                at=NOON,
            )
    at(NOON + timedelta(seconds=90), tasks.advance_orders)
    assert Order.objects.get().state == "completed"


def test_lapsed_holds_are_forgotten_after_a_day(stock, organization, owner, at):
    Hold.objects.hold(organization, owner, [stock[0].key], at=NOON)
    at(NOON + timedelta(days=2), tasks.forget_lapsed_holds)
    assert not Hold.objects.exists()
