"""The purchase pages: kinds, search and quote, for every role, with and without htmx."""

import re
from datetime import date, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.models import Charge, Price, Standing
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.organizations.models import Application

from .conftest import NOON, in_stock

KINDS = "/o/northwind/numbers/purchase/"
LOCAL = "/o/northwind/numbers/purchase/local/"
TOLL_FREE = "/o/northwind/numbers/purchase/tollfree/"
SHORT_CODE = "/o/northwind/numbers/purchase/shortcode/"
QUOTE = "/o/northwind/numbers/purchase/quote/"

RESULTS = {"HX-Request": "true", "HX-Target": "results"}

# Fee 1.00 and 8 of 30 days of 1.00.
DUE = 100 + 27


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False) as traveller:
        yield traveller


def names(response):
    return [template.name for template in response.templates]


def text(response):
    """What the page says, without its tags, in single spaces."""
    body = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", body)


def hold(organization, person, *rows, at=NOON):
    return Hold.objects.hold(organization, person, [row.key for row in rows], at=at).held


# Kinds ----------------------------------------------------------------------------------------


def test_three_kinds_with_what_they_cost_at_least(owner_client, prices):
    page = text(owner_client.get(KINDS))
    assert "from $1.00 + $1.00 / month" in page
    assert "from $1.00 + $2.00 / month" in page
    assert "from $650.00 + $500.00 / month" in page


def test_the_lowest_price_of_all_countries_is_named(owner_client, prices):
    facts = {"number_type": "local", "currency": "USD", "valid_from": date(2020, 1, 1)}
    Price.objects.create(country="CA", purchase_fee=0, rental=80, **facts)
    assert "from free + $0.80 / month" in text(owner_client.get(KINDS))


def test_a_kind_without_a_price_is_not_sold(owner_client, prices):
    Price.objects.filter(number_type="shortcode").delete()
    response = owner_client.get(KINDS)
    assert "Not sold here yet" in text(response)
    assert SHORT_CODE not in response.content.decode()


def test_a_lease_says_for_how_many_months_it_is(owner_client, prices):
    Price.objects.filter(number_type="shortcode").update(interval_months=3)
    assert "from $650.00 + $500.00 / 3 months" in text(owner_client.get(KINDS))


def test_kinds_take_five_queries(owner_client, prices, django_assert_num_queries):
    with django_assert_num_queries(5):  # session, user, membership, prices, basket
        owner_client.get(KINDS)


# Search ---------------------------------------------------------------------------------------


def test_both_prices_are_in_every_row(owner_client, stock):
    response = owner_client.get(LOCAL)
    rows = re.findall(r"<tr id=.*?</tr>", response.content.decode(), re.S)
    assert len(rows) == 5
    assert all("$1.00</td>" in row and "$1.00 / month" in row for row in rows)


def test_a_results_page_takes_five_queries(
    owner_client, organization, owner, admin, prices, django_assert_num_queries
):
    rows = [in_stock(f"+1212555{line:04}") for line in range(40)]
    hold(organization, owner, *rows[:3])
    hold(organization, admin, *rows[3:6])
    with django_assert_num_queries(5):  # session, user, membership, offers with prices, basket
        response = owner_client.get(LOCAL)
    assert text(response).count("Held for you") == 3
    assert text(response).count("by admin@northwind.example") == 3
    with django_assert_num_queries(4):
        owner_client.get(LOCAL, headers=RESULTS)


def test_a_change_of_filters_swaps_the_results_only(owner_client, stock):
    response = owner_client.get(LOCAL, {"digits": "0143", "place": ""}, headers=RESULTS)
    assert "numbers/purchase/_results.html" in names(response)
    assert not {"base.html", "numbers/purchase/_filters.html"} & set(names(response))
    assert "numbers/purchase/_basket.html" not in names(response)
    assert "1 number." in response["HX-Trigger"]
    assert response["HX-Push-Url"] == f"{LOCAL}?country=US&digits=0143&position=contains"


def test_the_map_swaps_the_filters_too(owner_client, stock):
    headers = {"HX-Request": "true", "HX-Target": "search"}
    response = owner_client.get(LOCAL, {"region": "NY"}, headers=headers)
    assert {"numbers/purchase/_filters.html", "numbers/purchase/_results.html"} <= set(
        names(response)
    )
    assert "base.html" not in names(response)


