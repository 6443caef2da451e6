"""Search: what matches, what is hidden, how a page follows a page, and what to try instead."""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest

from chirp_dashboard.billing.models import Price
from chirp_dashboard.numbers.models import Hold, InventoryNumber
from chirp_dashboard.numbers.search import Criteria, Position, nearest, stock_offers, suggestions

NOON = datetime(2026, 11, 23, 17, tzinfo=UTC)


def put(*numbers, **facts):
    """Put local New York numbers into stock, unless `facts` say otherwise."""
    facts = {
        "country": "US",
        "number_type": "local",
        "region": "NY",
        "city": "New York",
        "capabilities": ["SMS", "MMS", "Voice"],
    } | facts
    return InventoryNumber.objects.bulk_create(
        InventoryNumber(number=number, **{"area_code": number[2:5]} | facts) for number in numbers
    )


def put_toll_free(*numbers):
    return put(*numbers, number_type="tollfree", region="", city="")


@pytest.fixture
def search(organization, prices):
    """`search(pattern="7777")`: the numbers found, in order."""

    def search(number_type="local", *, at=NOON, **criteria):
        page = stock_offers(Criteria(number_type, **criteria), organization, at=at)
        return [offer.number for offer in page.offers]

    return search


def held(row, *, person, organization, until=NOON + timedelta(minutes=15)):
    return Hold.objects.create(
        **row.facts,
        organization=organization,
        person=person,
        held_at=until - timedelta(minutes=15),
        held_until=until,
        purchase_fee=100,
        rental=100,
        currency="USD",
    )


# Digits and letters ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("typed", "digits"),
    [
        ("FLOWERS", "3569377"),
        ("flowers", "3569377"),
        ("555-CAT", "555228"),
        ("(212) 555.01", "21255501"),
        ("+1 212", "212"),
        ("1-800-356-9377", "8003569377"),
        ("1212", "1212"),
        ("abcdefghijklmnopqrstuvwxyz", "22233344455566677778889999"),
    ],
)
def test_letters_are_keys_and_punctuation_does_not_count(typed, digits):
    assert Criteria("local", pattern=typed).digits == digits


def test_short_codes_have_no_country_code_to_drop():
    assert Criteria("shortcode", pattern="+1 234").digits == "1234"


def test_starting_with_begins_at_the_area_code(search):
    put("+12125550142", "+16462125550")
    assert search(pattern="212", position=Position.STARTS_WITH) == ["+12125550142"]


def test_starting_with_also_means_after_the_area_code_that_was_chosen(search):
    put("+12125550142", "+12127770142")
    found = search(area_code="212", pattern="555", position=Position.STARTS_WITH)
    assert found == ["+12125550142"]
    assert search(area_code="212", pattern="212555", position=Position.STARTS_WITH) == found
    assert search(pattern="555", position=Position.STARTS_WITH) == []


def test_toll_free_words_are_looked_for_after_the_prefix(search):
    put_toll_free("+18003569377", "+18883569377", "+18005556937")
    found = search("tollfree", pattern="FLOWERS", position=Position.STARTS_WITH)
    assert found == ["+18003569377", "+18883569377"]
    found = search("tollfree", pattern="1-800-FLOWERS", position=Position.STARTS_WITH)
    assert found == ["+18003569377"]


def test_containing_and_ending_with(search):
    put("+12127777142", "+12125557777", "+12125550142")
    assert search(pattern="7777") == ["+12125557777", "+12127777142"]
    assert search(pattern="7777", position=Position.ENDS_WITH) == ["+12125557777"]


def test_the_country_code_is_no_part_of_what_is_searched(search):
    put("+12125550142", "+16461210000")
    assert search(pattern="121") == ["+16461210000"]


def test_wildcards_of_the_database_mean_nothing(search):
    put("+12125550142")
    assert search(pattern="%") == search(pattern="_") == ["+12125550142"]  # no digits: no filter


# The other filters ----------------------------------------------------------------------------


def test_type_and_country_are_always_asked_for(search, prices):
    put("+12125550142")
    put("+14165550142", country="CA", region="ON", city="Toronto")
    put_toll_free("+18005550142")
    assert search() == ["+12125550142"]
    assert search("tollfree") == ["+18005550142"]


