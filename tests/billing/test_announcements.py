"""What an operator asked to be announced is worked by the worker, once, however often it is killed."""

from datetime import date, timedelta
from functools import partial

import pytest
from django.db import ProgrammingError, transaction

from chirp_dashboard.billing.models import PriceAnnouncement, PriceChange, RentalPrice, Standing
from chirp_dashboard.billing.models.price_changes import PriceChangeRefused
from chirp_dashboard.organizations.models import Mail

from ..numbers.test_at_once import Meanwhile
from .conftest import JANUARY, NOON, rent, run

EARLIEST = NOON + timedelta(days=2)  # 25 November: 1 January is 37 days away
TOO_LATE = NOON + timedelta(days=10)  # 3 December


class Killed(BaseException):
    pass


@pytest.fixture
def rented(organization, rival):
    """Two rentals of Northwind and one of Rival at 1.00."""
    rent(organization, on=date(2026, 11, 23), numbers=2)
    rent(rival, on=date(2026, 11, 23))


@pytest.fixture
def asked(rented, operator):
    return ask(by=operator)


def ask(organization=None, *, by, at=NOON, **facts):
    facts = {
        "country": "US", "number_type": "local", "interval_months": 1, "amount": 150,
        "currency": "USD", "applies_from": JANUARY, "reason": "Carriers raised theirs",
    } | facts  # fmt: skip
    return PriceAnnouncement.objects.ask(organization, **facts, by=by, at=at)


def work(*, at=NOON):
    return PriceAnnouncement.objects.work_due(at=at)


def the(announcement):
    return PriceAnnouncement.objects.get(pk=announcement.pk)


def assert_announced_once():
    assert PriceChange.objects.count() == 2
    assert RentalPrice.objects.count() == 3
    assert Mail.objects.filter(kind="price_change_announced").count() == 2


def test_asking_announces_nothing_yet(asked):
    assert (asked.organizations, asked.rentals, asked.done) == (2, 3, 0)
    assert not PriceChange.objects.exists()
    assert not Mail.objects.filter(kind="price_change_announced").exists()


def test_the_worker_announces_it_to_everyone_once(asked):
    assert work() == 2
    assert work() == 0
    announcement = the(asked)
    assert announcement.is_finished
    assert (announcement.done, announcement.changed, announcement.refusals) == (2, 3, [])
    assert_announced_once()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("to", ["both", "the other"])
def test_two_workers_at_once_announce_it_to_everyone_once(asked, organization, rival, to):
    go_on = the(asked).work if to == "both" else partial(the(asked)._announce_to, rival)
    with transaction.atomic():
        the(asked)._announce_to(organization, at=NOON)
        other = Meanwhile(lambda: go_on(at=NOON))
        assert other.waits()
    other.ends()
    announcement = the(asked)
    assert announcement.is_finished
    assert (announcement.changed, announcement.refusals) == (3, [])
    assert_announced_once()


def test_a_killed_worker_is_gone_on_with(asked, organization, monkeypatch):
    tell = PriceChange.tell

    def killed_at_the_second(self, *args, **named):
        if PriceChange.objects.count() == 2:
            raise Killed
        tell(self, *args, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PriceChange, "tell", killed_at_the_second)
        with pytest.raises(Killed):
            work()
    assert (the(asked).done, the(asked).is_finished) == (1, False)
    assert PriceChange.objects.get().organization == organization
    assert work() == 1
    assert_announced_once()


def test_two_workers_at_once_announce_it_once(asked):
    both = [the(asked), the(asked)]
    assert [each.work(at=NOON) for each in both] == [2, 0]
    assert_announced_once()


def test_one_that_fails_keeps_no_other_waiting(asked, rival, monkeypatch):
    lock = Standing.lock.__func__

    def broken(cls, organization):
        if organization.slug == "northwind":
            raise RuntimeError("no")
        return lock(cls, organization)

    with monkeypatch.context() as patch:
        patch.setattr(Standing, "lock", classmethod(broken))
        with pytest.raises(ExceptionGroup):
            work()
    assert PriceChange.objects.get().organization == rival
    assert work() == 1
    assert_announced_once()


def test_nobody_is_told_later_than_promised(asked, rival):
    assert work(at=TOO_LATE) == 2
    announcement = the(asked)
    assert announcement.is_finished
    assert [each["organization"] for each in announcement.refusals] == ["northwind", "rival"]
    assert "A change is announced 30 days before" in announcement.refusals[0]["reason"]
    assert not PriceChange.objects.exists()


def test_midnight_between_question_and_worker_does_not_matter(rented, organization, operator):
    just_before = NOON.replace(day=24, hour=4, minute=59)  # 23 November in New York, for a minute
    ask(by=operator, at=just_before, applies_from=date(2026, 12, 23))
    assert work(at=just_before + timedelta(minutes=2)) == 2
    assert_announced_once()


def test_who_was_billed_meanwhile_is_named_and_the_others_are_told(asked, organization, rival):
    with transaction.atomic():
        Standing.lock(organization).close(JANUARY)
    work()
    assert PriceChange.objects.get().organization == rival
    assert "Northwind has been billed for 1 Jan 2027" in the(asked).refusals[0]["reason"]


@pytest.mark.parametrize("wrong", [{"reason": " "}, {"amount": -1}, {"amount": 100}])
def test_what_makes_no_sense_is_not_written_down(rented, operator, wrong):
    with pytest.raises(PriceChangeRefused):
        ask(by=operator, **wrong)
    assert not PriceAnnouncement.objects.exists()


def test_rentals_that_started_after_the_question_are_left_alone(asked, organization):
    late = rent(organization, on=date(2026, 11, 24))[0]
    work(at=EARLIEST)
    assert not late.prices.exists()
    run(JANUARY)
    assert late.charges.order_by("period_start").last().amount == 100


def test_what_was_asked_for_stays_as_written(asked):
    with pytest.raises(ProgrammingError, match="Cannot update"):
        PriceAnnouncement.objects.update(amount=1)
