import re
from datetime import date
from html import unescape
from itertools import chain

import pytest
import time_machine

from chirp_dashboard.numbers import listing
from chirp_dashboard.numbers.models import PhoneNumber

from .conftest import NOON
from .owned import SINCE, own, own_many, put

LIST = "/o/northwind/numbers/"
HTMX = {"HX-Request": "true"}


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOON):
        yield


def shown(response):
    """The numbers in the table, in order."""
    return re.findall(r'data-copy="([^"]+)"', response.content.decode())


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def link(response, identifier):
    """Where the link with `identifier` leads."""
    tag = re.search(rf'<a[^>]* id="{identifier}"[^>]*>', response.content.decode())
    return unescape(re.search(r'href="([^"]+)"', tag[0])[1]) if tag else None


def walk(client, address, *, through="page-older"):
    """The numbers of every page from `address` on."""
    pages = []
    while address:
        response = client.get(address)
        pages.append(shown(response))
        address = link(response, through)
    return pages


# What a row says ------------------------------------------------------------------------------


def test_row_says_what_the_number_is_and_costs(owner_client, organization, storefront):
    put(own(organization, "+12125550142", label="Sales New York"), storefront)
    response = owner_client.get(LIST)
    words = text_of(response)
    for word in (
        "(212) 555-0142", "Sales New York", "Local", "New York, NY", "SMS, MMS, Voice",
        "Storefront", "Active", "$1.00", "1 Dec",
    ):  # fmt: skip
        assert word in words
    assert shown(response) == ["+12125550142"]


def test_head_counts_numbers_and_what_they_rent_for(owner_client, organization):
    own_many(organization, 3)
    assert "3 numbers · $3.00 a month · next invoice 1 Dec" in text_of(owner_client.get(LIST))


def test_short_codes_stay_bare_and_say_their_term(owner_client, organization):
    own(
        organization, "70142", number_type="shortcode", city="", region="", area_code="",
        rental_amount=150000, interval_months=3,
    )  # fmt: skip
    words = text_of(owner_client.get(LIST))
    assert "70142 Copy 70142 Short code" in words
    assert "$1,500.00 / 3 months" in words
    assert "10 Dec" in words, "three months after the anchor of 10 September"


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({}, "Not assigned"),
        ({"assignment_count": 1}, "Active"),
        ({"releases_on": date(2026, 12, 1)}, "Releasing 30 Nov"),
        ({"state": "suspended", "suspended_on": date(2026, 11, 15)}, "Unpaid since 15 Nov"),
        (
            {"state": "released", "releases_on": date(2026, 11, 3), "released_at": SINCE},
            "Released 1 Sep",
        ),
    ],
)
def test_status_is_a_word_with_its_day(owner_client, organization, facts, status):
    own(organization, "+12125550142", **facts)
    state = "?state=released" if facts.get("state") == "released" else ""
    assert status in text_of(owner_client.get(LIST + state))


def test_a_number_being_released_is_not_charged_again(owner_client, organization):
    own(organization, "+12125550142", releases_on=date(2026, 12, 1))
    row = owner_client.get(LIST).context["list"].rows[0]
    assert row["next_charge"] == ""


def test_third_application_hides_behind_a_number(owner_client, organization, storefront, alerts):
    third = organization.applications.create(name="Wallboard", slug="wallboard")
    numbers = own(organization, "+12125550142")
    for application in (storefront, alerts, third):
        put(numbers, application)
    row = owner_client.get(LIST).context["list"].rows[0]
    assert [each["name"] for each in row["applications"]] == ["Storefront", "Alerts"]
    assert [each["name"] for each in row["more"]] == ["Wallboard"]


def test_labels_are_escaped(owner_client, organization):
    own(organization, "+12125550142", label="<script>alert(1)</script>")
    assert b"<script>alert(1)" not in owner_client.get(LIST).content


# Tabs ------------------------------------------------------------------------------------------