def test_region_city_area_code_and_capabilities(search):
    put("+12125550142")
    put("+16465550142", capabilities=["Voice"])
    put("+13055550142", region="FL", city="Miami")
    assert search(region="FL") == search(city="Miami") == ["+13055550142"]
    assert search(area_code="646") == ["+16465550142"]
    assert search(region="NY", capabilities=("SMS",)) == ["+12125550142"]
    assert search(capabilities=("SMS", "Voice")) == ["+12125550142", "+13055550142"]


# What is not shown ----------------------------------------------------------------------------


def test_numbers_without_a_price_are_not_for_sale(search):
    put("+14165550142", country="CA", region="ON", city="Toronto")
    assert search(country="CA") == []


def test_prices_of_another_currency_or_of_tomorrow_do_not_count(search, organization):
    put("+14165550142", country="CA", region="ON", city="Toronto")
    for facts in ({"currency": "CAD"}, {"valid_from": date(2026, 11, 24)}):
        row = {"currency": "USD", "valid_from": date(2026, 1, 1)} | facts
        Price.objects.create(country="CA", number_type="local", purchase_fee=1, rental=1, **row)
    assert search(country="CA") == []


def test_the_organization_s_own_price_wins(organization, rival, prices):
    put("+12125550142")
    own = {"country": "US", "number_type": "local", "rental": 80, "valid_from": date(2026, 1, 1)}
    Price.objects.create(organization=organization, purchase_fee=0, **own)
    for customer, fee in ((organization, 0), (rival, 100)):
        page = stock_offers(Criteria("local"), customer, at=NOON)
        assert page.offers[0].purchase_fee == fee


def test_sold_claimed_withdrawn_and_kept_aside_numbers_are_not_shown(search):
    rows = put(*(f"+1212555014{digit}" for digit in range(6)))
    for row, status in zip(rows, ("sold", "claimed", "withdrawn"), strict=False):
        InventoryNumber.objects.filter(pk=row.pk).update(status=status)
    aside = InventoryNumber.objects.filter(number="+12125550143")
    aside.update(not_for_sale_until=NOON + timedelta(seconds=1))
    assert search() == ["+12125550144", "+12125550145"]
    assert search(at=NOON + timedelta(seconds=1)) == [
        "+12125550143",
        "+12125550144",
        "+12125550145",
    ]


def test_what_another_organization_holds_is_hidden_until_the_hold_lapses(
    search, rival, rival_owner
):
    row, _ = put("+12125550142", "+12125550143")
    held(row, person=rival_owner, organization=rival)
    assert search() == ["+12125550143"]
    assert search(at=NOON + timedelta(minutes=15)) == ["+12125550142", "+12125550143"]


def test_colleagues_see_who_holds_a_number_and_until_when(organization, prices, owner):
    (row,) = put("+12125550142")
    hold = held(row, person=owner, organization=organization)
    (offer,) = stock_offers(Criteria("local"), organization, at=NOON).offers
    assert (offer.holder, offer.held_by, offer.held_until) == (
        owner.pk,
        "owner@northwind.example",
        hold.held_until,
    )


# Pages ----------------------------------------------------------------------------------------


def test_pages_follow_each_other_without_gap_or_overlap(organization, prices):
    put(*(f"+1212555{line:04}" for line in range(60)))
    first = stock_offers(Criteria("local"), organization, at=NOON)
    second = stock_offers(Criteria("local"), organization, at=NOON, after=first.offers[-1].number)
    third = stock_offers(Criteria("local"), organization, at=NOON, after=second.offers[-1].number)
    everything = first.offers + second.offers + third.offers
    assert [offer.number for offer in everything] == [f"+1212555{line:04}" for line in range(60)]
    assert [(page.has_previous, page.has_next) for page in (first, second, third)] == [
        (False, True),
        (True, True),
        (True, False),
    ]
    back = stock_offers(Criteria("local"), organization, at=NOON, before=third.offers[0].number)
    assert back == second
    start = stock_offers(Criteria("local"), organization, at=NOON, before=second.offers[0].number)
    assert start == first


