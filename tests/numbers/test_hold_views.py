"""Select, Remove, Extend: what changes on the page, and what a refusal looks like."""

from datetime import timedelta

import pytest
import time_machine

from chirp_dashboard.numbers.models import Hold, InventoryNumber
from chirp_dashboard.numbers.models.holds import HOLD_FOR, HOLDS_PER_PERSON

from .conftest import NOON, in_stock

HOLD = "/o/northwind/numbers/purchase/hold/"
UNHOLD = "/o/northwind/numbers/purchase/unhold/"
EXTEND = "/o/northwind/numbers/purchase/extend/"
BASKET = "/o/northwind/numbers/purchase/basket/"
SEARCH = "/o/northwind/numbers/purchase/local/?region=NY"

ROW = {"HX-Request": "true", "HX-Target": "n-12125550142"}
IN_BASKET = {"HX-Request": "true", "HX-Target": "basket"}


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def key(row):
    return f"{row.country}:{row.number}"


def names(response):
    return [template.name for template in response.templates]


def hold(organization, person, *rows, at=NOON):
    return Hold.objects.hold(organization, person, [row.key for row in rows], at=at)


@pytest.fixture
def select(stock, owner_client):
    def select(row, *, headers=ROW, **form):
        return owner_client.post(HOLD, {"number": key(row), **form}, headers=headers)

    return select


def test_select_holds_the_number_and_swaps_the_row_and_the_basket(select, stock, owner):
    response = select(stock[0])
    assert response.status_code == 200
    assert Hold.objects.get().person == owner
    assert "numbers/purchase/_row_answer.html" in names(response)
    assert "base.html" not in names(response)
    assert b"Held for you" in response.content
    assert b'id="basket" aria-label="Selected numbers" hx-swap-oob="true"' in response.content
    assert "held for you for 15 minutes" in response["HX-Trigger"]


def test_the_basket_says_what_is_added_now_and_each_month(select, stock):
    content = select(stock[0]).content.decode()
    assert "$1.27" in content  # the fee and 8 of 30 days
    assert "15:00" in content


def test_without_javascript_select_leads_back_to_the_row(select, stock):
    response = select(stock[0], headers={}, next=SEARCH)
    assert response.status_code == 302
    assert response["Location"] == f"{SEARCH}#n-12125550142"


@pytest.mark.parametrize(
    "address", ["https://elsewhere.example/", "//elsewhere.example/", "/o/rival/", ""]
)
def test_only_pages_of_this_organization_are_led_back_to(select, stock, address):
    response = select(stock[0], headers={}, next=address)
    assert response["Location"] == "/o/northwind/numbers/purchase/#n-12125550142"


def test_a_number_just_sold_is_refused_with_the_nearest_ones(select, stock):
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    response = select(stock[0])
    content = response.content.decode()
    assert response.status_code == 409
    assert "Just sold." in content
    assert "(212) 555-0143" in content
    assert not Hold.objects.exists()


def test_a_refusal_without_javascript_is_a_page_of_its_own(select, stock):
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    response = select(stock[0], headers={}, next=SEARCH)
    assert response.status_code == 409
    assert {"base.html", "numbers/purchase/hold_refused.html"} <= set(names(response))
    assert "/o/northwind/numbers/purchase/local/?region=NY" in response.content.decode()


def test_a_colleague_s_number_is_refused_with_their_name(select, stock, organization, admin):
    hold(organization, admin, stock[0])
    response = select(stock[0])
    assert response.status_code == 409
    assert "Held by admin@northwind.example" in response.content.decode()
    assert Hold.objects.get().person == admin


def test_another_organization_s_number_is_refused_without_a_name(select, stock, rival, rival_owner):
    hold(rival, rival_owner, stock[0])
    response = select(stock[0])
    assert response.status_code == 409
    assert rival_owner.email not in response.content.decode()
    assert "rival" not in response.content.decode()


def test_the_limit_is_explained_and_the_number_can_still_be_selected(
    select, organization, owner, stock
):
    more = [in_stock(f"+1646555{line:04}", area_code="646") for line in range(HOLDS_PER_PERSON)]
    hold(organization, owner, *more)
    response = select(stock[0])
    assert response.status_code == 409
    assert "You can hold 20 numbers at a time" in response.content.decode()
    assert "Select" in response.content.decode()