@pytest.fixture
def every_state(organization, storefront):
    """One number in each state: 0141 active, 0142 not assigned, 0143 unpaid, 0144 releasing, 0145 released."""
    numbers = own(organization, *(f"+1212555014{digit}" for digit in range(1, 5)))
    put(numbers[:1] + numbers[2:], storefront)
    rows = PhoneNumber.objects
    rows.filter(pk=numbers[2].pk).update(state="suspended", suspended_on=date(2026, 11, 15))
    rows.filter(pk=numbers[3].pk).update(releases_on=date(2026, 12, 1))
    return numbers + own(
        organization, "+12125550145",
        state="released", releases_on=date(2026, 11, 3), released_at=SINCE,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "digits"),
    [("", "1234"), ("unassigned", "2"), ("unpaid", "3"), ("releasing", "4"), ("released", "5")],
)
def test_each_tab_shows_its_numbers(owner_client, every_state, state, digits):
    response = owner_client.get(LIST, {"state": state})
    assert shown(response) == [f"+1212555014{digit}" for digit in digits]


def test_tabs_carry_counts_and_vanish_when_empty(owner_client, organization, every_state):
    tabs = owner_client.get(LIST).context["list"].tabs
    assert [(tab["word"], tab["count"]) for tab in tabs] == [
        ("All", "4"), ("Not assigned", "1"), ("Unpaid", "1"), ("Releasing", "1"), ("Released", "1"),
    ]  # fmt: skip
    PhoneNumber.objects.filter(state="suspended").update(state="active", suspended_on=None)
    tabs = owner_client.get(LIST).context["list"].tabs
    assert "Unpaid" not in [tab["word"] for tab in tabs]
    tabs = owner_client.get(LIST, {"state": "unpaid"}).context["list"].tabs
    assert "Unpaid" in [tab["word"] for tab in tabs], "the open tab stays"


def test_counts_stop_at_the_cap(owner_client, organization, monkeypatch):
    monkeypatch.setattr(listing, "COUNTED_UP_TO", 2)
    own_many(organization, 4)
    tabs = owner_client.get(LIST).context["list"].tabs
    assert [(tab["word"], tab["count"]) for tab in tabs] == [("All", "4"), ("Not assigned", "2+")]


# Search and filters ----------------------------------------------------------------------------


@pytest.fixture
def mixed(organization, storefront):
    """Three numbers that differ in everything."""
    new_york = own(organization, "+12125550142", label="Sales")
    calgary = own(
        organization, "+14035550117", label="Front desk 4411", country="CA", region="AB",
        city="Calgary", area_code="403", capabilities=["Voice"], release_locked=True,
    )  # fmt: skip
    flowers = own(
        organization, "+18003569377", number_type="tollfree", region="", city="", area_code="800",
        capabilities=["SMS", "Voice"],
    )  # fmt: skip
    put(calgary, storefront)
    return new_york + calgary + flowers


@pytest.mark.parametrize(
    ("typed", "found"),
    [
        ("212", ["+12125550142"]),
        ("(212) 555-01", ["+12125550142"]),
        ("+1 212.555.0142", ["+12125550142"]),
        ("1 403 555", ["+14035550117"]),
        ("0117", ["+14035550117"]),
        ("40", ["+14035550117"]),
        ("4411", ["+14035550117"]),
        ("sales", ["+12125550142"]),
        ("FRONT", ["+14035550117"]),
        ("desk front", ["+14035550117"]),
        ("calg", ["+14035550117"]),
        ("ab", ["+14035550117"]),
        ("new york", ["+12125550142"]),
        ("ny sales", ["+12125550142"]),
        ("800-FLOWERS", ["+18003569377"]),
        ("flowers", ["+18003569377"]),
        ("  555   01 ", ["+12125550142", "+14035550117"]),
        ("100%", []),
        ("a_b", []),
        ("'; drop table", []),
        ("\x00212", ["+12125550142"]),
        ("٢١٢", []),
        ("1", ["+12125550142", "+14035550117", "+18003569377"]),
    ],
)
def test_search_finds_digits_labels_and_places(owner_client, mixed, typed, found):
    assert shown(owner_client.get(LIST, {"q": typed})) == found