def test_the_address_is_the_search(owner_client, stock):
    query = {"region": "new york", "place": "212", "digits": "CAT", "position": "ends_with"}
    in_stock("+12125550228")
    page = owner_client.get(LOCAL, query)
    assert "(212) 555-0<mark>228</mark>" in page.content.decode()
    assert 'value="212"' in page.content.decode()
    assert 'value="CAT"' in page.content.decode()


def test_what_matched_is_marked(owner_client, prices):
    in_stock("+18003569377", number_type="tollfree", region="", city="", area_code="800")
    page = owner_client.get(TOLL_FREE, {"digits": "FLOWERS", "position": "starts_with"})
    assert "(800) <mark>356-9377</mark>" in page.content.decode()


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ({"region": "Nwe York"}, "Did you mean New York?"),
        ({"region": "Atlantis"}, "Choose one from the list."),
        ({"place": "999"}, "999 is not an area code of this country."),
        ({"place": "416"}, "416 is not an area code of this country."),
        ({"digits": "555-01é"}, "“é” is not on a telephone"),
        ({"digits": "--"}, "Write at least one digit or letter."),
        ({"digits": "123456789012"}, "These are 12 digits; a number here has 10."),
        ({"position": "middle"}, "middle is not one of the available choices"),
        ({"can": "Fax"}, "Fax is not one of the available choices"),
        ({"country": "ZZ"}, "Numbers of this country are not sold here."),
        ({"after": "x"}, "This address names a page that does not exist."),
        ({"digits": "7\x00"}, "Null characters are not allowed."),
    ],
)
def test_bad_filters_say_how_to_mend_them_and_keep_what_was_typed(
    owner_client, stock, query, message
):
    for headers in ({}, RESULTS):
        response = owner_client.get(LOCAL, query, headers=headers)
        assert response.status_code == 422
        assert message in text(response)
    (typed,) = query.values()
    if next(iter(query)) in {"region", "place", "digits"} and "\x00" not in typed:
        assert f'value="{typed}"' in owner_client.get(LOCAL, query).content.decode()


def test_short_codes_have_six_digits_at_most(owner_client, prices):
    page = owner_client.get(SHORT_CODE, {"digits": "1234567"})
    assert "These are 7 digits; a number here has 6." in text(page)


def test_a_city_is_found_however_it_is_written(owner_client, stock):
    in_stock("+13055550142", region="FL", city="Miami", area_code="305")
    for place in ("miami", "Miami, FL", " MIAMI "):
        page = text(owner_client.get(LOCAL, {"place": place}))
        assert "(305) 555-0142" in page
        assert "(212) 555-0142" not in page


def test_a_city_that_several_states_have_is_looked_for_in_all_of_them(owner_client, prices):
    in_stock("+12075550142", region="ME", city="Portland", area_code="207")
    in_stock("+15035550142", region="OR", city="Portland", area_code="503")
    both = text(owner_client.get(LOCAL, {"place": "portland"}))
    assert "(207) 555-0142" in both
    assert "(503) 555-0142" in both
    one = text(owner_client.get(LOCAL, {"place": "Portland, OR"}))
    assert "(207) 555-0142" not in one


def test_every_filter_can_be_dropped(owner_client, stock):
    page = owner_client.get(LOCAL, {"region": "NY", "digits": "0142"}).content.decode()
    assert f'href="{LOCAL}?country=US&amp;region=NY"' in page
    assert f'href="{LOCAL}?country=US&amp;digits=0142&amp;position=contains"' in page
    assert f'href="{LOCAL}?country=US"' in page


def test_an_empty_result_says_what_to_drop(owner_client, stock):
    in_stock("+16467777000", area_code="646")
    page = text(owner_client.get(LOCAL, {"place": "212", "digits": "7777"}))
    assert "No numbers for 7777 + 212" in page
    assert "In 646 1" in page
    assert "Without “containing 7777” 5" in page


def test_an_empty_stock_and_a_missing_price_are_told_apart(owner_client, prices):
    assert "No local numbers in stock" in text(owner_client.get(LOCAL))
    Price.objects.all().delete()
    assert "There is no price for this kind of number." in text(owner_client.get(LOCAL))


def test_the_country_that_is_sold_is_shown_when_none_was_asked_for(owner_client, stock):
    Price.objects.update(country="CA")
    in_stock("+14165550142", country="CA", region="ON", city="Toronto", area_code="416")
    assert "(416) 555-0142" in text(owner_client.get(LOCAL))