def test_remove_lets_the_number_go(stock, organization, owner, owner_client):
    hold(organization, owner, stock[0])
    response = owner_client.post(UNHOLD, {"number": key(stock[0])}, headers=ROW)
    assert not Hold.objects.exists()
    assert b"no longer selected" in response["HX-Trigger"].encode()


def test_remove_in_the_basket_swaps_the_basket_and_lets_the_results_look_again(
    stock, organization, owner, owner_client
):
    hold(organization, owner, *stock[:2])
    response = owner_client.post(UNHOLD, {"number": key(stock[0])}, headers=IN_BASKET)
    assert "numbers/purchase/_basket.html" in names(response)
    assert "numbers/purchase/_row.html" not in names(response)
    assert "results-changed" in response["HX-Trigger"]


def test_nobody_lets_go_of_a_colleague_s_hold(stock, organization, admin, owner_client):
    hold(organization, admin, stock[0])
    owner_client.post(UNHOLD, {"number": key(stock[0])})
    assert Hold.objects.get().person == admin


def test_extend_gives_another_quarter_of_an_hour_once(
    stock, organization, owner, owner_client, noon
):
    hold(organization, owner, stock[0])
    noon.shift(timedelta(minutes=10))
    response = owner_client.post(EXTEND, headers=IN_BASKET)
    extended = NOON + timedelta(minutes=10) + HOLD_FOR
    assert Hold.objects.get().held_until == extended
    assert b"Extend" not in response.content
    noon.shift(timedelta(minutes=10))
    owner_client.post(EXTEND, headers=IN_BASKET)
    assert Hold.objects.get().held_until == extended


def test_a_lapsed_hold_stays_visible_and_can_be_taken_again(
    stock, organization, owner, owner_client, noon
):
    hold(organization, owner, stock[0])
    noon.shift(HOLD_FOR)
    assert b"Expired" in owner_client.get(BASKET, headers=IN_BASKET).content
    response = owner_client.post(HOLD, {"number": key(stock[0])}, headers=IN_BASKET)
    assert response.status_code == 200
    assert Hold.objects.get().is_live(at=NOON + HOLD_FOR)


def test_a_lapsed_hold_somebody_else_took_is_refused_in_the_basket(
    stock, organization, owner, owner_client, noon
):
    hold(organization, owner, stock[0])
    noon.shift(HOLD_FOR)
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    response = owner_client.post(HOLD, {"number": key(stock[0])}, headers=IN_BASKET)
    assert response.status_code == 409
    assert "(212) 555-0142: just sold." in response.content.decode()


def test_the_basket_alone_is_only_for_htmx(owner_client, stock):
    assert owner_client.get(BASKET)["Location"] == "/o/northwind/numbers/purchase/quote/"


@pytest.mark.parametrize("number", ["", "US", "US:212", "us:+12125550142", "US:+12125550142\n"])
def test_what_is_no_number_is_not_found(owner_client, stock, number):
    assert owner_client.post(HOLD, {"number": number}).status_code == 404
    assert owner_client.post(UNHOLD, {"number": number}).status_code == 404


def test_a_number_nobody_has_in_stock_is_not_found(owner_client, stock):
    response = owner_client.post(HOLD, {"number": "US:+13055550199"}, headers=ROW)
    assert response.status_code == 404


@pytest.mark.parametrize("address", [HOLD, UNHOLD, EXTEND])
def test_get_changes_nothing(owner_client, stock, address):
    assert owner_client.get(address).status_code == 405


@pytest.mark.parametrize("address", [HOLD, UNHOLD, EXTEND])
def test_lesser_roles_are_refused_and_strangers_see_nothing(
    stock, developer_client, billing_client, viewer_client, rival_client, stranger_client, address
):
    form = {"number": key(stock[0])}
    for client in (developer_client, billing_client, viewer_client):
        assert client.post(address, form).status_code == 403
    for client in (rival_client, stranger_client):
        assert client.post(address, form).status_code == 404
    assert not Hold.objects.exists()