@pytest.mark.parametrize(
    ("asked", "found"),
    [
        ({"type": "tollfree"}, ["+18003569377"]),
        ({"application": "storefront"}, ["+14035550117"]),
        ({"application": "no-such"}, []),
        ({"region": "AB"}, ["+14035550117"]),
        ({"capability": "MMS"}, ["+12125550142"]),
        ({"locked": "yes"}, ["+14035550117"]),
        ({"region": "AB", "capability": "MMS"}, []),
        ({"application": "storefront", "sort": "-label"}, ["+14035550117"]),
        ({"application": "storefront", "q": "403"}, ["+14035550117"]),
        ({"type": "local", "sort": "-rental"}, ["+14035550117", "+12125550142"]),
    ],
)
def test_filters_narrow_the_list(owner_client, mixed, asked, found):
    assert shown(owner_client.get(LIST, asked)) == found


def test_what_makes_no_sense_in_the_address_is_left_out(owner_client, mixed):
    asked = {
        "state": "stolen", "type": "mobile", "region": "ZZ", "capability": "Fax", "locked": "no",
        "sort": "colour", "colour": "blue",
    }  # fmt: skip
    response = owner_client.get(LIST, asked)
    assert len(shown(response)) == 3
    assert response.context["list"].current == LIST


def test_each_filter_can_be_dropped(owner_client, mixed):
    response = owner_client.get(LIST, {"q": "403", "region": "AB", "sort": "label"})
    assert link(response, "drop-q") == f"{LIST}?region=AB&sort=label"
    assert link(response, "drop-region") == f"{LIST}?q=403&sort=label"
    assert response.context["list"].unfiltered == f"{LIST}?sort=label"
    assert "1 number “403” ×".replace(" ×", "") in text_of(response).replace("Drop filter ", "")


# Order and pages -------------------------------------------------------------------------------


@pytest.fixture
def pages_of_four(monkeypatch):
    monkeypatch.setattr(listing, "PAGE_SIZE", 4)


@pytest.fixture
def eleven(organization, storefront):
    """Eleven numbers whose labels, types and rentals repeat, all in one application."""
    numbers = []
    for index in range(11):
        numbers += own(
            organization, f"+1212555{(index * 7) % 11:04}",
            label=("", "Sales", "support", "Sales")[index % 4],
            number_type=("local", "tollfree")[index % 2],
            rental_amount=(100, 200, 100)[index % 3],
            purchased_at=SINCE,
        )  # fmt: skip
    put(numbers, storefront)
    return numbers


ORDERS = {
    "number": lambda row: (row.number, row.pk),
    "label": lambda row: (row.label == "", row.label.lower(), row.pk),
    "type": lambda row: (row.number_type, row.number, row.pk),
    "purchased": lambda row: (row.purchased_at, row.pk),
    "rental": lambda row: (row.rental_amount, row.pk),
}


@pytest.mark.parametrize("narrowed", ["", "application=storefront", "q=555", "state=unassigned"])
@pytest.mark.parametrize("direction", ["", "-"])
@pytest.mark.parametrize("order", ORDERS)
def test_pages_show_every_number_once_in_order(
    owner_client, eleven, pages_of_four, order, direction, narrowed
):
    if narrowed == "state=unassigned":
        PhoneNumber.objects.update(assignment_count=0)
    expected = sorted(eleven, key=ORDERS[order], reverse=direction == "-")
    address = f"{LIST}?{narrowed}&sort={direction}{order}"
    pages = walk(owner_client, address)
    assert [len(page) for page in pages] == [4, 4, 3]
    assert list(chain(*pages)) == [row.number for row in expected]


def test_newer_leads_back_through_the_same_pages(owner_client, eleven, pages_of_four):
    forward = walk(owner_client, f"{LIST}?sort=rental")
    second = link(owner_client.get(f"{LIST}?sort=rental"), "page-older")
    third = link(owner_client.get(second), "page-older")
    assert walk(owner_client, third, through="page-newer") == forward[::-1]


