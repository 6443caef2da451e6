from datetime import timedelta

import pytest

from chirp_dashboard.billing.models import Price
from chirp_dashboard.numbers.models import Hold
from chirp_dashboard.numbers.models.holds import HOLD_FOR, HOLDS_PER_PERSON, TooManyHolds
from chirp_dashboard.organizations.models import Organization

from .conftest import NOON, in_stock


def hold(organization, person, *rows, at=NOON):
    return Hold.objects.hold(organization, person, [row.key for row in rows], at=at)


def test_hold_lasts_fifteen_minutes_at_the_price_of_the_moment(stock, organization, owner):
    (held,) = hold(organization, owner, stock[0]).held
    assert held.held_until == NOON + timedelta(minutes=15)
    assert (held.purchase_fee, held.rental) == (100, 100)
    assert held.city == "New York"


def test_number_held_by_another_organization_is_refused_without_saying_who(
    stock, organization, owner, rival, rival_owner
):
    hold(rival, rival_owner, stock[0])
    result = hold(organization, owner, stock[0], stock[1])
    assert result.refused == {stock[0].key: "just taken by somebody else"}
    assert [each.number for each in result.held] == [stock[1].number]


def test_number_held_by_a_colleague_is_refused_with_the_name(stock, organization, owner, admin):
    hold(organization, admin, stock[0])
    result = hold(organization, owner, stock[0])
    assert result.refused == {stock[0].key: f"held by {admin}"}


def test_lapsed_hold_is_taken_over(stock, organization, owner, rival, rival_owner):
    hold(rival, rival_owner, stock[0])
    (held,) = hold(organization, owner, stock[0], at=NOON + HOLD_FOR).held
    assert held.organization == organization
    assert Hold.objects.count() == 1


def test_holding_again_does_not_lengthen_a_live_hold(stock, organization, owner):
    (first,) = hold(organization, owner, stock[0]).held
    (again,) = hold(organization, owner, stock[0], at=NOON + timedelta(minutes=5)).held
    assert again.held_until == first.held_until


def test_own_lapsed_hold_is_held_again_at_todays_price(stock, organization, owner):
    hold(organization, owner, stock[0])
    Price.objects.update(rental=300)
    (again,) = hold(organization, owner, stock[0], at=NOON + HOLD_FOR).held
    assert (again.rental, again.held_until) == (300, NOON + 2 * HOLD_FOR)


def test_hold_can_be_extended_once(stock, organization, owner):
    hold(organization, owner, stock[0])
    at = NOON + timedelta(minutes=10)
    assert Hold.objects.extend(organization, owner, at=at) == 1
    assert Hold.objects.get().held_until == at + HOLD_FOR
    assert Hold.objects.extend(organization, owner, at=at) == 0


def test_lapsed_hold_cannot_be_extended(stock, organization, owner):
    hold(organization, owner, stock[0])
    assert Hold.objects.extend(organization, owner, at=NOON + HOLD_FOR) == 0


def test_letting_go_touches_only_ones_own_holds(stock, organization, owner, admin):
    hold(organization, admin, stock[0])
    hold(organization, owner, stock[1])
    assert Hold.objects.let_go(organization, owner, [row.key for row in stock]) == 1
    assert Hold.objects.get().person == admin


def test_sold_number_cannot_be_held(number, stock, rival, rival_owner):
    result = hold(rival, rival_owner, stock[0])
    assert result.refused == {stock[0].key: "just sold"}


def test_number_without_a_price_cannot_be_held(stock, organization, owner):
    Price.objects.all().delete()
    assert list(hold(organization, owner, stock[0]).refused.values()) == ["no longer for sale"]


def test_unknown_number_cannot_be_held(prices, organization, owner):
    result = Hold.objects.hold(organization, owner, [("US", "+19995550000")], at=NOON)
    assert not result.held


def test_a_person_holds_twenty_numbers_at_a_time(prices, organization, owner, admin):
    rows = [in_stock(f"+1212555{n:04}") for n in range(HOLDS_PER_PERSON + 1)]
    hold(organization, owner, *rows[:HOLDS_PER_PERSON])
    with pytest.raises(TooManyHolds, match="20 numbers"):
        hold(organization, owner, rows[-1])
    assert hold(organization, admin, rows[-1]).held
    assert hold(organization, owner, rows[0]).held, "a number held already takes no more room"


def test_an_organization_holds_fifty_numbers_at_a_time(
    prices, organization, owner, admin, developer
):
    rows = [in_stock(f"+1212555{n:04}") for n in range(51)]
    hold(organization, owner, *rows[:20])
    hold(organization, admin, *rows[20:40])
    hold(organization, developer, *rows[40:50])
    with pytest.raises(TooManyHolds, match="50 numbers"):
        hold(organization, developer, rows[50])


def test_holds_are_forgotten_a_day_after_they_lapsed(stock, organization, owner):
    hold(organization, owner, stock[0])
    assert Hold.objects.forget_lapsed(at=NOON + timedelta(hours=23)) == 0
    assert Hold.objects.forget_lapsed(at=NOON + timedelta(hours=25)) == 1


def test_organization_of_another_currency_sees_no_price(stock, owner, db):
    euro = Organization.objects.create(name="Euro", slug="euro", currency="EUR")
    assert hold(euro, owner, stock[0]).refused == {stock[0].key: "no longer for sale"}
