"""Saving a card in a real browser: Content-Security-Policy lets people leave and come back."""

import pytest
from playwright.sync_api import expect

from .conftest import pay_by_card

pytestmark = pytest.mark.django_db(transaction=True)
CARD = "/o/northwind/billing/card/"


@pytest.fixture
def by_card(organization, stripe_gateway, live_server, settings):
    organization.gateway = "stripe"
    organization.save(update_fields=["gateway"])
    settings.BASE_URL = live_server.url
    return organization


@pytest.mark.parametrize("javascript", [True, False])
def test_a_card_is_saved_at_stripe_and_paid_with(javascript, by_card, owner, visit):
    page = visit(owner, path=CARD, javascript=javascript)
    page.get_by_role("button", name="Save a card").click()
    if not javascript:
        page.get_by_role("link", name="Continue at Stripe").click()
    page.get_by_role("link", name="Save 4242 4242 4242 4242").click()
    if not javascript:
        page.get_by_role("button", name="Show my card").click()
    expect(page.get_by_role("heading", name="Payment card", level=1)).to_be_visible()
    expect(page.locator(".toast")).to_contain_text("Visa •••• 4242 is the card that pays.")


def test_a_gateway_that_is_down_is_said_where_the_button_was(
    by_card, owner, visit, stripe_world, settings
):
    pay_by_card(by_card, stripe_world)
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    page = visit(owner, path=CARD)
    page.get_by_role("button", name="Manage cards").click()
    expect(page.get_by_role("alert").filter(has_text="Nothing was changed")).to_be_visible()
    expect(page.get_by_role("button", name="Manage cards")).to_be_enabled()
