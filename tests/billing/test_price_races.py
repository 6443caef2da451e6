"""Announcing beside another announcement, a run or a withdrawal: nobody is charged two prices."""

import contextlib
import threading
from datetime import date

import pytest
from django.db import IntegrityError, connection

from chirp_dashboard.billing.models import Charge, PriceChange, RentalPrice, Standing
from chirp_dashboard.billing.models import price_changes as price_changes_module
from chirp_dashboard.billing.models import runs as runs_module
from chirp_dashboard.billing.models.price_changes import PriceChangeQuerySet, PriceChangeRefused
from chirp_dashboard.numbers.books import check_books

from .conftest import JANUARY, NOON, OPERATOR, noon, rent, run

pytestmark = pytest.mark.django_db(transaction=True)
PATIENCE = 20  # seconds until a thread that should have come is given up
A_MOMENT = 1.0  # seconds in which a thread that is not kept out does come


@pytest.fixture
def rentals(organization, monkeypatch):
    """Six rentals at 1.00, charged in batches of two."""
    monkeypatch.setattr(runs_module, "BATCH", 2)
    return rent(organization, on=date(2026, 11, 23), numbers=6)


@pytest.fixture
def unlocked(monkeypatch):
    """Announcements that do not hold the organization's lock."""

    class Unlocked:
        objects = Standing.objects
        lock = staticmethod(lambda organization: None)

    monkeypatch.setattr(price_changes_module, "Standing", Unlocked)


class Pause:
    """Stands in for a function: says that it was reached, and goes on when it may."""

    def __init__(self, monkeypatch, owner, name):
        self.reached, self.may_go = threading.Event(), threading.Event()
        original = getattr(owner, name)

        def paused(*args, **options):
            if not self.reached.is_set():
                self.reached.set()
                assert self.may_go.wait(PATIENCE)
            return original(*args, **options)

        monkeypatch.setattr(owner, name, paused)


class Thread(threading.Thread):
    """Remembers what its work returned or raised, and leaves the database."""

    def __init__(self, work):
        super().__init__()
        self.work, self.result = work, None
        self.start()

    def run(self):
        try:
            self.result = self.work()
        except (PriceChangeRefused, IntegrityError) as error:
            self.result = error
        finally:
            connection.close()


def announce(organization, operator, amount=150):
    return PriceChange.objects.announce(
        organization, country="US", number_type="local", interval_months=1, amount=amount,
        currency="USD", applies_from=JANUARY, reason="Carriers raised theirs", by=operator, at=NOON,
    )  # fmt: skip


def charged():
    return sorted(Charge.objects.filter(period_start=JANUARY).values_list("amount", flat=True))


# Two announcements ----------------------------------------------------------------------------


def announce_twice(monkeypatch, organization, operator):
    """Two prices for one day, as close together as they get; what each ended with."""
    both = threading.Barrier(2)
    take_id = price_changes_module.take_id

    def meet(model):
        with contextlib.suppress(threading.BrokenBarrierError):  # the other one is kept out
            both.wait(A_MOMENT)
        return take_id(model)

    monkeypatch.setattr(price_changes_module, "take_id", meet)
    threads = [
        Thread(lambda amount=amount: announce(organization, operator, amount))
        for amount in (150, 160)
    ]
    for thread in threads:
        thread.join(PATIENCE)
    return [thread.result for thread in threads]


def test_of_two_announcements_for_a_day_one_is_made(monkeypatch, organization, operator, rentals):
    results = announce_twice(monkeypatch, organization, operator)
    [refusal] = [result for result in results if isinstance(result, Exception)]
    assert isinstance(refusal, PriceChangeRefused)
    assert "Withdraw that first" in str(refusal)
    assert PriceChange.objects.count() == 1
    assert RentalPrice.objects.count() == 6


def test_control_without_the_lock_the_second_one_breaks(
    monkeypatch, organization, operator, rentals, unlocked
):
    results = announce_twice(monkeypatch, organization, operator)
    assert any(isinstance(result, IntegrityError) for result in results)


# Beside a run ---------------------------------------------------------------------------------


def run_beside_announcement(monkeypatch, organization, operator):
    """The announcement is about to be committed when a run comes."""
    pause = Pause(monkeypatch, price_changes_module.PriceChange, "tell")
    announcing = Thread(lambda: announce(organization, operator))
    assert pause.reached.wait(PATIENCE)
    running = Thread(lambda: run(JANUARY))
    running.join(A_MOMENT)
    pause.may_go.set()
    for thread in (announcing, running):
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_a_run_waits_for_an_announcement_and_charges_its_price(
    monkeypatch, organization, operator, rentals
):
    run_beside_announcement(monkeypatch, organization, operator)
    assert charged() == [150] * 6
    assert check_books(at=noon(JANUARY)) == []


def test_control_without_the_lock_a_run_overtakes_the_announcement(
    monkeypatch, organization, operator, rentals, unlocked
):
    run_beside_announcement(monkeypatch, organization, operator)
    assert charged() == [100] * 6
    assert len(check_books(at=noon(JANUARY))) == 6


def announce_between_batches(monkeypatch, organization, operator):
    """A run whose clock was wrong has charged two of six when the announcement comes."""
    run(date(2026, 12, 1))
    pause = Pause(monkeypatch, runs_module.Collection, "count")
    running = Thread(lambda: run(JANUARY))
    assert pause.reached.wait(PATIENCE)
    assert charged() == [100, 100]
    try:
        announce(organization, operator)
    finally:
        pause.may_go.set()
        running.join(PATIENCE)


def test_a_period_that_is_being_charged_is_not_announced(
    monkeypatch, organization, operator, rentals
):
    with pytest.raises(PriceChangeRefused, match="has been billed for 1 Jan 2027"):
        announce_between_batches(monkeypatch, organization, operator)
    assert charged() == [100] * 6
    assert check_books(at=noon(JANUARY)) == []


def test_control_without_the_check_one_period_has_two_prices(
    monkeypatch, organization, operator, rentals
):
    monkeypatch.setattr(PriceChangeQuerySet, "check_not_billed", lambda *args: None)
    announce_between_batches(monkeypatch, organization, operator)
    assert charged() == [100, 100, 150, 150, 150, 150]
    assert check_books(at=noon(JANUARY)) != []


# Beside a withdrawal --------------------------------------------------------------------------


def test_a_change_withdrawn_twice_at_once_is_withdrawn_once(
    monkeypatch, organization, operator, rentals
):
    change = announce(organization, operator)[0]
    copies = [PriceChange.objects.get(pk=change.pk) for _ in range(2)]
    threads = [
        Thread(lambda copy=copy: copy.withdraw(reason="A slip", by=OPERATOR, at=NOON))
        for copy in copies
    ]
    for thread in threads:
        thread.join(PATIENCE)
    refusals = [thread.result for thread in threads if thread.result]
    assert [str(refusal) for refusal in refusals] == ["It was withdrawn already."]
    run(JANUARY)
    assert charged() == [100] * 6
