from datetime import UTC, datetime, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.numbers import tasks
from chirp_dashboard.numbers.carriers import StockCarrier
from chirp_dashboard.numbers.models import Hold, Order, PhoneNumber

from .conftest import NOON, quoted


@pytest.fixture
def at():
    """Run a sweep as if it were another moment."""

    def at(moment, sweep):
        with time_machine.travel(moment, tick=False):
            sweep(timestamp=int(moment.timestamp()))

    return at


def place(organization, person, row):
    return Order.objects.place(
        organization,
        person=person,
        numbers=[row.key],
        expected_total=sum(quoted(organization, [row], at=NOON)),
        idempotency_key=f"key-{row.number}",
        at=NOON,
    )


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


def test_release_that_fails_keeps_no_other_from_completing(purchase, stock, owner, monkeypatch):
    for number in purchase(*stock[:3]):
        number.release(when="period_end", by=owner, at=NOON)
    give_back = StockCarrier.release

    def fail(carrier, number, *, at):
        if number.number == stock[0].number:
            raise RuntimeError
        give_back(carrier, number, at=at)

    monkeypatch.setattr(StockCarrier, "release", fail)
    with pytest.raises(ExceptionGroup, match="could not be released"):
        PhoneNumber.objects.complete_releases(at=NOON + timedelta(days=30))
    kept = PhoneNumber.objects.live().get()
    assert kept.number == stock[0].number


def test_order_that_fails_keeps_no_other_from_advancing(stock, organization, owner, monkeypatch):
    organization.gateway = "test"
    organization.save()
    authorise, broken = GATEWAYS["test"].authorise, {row.number for row in stock[:2]}

    def fail(payment):
        if payment.order.lines.get().number in broken:
            raise RuntimeError
        return authorise(payment)

    monkeypatch.setattr(GATEWAYS["test"], "authorise", fail)
    for row in stock[:2]:
        with pytest.raises(RuntimeError):
            place(organization, owner, row)
    broken.remove(stock[1].number)
    with pytest.raises(ExceptionGroup, match="could not be advanced"):
        Order.objects.advance_due(at=NOON + timedelta(hours=1))
    assert [order.state for order in Order.objects.order_by("id")] == ["placed", "completed"]


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
            place(organization, owner, stock[0])
    at(NOON + timedelta(seconds=90), tasks.advance_orders)
    assert Order.objects.get().state == "completed"


def test_lapsed_holds_are_forgotten_after_a_day(stock, organization, owner, at):
    Hold.objects.hold(organization, owner, [stock[0].key], at=NOON)
    at(NOON + timedelta(days=2), tasks.forget_lapsed_holds)
    assert not Hold.objects.exists()
