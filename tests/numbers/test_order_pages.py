"""The order page and the list of orders: what became of each line, and how to go on."""

import re
from datetime import date

import pytest
import time_machine

from chirp_dashboard.numbers.models import Order, OrderLine
from chirp_dashboard.numbers.views.orders import PER_PAGE

from .conftest import NOON

LIST = "/o/northwind/orders/"

POLL = {"HX-Request": "true", "HX-Target": "order"}


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False):
        yield


def text(response):
    """What the page says, without its tags, in single spaces."""
    body = re.sub(r"<[^>]+>", " ", response.content.decode())
    return re.sub(r"\s+", " ", body)


def names(response):
    return [template.name for template in response.templates]


def address(order):
    return f"{LIST}{order.public_id}/"


@pytest.fixture
def placed(stock, organization, owner):
    """An order as it stands in `state`, with one line of each of `lines`; no money has moved."""

    def placed(state, *lines, reason="", by=owner):
        order = Order.objects.create(
            organization=organization,
            placed_by=by,
            placed_at=NOON,
            placed_on=date(2026, 11, 23),
            gateway="test",
            total=127 * len(lines),
            currency="USD",
            idempotency_key=f"key-{Order.objects.count()}",
            state=state,
            reason=reason,
        )
        for row, (line_state, line_reason) in zip(stock, lines, strict=False):
            OrderLine.objects.create(
                **row.facts,
                order=order,
                purchase_fee=100,
                rental=100,
                first_rental=27,
                first_period_end=date(2026, 12, 1),
                state=line_state,
                reason=line_reason,
            )
        return order

    return placed


@pytest.fixture
def completed(purchase, stock, storefront):
    purchase(*stock[:2], application=storefront)
    return Order.objects.get()


# One order ------------------------------------------------------------------------------------


def test_a_completed_order_says_what_is_yours_and_what_it_cost(owner_client, completed):
    response = owner_client.get(address(completed))
    page = text(response)
    assert "All 2 numbers are yours Assigned to Storefront." in page
    assert page.count("Delivered") == 2
    assert "Added to your account $2.54" in page
    assert "with the invoice of 1 Dec 2026" in page
    assert "hx-trigger" not in response.content.decode().partition('id="order"')[2][:200]


def test_the_next_steps_are_at_hand(owner_client, viewer_client, completed):
    number = completed.lines.first().phone_number.public_id
    page = owner_client.get(address(completed)).content.decode()
    assert f'href="/o/northwind/numbers/{number}/assign/" data-dialog' in page
    assert f'href="/o/northwind/numbers/{number}/label/" data-dialog' in page
    assert f'href="/o/northwind/numbers/{number}/"' in page
    assert "/assign/" not in viewer_client.get(address(completed)).content.decode()


def test_an_open_order_is_followed_live_and_a_settled_one_is_not(owner_client, placed):
    order = placed("ordered", ("ordered", ""))
    page = owner_client.get(address(order)).content.decode()
    assert f'hx-get="{address(order)}" hx-trigger="every 2s"' in page
    order.state = Order.State.FAILED
    order.save()
    settled = owner_client.get(address(order), headers=POLL)
    assert "numbers/_order.html" in names(settled)
    assert "base.html" not in names(settled)
    assert "every 2s" not in settled.content.decode()
    assert "Failed: 0 of 1 delivered." in settled["HX-Trigger"]


@pytest.mark.parametrize(
    ("state", "line", "says"),
    [
        ("placed", "placed", "This page follows along"),
        ("authorised", "placed", "Payment authorised"),
        ("ordered", "unknown", "Being checked"),
        ("declined", "failed", "The payment was declined No funds. Nothing was purchased"),
        ("failed", "unavailable", "None of the numbers could be delivered"),
        ("stuck", "unknown", "ordering again would purchase twice"),
    ],
)
def test_every_state_says_what_it_means(owner_client, placed, state, line, says):
    order = placed(state, (line, ""), reason="no funds")
    assert says in text(owner_client.get(address(order)))