def test_one_query_brings_prices_offers_and_holders(
    organization, prices, owner, django_assert_num_queries
):
    rows = put(*(f"+1212555{line:04}" for line in range(30)))
    for row in rows[:5]:
        held(row, person=owner, organization=organization)
    with django_assert_num_queries(1):
        page = stock_offers(Criteria("local"), organization, at=NOON)
    assert len(page.offers) == 25
    assert list(page.prices) == ["US"]
    with django_assert_num_queries(1):
        empty = stock_offers(Criteria("local", pattern="99999"), organization, at=NOON)
    assert list(empty.prices) == ["US"]


# Nothing found --------------------------------------------------------------------------------


@pytest.fixture
def advise(organization, prices, django_assert_num_queries):
    """`{what was changed: how many that finds}` in one query."""

    def advise(**filters):
        criteria = Criteria("local", **filters)
        with django_assert_num_queries(1):
            found = suggestions(criteria, organization, at=NOON)
        return {
            suggestion.dropped or changed(criteria, suggestion.criteria): suggestion.count
            for suggestion in found
        }

    def changed(before, after):
        return next(
            getattr(after, name)
            for name in ("area_code", "position")
            if getattr(after, name) != getattr(before, name)
        )

    return advise


def test_an_empty_result_says_which_filter_to_drop(advise):
    put("+12125550142", "+12125550143")
    put(*(f"+1646777700{digit}" for digit in range(4)))
    assert advise(area_code="212", pattern="7777") == {
        "646": 4,
        ("pattern",): 2,
        ("area_code",): 4,
    }


def test_a_pattern_at_the_wrong_end_is_looked_for_anywhere(advise):
    put("+12127777142")
    assert advise(pattern="7777", position=Position.ENDS_WITH) == {
        Position.CONTAINS: 1,
        ("pattern",): 1,
    }


def test_counts_stop_at_a_hundred(advise, organization):
    put(*(f"+1212555{line:04}" for line in range(120)))
    assert advise(pattern="99999") == {("pattern",): 101}
    (suggestion,) = suggestions(Criteria("local", pattern="99999"), organization, at=NOON)
    assert suggestion.is_more


def test_an_empty_stock_has_nothing_to_suggest(organization, prices):
    assert suggestions(Criteria("local"), organization, at=NOON) == []


# The nearest alternatives ---------------------------------------------------------------------


@pytest.fixture
def near(organization, prices):
    def near(number, number_type="local", **options):
        offers = nearest("US", number, number_type, organization=organization, at=NOON, **options)
        return [offer.number for offer in offers]

    return near


def test_the_nearest_numbers_of_the_same_area_code_come_first(near):
    put("+12125550100", "+12125550140", "+12125550141", "+12125550144", "+16465550142")
    assert near("+12125550142") == ["+12125550141", "+12125550140", "+12125550144"]


def test_then_the_same_digits_in_the_same_city_then_the_state(near):
    put("+12125550100", "+16465550142", "+16465550199")
    put("+17165550142", city="Buffalo")
    put("+13055550142", region="FL", city="Miami")
    assert near("+12125550142", limit=4) == [
        "+12125550100",
        "+16465550142",
        "+16465550199",
        "+17165550142",
    ]


def test_a_lost_toll_free_number_leads_to_the_same_word_elsewhere(near):
    put_toll_free("+18883569377", "+18773569300")
    assert near("+18003569377", "tollfree") == ["+18883569377", "+18773569300"]


def test_a_lost_short_code_leads_to_its_neighbours(near):
    put("55501", "55503", "55509", number_type="shortcode", area_code="", region="", city="")
    assert near("55502", "shortcode", limit=2) == ["55501", "55503"]


def test_numbers_anybody_holds_are_no_alternative(near, organization, owner):
    row, _ = put("+12125550141", "+12125550144")
    held(row, person=owner, organization=organization)
    assert near("+12125550142") == ["+12125550144"]


def test_without_a_price_there_is_no_alternative(organization, db):
    put("+12125550141")
    assert nearest("US", "+12125550142", "local", organization=organization, at=NOON) == []


def test_offers_quote_like_any_other_offer(organization, prices):
    put("+12125550142")
    (offer,) = stock_offers(Criteria("local"), organization, at=NOON).offers
    assert (offer.display, offer.location, offer.key) == (
        "(212) 555-0142",
        "New York, NY",
        ("US", "+12125550142"),
    )
    assert replace(offer, city="").location == "NY"