def test_pages_follow_by_link(owner_client, prices):
    for line in range(30):
        in_stock(f"+1212555{line:04}")
    first = owner_client.get(LOCAL).content.decode()
    assert f'href="{LOCAL}?country=US&amp;after=%2B12125550024"' in first
    second = owner_client.get(LOCAL, {"country": "US", "after": "+12125550024"})
    assert "(212) 555-0029" in text(second)
    assert f'href="{LOCAL}?country=US&amp;before=%2B12125550025"' in second.content.decode()


def test_who_may_not_purchase_sees_offers_and_who_may(
    developer_client, billing_client, viewer_client, stock
):
    for client in (developer_client, billing_client, viewer_client):
        response = client.get(LOCAL)
        assert "(212) 555-0142" in text(response)
        assert "ask an Owner or Admin" in text(response)
        assert "/numbers/purchase/hold/" not in response.content.decode()
        assert "ask an Owner or Admin" in text(client.get(KINDS))


def test_strangers_find_nothing(rival_client, stranger_client, client, prices):
    for address in (KINDS, LOCAL, QUOTE):
        assert rival_client.get(address).status_code == 404
        assert stranger_client.get(address).status_code == 404
        assert client.get(address).status_code == 302


def test_an_unknown_kind_is_not_found(owner_client):
    assert owner_client.get("/o/northwind/numbers/purchase/mobile/").status_code == 404


# Quote ----------------------------------------------------------------------------------------


@pytest.fixture
def complete(owner_client):
    """POST the quote: `complete(row, row, total=…)`."""

    def complete(*rows, total=None, key="key-1", **form):
        numbers = [f"{row.country}:{row.number}" for row in rows]
        total = DUE * len(rows) if total is None else total
        form = {"number": numbers, "expected_total": total, "idempotency_key": key} | form
        return owner_client.post(QUOTE, form)

    return complete


def test_the_quote_adds_up(owner_client, organization, owner, stock):
    hold(organization, owner, *stock[:3])
    page = text(owner_client.get(QUOTE))
    assert "Purchase fees once $3.00" in page
    assert "Rental 23–30 Nov, 8 of 30 days $0.81" in page
    assert "Tax" not in page
    assert "Added to your account $3.81" in page
    assert "From 1 Dec 2026 $3.00 a month" in page
    assert "Payable with the invoice of 1 Dec 2026, due 31 Dec 2026" in page
    assert "cannot be undone" in page


def test_a_whole_first_month_and_a_lease(owner_client, organization, owner, stock, noon):
    Price.objects.filter(number_type="shortcode").update(interval_months=3)
    code = in_stock("55555", number_type="shortcode", region="", city="", area_code="")
    noon.move_to(NOON + timedelta(days=8))
    hold(organization, owner, stock[0], code, at=NOON + timedelta(days=8))
    page = text(owner_client.get(QUOTE))
    assert "Rental 1–31 Dec, the whole period $1.00" in page
    assert "Rental 1 Dec – 28 Feb 2027, the whole period $500.00" in page
    assert "From 1 Mar 2027 $500.00 every 3 months" in page


def test_prepaid_organizations_pay_now(owner_client, organization, owner, stock):
    organization.gateway = "test"
    organization.save()
    hold(organization, owner, stock[0])
    assert "Due now $1.27" in text(owner_client.get(QUOTE))


def test_complete_purchase_leads_to_the_order(complete, stock, storefront):
    response = complete(stock[0], stock[1], application="storefront")
    order = Order.objects.get()
    assert response.status_code == 302
    assert response["Location"] == f"/o/northwind/orders/{order.public_id}/"
    assert {n.assignment_count for n in PhoneNumber.objects.all()} == {1}


def test_a_second_submit_leads_to_the_same_order(complete, stock):
    first, again = complete(stock[0]), complete(stock[0])
    assert first["Location"] == again["Location"]
    assert Order.objects.count() == 1
    assert Charge.objects.count() == 2


def test_the_same_form_for_another_order_is_refused(complete, stock):
    complete(stock[0])
    response = complete(stock[1])
    assert response.status_code == 409
    assert "already used for another order" in text(response)
    assert Order.objects.count() == 1


def test_a_lost_number_stops_the_purchase_and_shows_the_new_quote(
    complete, organization, owner, stock
):
    hold(organization, owner, *stock[:2])
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    response = complete(stock[0], stock[1])
    page = text(response)
    assert response.status_code == 409
    assert "Nothing was purchased" in page
    assert (
        "1 of the numbers is gone. Below is the quote without it: $1.27 instead of $2.54." in page
    )
    assert "Just sold. Most like it:" in page
    assert "(212) 555-0144" in page
    assert f'name="expected_total" value="{DUE}"' in response.content.decode()
    assert not Order.objects.exists()
    assert not PhoneNumber.objects.exists()