def test_first_page_has_nothing_newer_and_last_nothing_older(owner_client, eleven, pages_of_four):
    first = owner_client.get(LIST)
    assert link(first, "page-newer") is None
    middle = owner_client.get(link(first, "page-older"))
    last = owner_client.get(link(middle, "page-older"))
    assert link(last, "page-older") is None
    back = owner_client.get(link(middle, "page-newer"))
    assert shown(back) == shown(first)
    assert link(back, "page-newer") is None


def test_a_page_stays_put_when_numbers_come_before_it(
    owner_client, organization, eleven, pages_of_four
):
    older = link(owner_client.get(LIST), "page-older")
    before = shown(owner_client.get(older))
    own(organization, "+12125549999")
    assert shown(owner_client.get(older)) == before


def test_page_that_became_empty_leads_to_the_first(owner_client, eleven, pages_of_four):
    last = link(owner_client.get(link(owner_client.get(LIST), "page-older")), "page-older")
    PhoneNumber.objects.filter(number__gte="+12125550008").update(
        organization=eleven[0].organization, number="+12125550000", country="XX", state="released",
        releases_on=date(2026, 11, 3), released_at=SINCE, assignment_count=0,
    )  # fmt: skip
    response = owner_client.get(last)
    assert "Nothing more here" in text_of(response)
    assert f'href="{LIST}"' in response.content.decode()


@pytest.mark.parametrize(
    "cursor",
    [
        "garbage", "%%%", "AAAA", "bnVsbA", "W10", "WzEsMl0", "WyIrMSIsInh4Il0", "WyIrMSIsMWUzMDld",
        "WyJcdTAwMDAiLDFd", "WyJcdWQ4MDAiLDFd", "W1tbW1tbW1tb", "x" * 5000, "é", "WyIrMSIsdHJ1ZV0",
        "WyIrMSIsOTk5OTk5OTk5OTk5OTk5OTk5OTk5OTld",
    ],
)  # fmt: skip
@pytest.mark.parametrize("side", ["after", "before"])
def test_garbage_for_a_cursor_is_the_first_page(owner_client, eleven, pages_of_four, cursor, side):
    response = owner_client.get(LIST, {side: cursor})
    assert shown(response) == shown(owner_client.get(LIST))


@pytest.mark.parametrize("sort", ["label", "purchased", "type", "rental"])
def test_cursor_of_another_order_does_no_harm(owner_client, eleven, pages_of_four, sort):
    cursor = owner_client.get(LIST, {"sort": sort}).context["list"].page.older
    for other in ORDERS:
        assert owner_client.get(LIST, {"sort": other, "after": cursor}).status_code == 200


def test_column_heads_sort_and_turn_round(owner_client, eleven):
    response = owner_client.get(LIST, {"sort": "label"})
    assert link(response, "by-label") == f"{LIST}?sort=-label"
    assert link(response, "by-rental") == f"{LIST}?sort=rental"
    assert response.content.decode().count('aria-sort="ascending"') == 1
    turned = owner_client.get(link(response, "by-label"))
    assert 'aria-sort="descending"' in turned.content.decode()


def test_a_part_too_long_to_sort_is_shown_in_order_of_number(owner_client, eleven, monkeypatch):
    monkeypatch.setattr(listing, "COUNTED_UP_TO", 5)
    response = owner_client.get(LIST, {"q": "555", "sort": "-rental"})
    assert shown(response) == sorted(shown(response))
    assert "so they are in order of number" in text_of(response)


# What htmx gets --------------------------------------------------------------------------------


def test_htmx_gets_the_table_and_what_says_the_same(owner_client, mixed):
    response = owner_client.get(LIST, {"type": "local"}, headers=HTMX)
    names = [template.name for template in response.templates]
    assert names[0] == "numbers/_number_swap.html"
    assert "base.html" not in names
    assert "numbers/_number_tabs.html" in names
    assert "numbers/_number_filters.html" in names
    assert response["HX-Push-Url"] == f"{LIST}?type=local"
    assert '"2 numbers."' in response["HX-Trigger"]


