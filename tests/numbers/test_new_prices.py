"""Once its day has come, lists show an announced price; a release and its undo keep to it."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.models import PriceChange, Rental, RentalPrice
from chirp_dashboard.numbers import repricing, tasks
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Totals
from chirp_dashboard.numbers.repricing import show_new_prices

from .conftest import NOON

JANUARY = date(2027, 1, 1)
NEW_YEAR = datetime(2027, 1, 1, 6, tzinfo=UTC)  # one o'clock in New York


@pytest.fixture
def announce(organization, operator):
    def announce(amount=150, applies_from=JANUARY, at=NOON):
        return PriceChange.objects.announce(
            organization, country="US", number_type="local", interval_months=1, amount=amount,
            currency="USD", applies_from=applies_from, reason="Carriers raised theirs",
            by=operator, at=at,
        )[0]  # fmt: skip

    return announce


def shown(number):
    number.refresh_from_db()
    return number.rental_amount, Totals.objects.get().monthly


def in_order(at):
    return [str(row) for row in check_books(at=at)]


def test_a_new_price_is_shown_from_its_day_on(number, announce):
    change = announce()
    assert show_new_prices(at=NEW_YEAR - timedelta(hours=2)) == 0  # still December in New York
    assert shown(number) == (100, 100)
    assert show_new_prices(at=NEW_YEAR) == 1
    assert shown(number) == (150, 150)
    change.refresh_from_db()
    assert change.applied_at == NEW_YEAR


def test_the_books_agree_before_during_and_after(purchase, stock, announce, monkeypatch):
    monkeypatch.setattr(repricing, "BATCH", 2)
    purchase(*stock)
    change = announce()
    for day in (date(2026, 12, 1), JANUARY):
        Rental.objects.charge_due(on=day, at=NEW_YEAR)
    assert in_order(NEW_YEAR) == []
    assert repricing.show_batch(change, after=0) is not None  # and then it is killed
    assert in_order(NEW_YEAR) == []
    show_new_prices(at=NEW_YEAR)
    assert in_order(NEW_YEAR) == []
    assert Totals.objects.get().monthly == 750


def test_shown_twice_it_changes_once(number, announce):
    change = announce()
    show_new_prices(at=NEW_YEAR)
    assert show_new_prices(at=NEW_YEAR + timedelta(hours=1)) == 0
    assert repricing.show(change, at=NEW_YEAR) is False  # a worker that read it before
    assert shown(number) == (150, 150)


def test_a_withdrawn_change_is_never_shown(number, announce, operator):
    change = announce()
    change.withdraw(reason="A slip", by=operator, at=NOON)
    assert show_new_prices(at=NEW_YEAR) == 0
    assert repricing.show(change, at=NEW_YEAR) is False
    assert shown(number) == (100, 100)


def test_numbers_purchased_after_the_announcement_are_not_touched(purchase, stock, announce):
    before = purchase(stock[0])[0]
    announce()
    later = purchase(stock[1], at=NOON + timedelta(minutes=1))[0]
    show_new_prices(at=NEW_YEAR)
    assert shown(before) == (150, 250)
    assert shown(later) == (100, 250)


def test_a_number_given_back_before_keeps_the_price_it_had(number, announce, owner):
    announce()
    number.release(when="now", by=owner, at=NOON + timedelta(days=1))
    show_new_prices(at=NEW_YEAR)
    assert shown(number) == (100, 0)
    assert in_order(NOON + timedelta(days=1)) == []


def test_a_number_given_back_on_the_day_owes_its_period_at_the_new_price(number, announce, owner):
    announce()
    number.release(when="now", by=owner, at=NEW_YEAR)
    show_new_prices(at=NEW_YEAR)
    assert shown(number) == (150, 0)
    assert number.charges.filter(period_start=JANUARY).get().amount == 150
    Rental.objects.charge_due(on=JANUARY, at=NEW_YEAR)
    assert in_order(NEW_YEAR) == []


def test_an_undo_before_the_day_takes_the_announcement_along(number, announce, owner):
    announce()
    number.release(when="now", by=owner, at=NOON + timedelta(days=1))
    number.undo_release(by=owner, at=NOON + timedelta(days=2))
    assert shown(number) == (100, 100)
    assert number.open_rental().amount == 100
    assert number.open_rental().price_for(JANUARY) == 150
    show_new_prices(at=NEW_YEAR)
    assert shown(number) == (150, 150)
    for day in (date(2026, 12, 1), JANUARY):
        Rental.objects.charge_due(on=day, at=NEW_YEAR)
    assert in_order(NEW_YEAR) == []


def test_an_undo_after_the_day_is_at_the_announced_price(number, announce, owner):
    announce()
    number.release(when="now", by=owner, at=datetime(2026, 12, 28, 17, tzinfo=UTC))
    show_new_prices(at=NEW_YEAR)
    back = NEW_YEAR + timedelta(days=1)
    assert number.preview_undo(on=date(2027, 1, 2)).cost == 145  # 30 of 31 days of 1.50
    number.undo_release(by=owner, at=back, expected_cost=145)
    assert shown(number) == (150, 150)
    assert RentalPrice.objects.count() == 1
    Rental.objects.charge_due(on=JANUARY, at=back)
    assert in_order(back) == []


def test_the_next_change_starts_from_the_one_before(number, announce):
    announce()
    show_new_prices(at=NEW_YEAR)
    march = date(2027, 3, 1)
    second = announce(amount=180, applies_from=march, at=NEW_YEAR + timedelta(days=3))
    assert (second.before, second.after) == (150, 180)
    show_new_prices(at=datetime(2027, 3, 1, 12, tzinfo=UTC))
    assert shown(number) == (180, 180)


def test_a_worker_that_was_away_shows_them_in_order(number, announce):
    announce(amount=180, applies_from=date(2027, 2, 1))
    announce()
    assert show_new_prices(at=datetime(2027, 3, 1, 12, tzinfo=UTC)) == 2
    assert shown(number) == (180, 180)


def test_the_sweep_shows_what_is_due(number, announce):
    announce()
    with time_machine.travel(NEW_YEAR, tick=False):
        tasks.show_prices(timestamp=0)
    assert shown(number) == (150, 150)


def test_the_page_of_a_number_says_what_was_announced(number, announce, viewer_client, operator):
    path = f"/o/northwind/numbers/{number.public_id}/"
    with time_machine.travel(NOON, tick=False):
        change = announce()
        page = viewer_client.get(path).content.decode()
        assert "$1.00 a month<br>$1.50 a month from 1 Jan 2027" in page
        change.withdraw(reason="A slip", by=operator, at=NOON)
        assert "from 1 Jan 2027" not in viewer_client.get(path).content.decode()