def test_the_new_quote_can_be_completed(complete, organization, owner, stock):
    hold(organization, owner, *stock[:2])
    InventoryNumber.objects.filter(pk=stock[0].pk).update(status="sold")
    refused = complete(stock[0], stock[1]).content.decode()
    (key,) = re.findall(r'name="idempotency_key" value="([^"]+)"', refused)
    assert complete(stock[1], key=key).status_code == 302


def test_a_number_a_colleague_purchased_meanwhile_is_named_as_ours(complete, purchase, stock):
    purchase(stock[0])
    response = complete(stock[0], key="another")
    assert response.status_code == 409
    assert "Your organization purchased it meanwhile." in text(response)


def test_midnight_changes_the_total_and_nothing_is_bought(
    complete, organization, owner, stock, noon
):
    hold(organization, owner, stock[0], at=NOON + timedelta(days=1))
    noon.move_to(NOON + timedelta(days=1))
    response = complete(stock[0])
    assert response.status_code == 409
    assert "The total is now $1.23; you had seen $1.27." in text(response)
    assert not Order.objects.exists()


def test_the_credit_limit_is_explained_with_figures(complete, organization, owner, stock):
    organization.credit_limit = 100
    organization.save()
    Standing.objects.create(organization=organization, balance=40)
    hold(organization, owner, stock[0])
    response = complete(stock[0])
    page = text(response)
    assert response.status_code == 409
    assert "would pass your organization's credit limit" in page.replace("&#x27;", "'")
    assert "Credit limit $1.00" in page
    assert "Owed now $0.40" in page
    assert "This purchase $1.27" in page
    assert not Order.objects.exists()


def test_the_daily_limit_is_explained_with_figures(complete, organization, owner, stock):
    organization.daily_spend_cap = 100
    organization.save()
    page = text(complete(stock[0]))
    assert "Daily limit $1.00 $0.00 spent today" in page


@pytest.mark.parametrize("kind", ["test", "archived", "somebody else's"])
def test_only_live_applications_of_ours_can_be_chosen(complete, organization, rival, stock, kind):
    facts = {"kind": "test"} if kind == "test" else {}
    if kind == "archived":
        facts = {"archived_at": NOON}
    owner_of_it = rival if kind == "somebody else's" else organization
    Application.objects.create(organization=owner_of_it, name="App", slug="app", **facts)
    response = complete(stock[0], application="app")
    assert response.status_code == 422
    assert "No live application has this name." in text(response)
    assert not Order.objects.exists()


def test_many_applications_are_searched_not_listed_in_a_select(
    owner_client, organization, owner, stock
):
    for n in range(14):
        Application.objects.create(organization=organization, name=f"App {n}", slug=f"app-{n}")
    hold(organization, owner, stock[0])
    page = owner_client.get(QUOTE).content.decode()
    assert 'list="applications"' in page
    assert '<option value="app-13">App 13</option>' in page


@pytest.mark.parametrize(
    "form",
    [{"number": []}, {"number": "US:1"}, {"expected_total": "-1"}, {"idempotency_key": ""}],
)
def test_a_damaged_form_buys_nothing(complete, stock, form):
    assert complete(stock[0], **form).status_code == 422
    assert not Order.objects.exists()


def test_an_empty_quote_says_how_to_begin(owner_client, prices):
    assert "No numbers selected" in text(owner_client.get(QUOTE))


def test_lapsed_holds_are_offered_again(owner_client, organization, owner, stock):
    hold(organization, owner, stock[0], at=NOON - timedelta(minutes=20))
    page = text(owner_client.get(QUOTE))
    assert "1 hold expired" in page
    assert "Hold again" in page


def test_a_quote_takes_four_queries(
    owner_client, organization, owner, stock, storefront, django_assert_num_queries
):
    hold(organization, owner, *stock)
    with django_assert_num_queries(4):  # session, user, membership, basket
        owner_client.get(QUOTE)


def test_who_may_not_purchase_sees_no_quote(developer_client, billing_client, viewer_client, stock):
    for client in (developer_client, billing_client, viewer_client):
        assert client.get(QUOTE).status_code == 403
        assert client.post(QUOTE, {"number": f"US:{stock[0].number}"}).status_code == 403
    assert not Order.objects.exists()