def test_filter_form_that_asked_is_left_alone(owner_client, mixed):
    headers = HTMX | {"HX-Trigger": "number-filters", "HX-Target": "numbers"}
    response = owner_client.get(LIST, {"q": "sal", "type": ""}, headers=headers)
    names = [template.name for template in response.templates]
    assert "numbers/_number_filters.html" not in names
    assert response["HX-Push-Url"] == f"{LIST}?q=sal"


def test_typing_on_replaces_the_address_so_that_back_skips_letters(owner_client, mixed):
    headers = HTMX | {
        "HX-Trigger": "number-filters",
        "HX-Current-URL": f"http://testserver{LIST}?q=sal",
    }
    response = owner_client.get(LIST, {"q": "sale"}, headers=headers)
    assert response["HX-Replace-Url"] == f"{LIST}?q=sale"
    response = owner_client.get(LIST, {"q": "sale", "type": "local"}, headers=headers)
    assert response["HX-Push-Url"] == f"{LIST}?q=sale&type=local"


# Nothing to show -------------------------------------------------------------------------------


def test_without_numbers_the_list_teaches_the_first_step(owner_client, viewer_client):
    words = text_of(owner_client.get(LIST))
    assert "No phone numbers yet" in words
    assert "Purchase Number" in words
    words = text_of(viewer_client.get(LIST))
    assert "An owner or admin of this organization can purchase the first one." in words
    assert "Purchase Number" not in words


def test_no_match_says_which_filter_to_drop(owner_client, mixed):
    response = owner_client.get(LIST, {"q": "7777", "region": "AB"})
    words = text_of(response)
    assert "Nothing matches “7777” and Alberta" in words
    assert "Without “7777” : 1 number" in words
    assert "Without Alberta" not in words, "dropping it would not help"
    assert link(response, "clear-filters") == LIST


def test_empty_tab_says_what_that_means(owner_client, mixed):
    assert "Nothing is unpaid" in text_of(owner_client.get(LIST, {"state": "unpaid"}))


# Who may see it --------------------------------------------------------------------------------


def test_list_shows_nothing_of_another_organization(owner_client, organization, rival):
    own(organization, "+12125550142")
    own(rival, "+12125550143", label="Secret")
    response = owner_client.get(LIST)
    assert shown(response) == ["+12125550142"]
    assert "Secret" not in text_of(owner_client.get(LIST, {"q": "secret"}))


def test_strangers_get_404_and_the_signed_out_sign_in(stranger_client, rival_client, client, mixed):
    assert stranger_client.get(LIST).status_code == 404
    assert rival_client.get(LIST).status_code == 404
    assert client.get(LIST).status_code == 302


def test_actions_follow_the_role(viewer_client, developer_client, owner_client, mixed):
    assert "Actions for" not in text_of(viewer_client.get(LIST))
    words = text_of(developer_client.get(LIST))
    assert "Edit label" in words
    assert "Release number" not in words
    assert "Release number" in text_of(owner_client.get(LIST))


@pytest.mark.parametrize("count", [3, 60])
@pytest.mark.parametrize("asked", ["", "q=555", "application=storefront", "sort=-label"])
def test_list_takes_five_queries_however_long(
    owner_client, organization, storefront, django_assert_num_queries, count, asked
):
    put(own_many(organization, count), storefront)
    with django_assert_num_queries(5):
        assert owner_client.get(f"{LIST}?{asked}").status_code == 200
    with django_assert_num_queries(5):
        owner_client.get(f"{LIST}?{asked}", headers=HTMX)


def test_nothing_found_takes_no_more_queries(owner_client, mixed, django_assert_num_queries):
    with django_assert_num_queries(5):
        owner_client.get(LIST, {"q": "7777", "region": "AB"})


def test_post_is_refused(owner_client):
    assert owner_client.post(LIST).status_code == 405
