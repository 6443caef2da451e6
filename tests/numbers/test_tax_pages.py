"""The tax line on every page that asks for money: there where the organization has a rate, else not."""

import re

import pytest
import time_machine

from chirp_dashboard.numbers.models import Hold, Order

from .conftest import NOON

QUOTE = "/o/northwind/numbers/purchase/quote/"
LOCAL = "/o/northwind/numbers/purchase/local/"


@pytest.fixture(autouse=True)
def noon(settings):
    settings.TAX_NAME = "VAT"
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture
def taxed(organization):
    organization.tax_rate = "8.875"
    organization.save()
    return organization


def text(response):
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def hold(organization, person, *rows):
    Hold.objects.hold(organization, person, [row.key for row in rows], at=NOON)


def purchase(client, row, *, total):
    sent = {
        "number": f"{row.country}:{row.number}",
        "expected_total": total,
        "idempotency_key": "key",
    }
    return client.post(QUOTE, sent, follow=True)


def test_quote_says_net_tax_and_total(owner_client, taxed, owner, stock):
    hold(taxed, owner, *stock[:2])
    page = text(owner_client.get(QUOTE))
    assert "Net $2.54 VAT 8.875% $0.23 Added to your account $2.77" in page
    assert "From 1 Dec 2026 $2.00 a month plus tax" in page


def test_quote_of_an_untaxed_organization_says_nothing_of_tax(
    owner_client, organization, owner, stock
):
    hold(organization, owner, stock[0])
    page = text(owner_client.get(QUOTE))
    assert "VAT" not in page
    assert "Net" not in page
    assert "plus tax" not in page


def test_basket_says_how_much_of_its_sum_is_tax(owner_client, taxed, owner, stock):
    hold(taxed, owner, stock[0])
    page = text(owner_client.get(LOCAL))
    assert "Added to your account $1.38 of it VAT 8.875% $0.11" in page
    assert "Then per month $1.00 plus tax" in page


def test_what_the_quote_showed_is_what_the_order_says(owner_client, taxed, stock):
    page = text(purchase(owner_client, stock[0], total=138))
    assert "Added to your account $1.38" in page
    assert "Of it VAT 8.875% $0.11" in page
    assert Order.objects.get().total == 138


def test_order_of_an_untaxed_organization_says_nothing_of_tax(owner_client, organization, stock):
    page = text(purchase(owner_client, stock[0], total=127))
    assert "Added to your account $1.27" in page
    assert "VAT" not in page


def test_rate_of_the_order_is_shown_when_the_organization_has_another_now(
    owner_client, taxed, stock
):
    purchase(owner_client, stock[0], total=138)
    taxed.tax_rate = 20
    taxed.save()
    page = text(owner_client.get(f"/o/northwind/orders/{Order.objects.get().public_id}/"))
    assert "Of it VAT 8.875% $0.11" in page


def test_prepaid_order_collects_the_tax(owner_client, taxed, stock):
    taxed.gateway = "test"
    taxed.save()
    page = text(purchase(owner_client, stock[0], total=138))
    assert "Collected $1.38 Of it VAT 8.875% $0.11" in page
    receipt = Order.objects.get().receipts.get()
    assert (receipt.total, receipt.tax) == (138, 11)