def test_lost_lines_say_why_and_offer_the_nearest(owner_client, viewer_client, placed):
    order = placed("failed", ("unavailable", "just sold"), ("failed", ""))
    page = text(owner_client.get(address(order)))
    assert "(212) 555-0142 was not delivered Just sold. Nothing is charged for it." in page
    assert "(212) 555-0143 was not delivered Failed. Nothing is charged for it." in page
    assert "Select (212) 555-0144" in page
    assert "Select" not in text(viewer_client.get(address(order)))


def test_the_same_number_is_not_offered_twice(owner_client, placed):
    order = placed("failed", ("unavailable", "just sold"), ("failed", ""))
    page = owner_client.get(address(order)).content.decode()
    offered = re.findall(r'name="number" value="([^"]+)"', page)
    assert offered
    assert len(offered) == len(set(offered))


def test_a_partly_completed_order_charges_what_was_delivered(owner_client, completed):
    line = completed.lines.last()
    OrderLine.objects.filter(pk=line.pk).update(state="unavailable", phone_number=None)
    Order.objects.filter(pk=completed.pk).update(state="partly_completed")
    page = text(owner_client.get(address(completed)))
    assert "1 of 2 numbers delivered" in page
    assert "$1.27 instead of $2.54" in page


def test_an_order_takes_five_queries(owner_client, completed, django_assert_num_queries):
    with django_assert_num_queries(5):  # session, user, membership, order, lines
        owner_client.get(address(completed))


def test_everybody_of_the_organization_sees_it_and_nobody_else(
    viewer_client, billing_client, rival_client, stranger_client, client, completed
):
    assert viewer_client.get(address(completed)).status_code == 200
    assert billing_client.get(address(completed)).status_code == 200
    assert stranger_client.get(address(completed)).status_code == 404
    assert rival_client.get(address(completed)).status_code == 404
    assert client.get(address(completed)).status_code == 302


def test_an_order_of_another_organization_is_not_found_in_ours(rival_client, rival, completed):
    assert rival_client.get(f"/o/rival/orders/{completed.public_id}/").status_code == 404


def test_an_order_cannot_be_posted_to(owner_client, completed):
    assert owner_client.post(address(completed)).status_code == 405
    assert owner_client.post(LIST).status_code == 405


# The list -------------------------------------------------------------------------------------


def test_the_list_shows_the_outcome_of_each_order(owner_client, completed, placed):
    placed("declined", ("failed", ""))
    page = text(owner_client.get(LIST))
    assert "owner@northwind.example 2 Completed $2.54" in page
    assert "owner@northwind.example 0 of 1 Payment declined $1.27" in page


def test_orders_follow_page_by_page_and_back(owner_client, placed, django_assert_num_queries):
    orders = [placed("declined") for _ in range(2 * PER_PAGE + 5)][::-1]
    pages = [orders[:PER_PAGE], orders[PER_PAGE : 2 * PER_PAGE], orders[2 * PER_PAGE :]]
    shown = owner_client.get(LIST)
    assert order_ids(shown) == [order.public_id for order in pages[0]]
    assert "Newer" not in text(shown)
    for page in pages[1:]:
        with django_assert_num_queries(4):
            shown = owner_client.get(link(shown, "Older"))
        assert order_ids(shown) == [order.public_id for order in page]
    assert "Older" not in text(shown)
    for page in (pages[1], pages[0]):
        shown = owner_client.get(link(shown, "Newer"))
        assert order_ids(shown) == [order.public_id for order in page]
    assert "Newer" not in text(shown)


def order_ids(response):
    return re.findall(r'href="/o/northwind/orders/(ord_\w+)/"', response.content.decode())


def link(response, word):
    found = re.search(rf'href="(\?[^"]+)"[^>]*>[^<]*{word}', response.content.decode())
    return LIST + found.group(1)


def test_another_organization_s_orders_are_not_listed(rival_client, rival, completed):
    assert "No orders yet" in text(rival_client.get("/o/rival/orders/"))
    page = rival_client.get("/o/rival/orders/", {"after": completed.public_id})
    assert order_ids(page) == []


@pytest.mark.parametrize("name", ["after", "before"])
def test_an_unknown_order_in_the_address_leads_to_an_empty_page(owner_client, completed, name):
    page = owner_client.get(LIST, {name: "ord_nonsense"})
    assert page.status_code == 200
    assert "No older orders" in text(page)
