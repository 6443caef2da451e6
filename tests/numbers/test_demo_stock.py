"""The demo's stock: numbers nobody has, everywhere, able to do different things."""

import time
from collections import namedtuple

import phonenumbers
import pytest

from chirp_dashboard.numbers.area_codes import TOLL_FREE, area_codes
from chirp_dashboard.numbers.models import InventoryNumber
from chirp_dashboard.numbers.stock import demo_stock, load_demo_stock

Row = namedtuple("Row", InventoryNumber.FACTS)


@pytest.fixture(scope="module")
def stock():
    """What is loaded, by type."""
    rows = {"local": [], "tollfree": [], "shortcode": []}
    for row in map(Row._make, demo_stock()):
        rows[row.number_type].append(row)
    return rows


def test_every_area_code_has_its_hundred_fictional_numbers(stock):
    assert [row.number for row in stock["local"]] == [
        f"+1{code}55501{line:02}" for code in area_codes() for line in range(100)
    ]


def test_local_number_is_where_its_area_code_is(stock):
    for row in stock["local"]:
        place = area_codes()[row.area_code]
        assert row.number.startswith(f"+1{place.code}")
        assert (row.country, row.region, row.city) == (place.country, place.region, place.city)


def test_every_toll_free_code_is_sold_under_the_united_states(stock):
    assert [row.number for row in stock["tollfree"]] == [
        f"+1{code}55501{line:02}" for code in TOLL_FREE for line in range(100)
    ]
    assert {(row.country, row.region, row.city) for row in stock["tollfree"]} == {("US", "", "")}


def test_there_are_short_codes_of_five_and_six_digits(stock):
    assert {len(row.number) for row in stock["shortcode"]} == {5, 6}
    assert len({row.number for row in stock["shortcode"]}) == len(stock["shortcode"]) == 200
    assert {row.country for row in stock["shortcode"]} == {"US"}


def test_every_long_number_is_valid(stock):
    for row in stock["local"] + stock["tollfree"]:
        assert phonenumbers.is_valid_number(phonenumbers.parse(row.number))


def test_capabilities_vary_so_that_filters_mean_something(stock):
    def found(number_type):
        return {tuple(row.capabilities) for row in stock[number_type]}

    assert found("local") == {("SMS", "MMS", "Voice"), ("SMS", "Voice"), ("Voice",)}
    assert found("tollfree") == {("SMS", "MMS", "Voice"), ("SMS", "Voice")}
    assert found("shortcode") == {("SMS", "MMS"), ("SMS",)}


@pytest.mark.django_db
def test_all_of_it_is_for_sale_within_seconds(stock):
    started = time.monotonic()
    count = load_demo_stock()
    assert time.monotonic() - started < 30, "a machine many times too slow is a fault in loading"
    rows = InventoryNumber.objects.filter(status="for_sale", not_for_sale_until=None)
    assert count == rows.count() == sum(len(kind) for kind in stock.values())
    first = rows.get(number=stock["local"][0].number)
    assert first.facts == stock["local"][0]._asdict()
