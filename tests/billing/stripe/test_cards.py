"""Saving, changing and removing the card that pays."""

from datetime import date

import pytest
from django.utils import timezone

from chirp_dashboard.billing.models import Customer
from chirp_dashboard.numbers.models import Hold

from ...conftest import signed_in
from ...numbers.conftest import prices  # noqa: F401 - a fixture
from .conftest import pay_by_card
from .faults import Fault
from .trading import stock_up

pytestmark = pytest.mark.django_db

BILLING = "/o/northwind/billing/"
CARD, SAVE, MANAGE, SAVED = (f"{BILLING}card/{rest}" for rest in ("", "save/", "manage/", "saved/"))
CHECKOUT, PORTAL = "POST /v1/checkout/sessions", "POST /v1/billing_portal/sessions"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def by_card(organization, stripe_gateway):
    """`organization` pays by card and has saved none."""
    organization.gateway = "stripe"
    organization.save(update_fields=["gateway"])
    return organization


def leads_to(page):
    """The address of the only link out of `page`."""
    before, _, after = page.content.decode().partition('rel="noreferrer"')
    assert after
    return before.rpartition('href="')[2].partition('"')[0]


def text(response):
    return " ".join(response.content.decode().split())


def test_a_card_is_saved_at_stripe_and_shown_here(by_card, billing_client, stripe_world):
    assert "No card is saved" in text(billing_client.get(CARD))
    page = billing_client.post(SAVE)
    assert "Continue at Stripe" in text(page)
    back = stripe_world.visit(leads_to(page), card="tok_visa")
    assert back.endswith(SAVED)
    assert "Show my card" in text(billing_client.get(SAVED))
    shown = billing_client.post(SAVED, follow=True)
    assert shown.redirect_chain == [(CARD, 302)]
    assert "Visa •••• 4242 is the card that pays." in text(shown)
    assert "expires 09/2027" in text(shown)


def test_htmx_is_sent_to_stripe_at_once(by_card, owner_client, stripe_world):
    answer = owner_client.post(SAVE, headers=HTMX)
    assert answer.headers["HX-Redirect"].startswith(f"{stripe_world.url}/hosted/checkout/")


def test_somebody_who_stays_comes_back_to_where_they_were(by_card, owner_client, stripe_world):
    owner_client.post(SAVE)
    [session] = stripe_world.checkouts.values()
    assert session["cancel_url"].endswith(CARD)
    assert session["customer"] == Customer.objects.get().gateway_id


def test_two_people_saving_a_card_are_one_customer(
    by_card, owner_client, billing_client, stripe_world
):
    for client in (owner_client, billing_client):
        client.post(SAVE)
    assert len(stripe_world.all("/v1/customers")) == Customer.objects.count() == 1


def test_cards_are_changed_and_removed_in_the_portal(
    organization, owner_client, stripe_world, stripe_gateway
):
    pay_by_card(organization, stripe_world)
    portal = leads_to(owner_client.post(MANAGE))
    assert stripe_world.visit(portal, card="tok_mastercard").endswith(SAVED)
    assert "Mastercard •••• 4444" in text(owner_client.post(SAVED, follow=True))
    stripe_world.visit(portal, remove="1")
    assert "No card is there yet" in text(owner_client.post(SAVED))
    assert "No card is saved" in text(owner_client.get(CARD))


def test_the_return_page_waits_by_itself_a_few_times_and_then_leaves_it(by_card, owner_client):
    owner_client.post(SAVE)
    waiting = text(owner_client.post(SAVED, {"looks": "3"}, headers=HTMX))
    assert 'hx-trigger="load delay:3s"' in waiting
    assert '{"looks": 4}' in waiting
    last = text(owner_client.post(SAVED, {"looks": "9"}, headers=HTMX))
    assert "hx-trigger" not in last
    assert "Ask again" in last


def test_the_return_page_goes_on_as_soon_as_the_card_is_there(by_card, owner_client, stripe_world):
    url = leads_to(owner_client.post(SAVE))
    assert "No card is there yet" in text(owner_client.post(SAVED, headers=HTMX))
    stripe_world.visit(url, card="tok_amex")
    assert owner_client.post(SAVED, headers=HTMX).headers["HX-Redirect"] == CARD


def test_reading_the_return_page_asks_nobody(by_card, owner_client, stripe_world):
    owner_client.get(SAVED)
    assert stripe_world.calls == []


@pytest.mark.parametrize("looks", ["", "-1", "x", "9" * 30, "٣"])
def test_whatever_number_of_looks_is_sent_is_harmless(looks, by_card, owner_client):
    assert owner_client.post(SAVED, {"looks": looks}).status_code == 200


@pytest.mark.parametrize(("address", "call"), [(SAVE, CHECKOUT), (MANAGE, PORTAL)])
@pytest.mark.parametrize("fault", [Fault.TIME_OUT, Fault.UNAVAILABLE, Fault.GARBAGE])
def test_a_gateway_that_is_down_is_said_and_changes_nothing(
    address, call, fault, organization, owner_client, stripe_world, stripe_gateway
):
    pay_by_card(organization, stripe_world)
    stripe_world.fault(call, fault, times=9)
    answer = owner_client.post(address)
    assert answer.status_code == 409
    assert "cannot be reached now. Try again in a few minutes." in text(answer)
    assert "Visa •••• 4242" in text(answer)


def test_a_gateway_that_is_down_on_the_way_back_loses_nothing(by_card, owner_client, stripe_world):
    stripe_world.visit(leads_to(owner_client.post(SAVE)), card="tok_visa")
    stripe_world.fault("GET /v1/customers/*", Fault.TIME_OUT, times=3)
    assert "Stripe cannot be asked now" in text(owner_client.post(SAVED))
    assert "Visa •••• 4242" in text(owner_client.post(SAVED, follow=True))


def test_nobody_is_registered_when_stripe_is_down(by_card, owner_client, stripe_world):
    stripe_world.fault("POST /v1/customers", Fault.TIME_OUT, times=3)
    assert owner_client.post(SAVE).status_code == 409
    assert Customer.objects.get().gateway_id == ""
    assert owner_client.post(SAVE).status_code == 200
    assert len(stripe_world.all("/v1/customers")) == 1


@pytest.mark.parametrize("address", [SAVE, MANAGE])
def test_a_customer_who_is_gone_at_stripe_is_made_anew_by_the_next_click(
    address, organization, owner_client, stripe_world, stripe_gateway
):
    pay_by_card(organization, stripe_world)
    Customer.objects.update(gateway_id="cus_of_another_account")
    assert owner_client.post(address).status_code == 409
    customer = Customer.objects.get()
    assert (customer.gateway_id, customer.has_card) == ("", False)
    assert owner_client.post(SAVE).status_code == 200


@pytest.mark.parametrize(
    ("expires_on", "warning"),
    [
        (date(2020, 1, 31), "This card has expired"),
        (date(2099, 1, 31), None),
    ],
)
def test_a_card_that_expired_is_warned_about(expires_on, warning, payer, owner_client):
    payer.customers.update(expires_on=expires_on)
    for page in (CARD, BILLING):
        shown = text(owner_client.get(page))
        assert ("This card has expired" in shown) == bool(warning)
        assert "Visa •••• 4242" in shown


@pytest.mark.parametrize("address", [CARD, SAVE, MANAGE, SAVED])
@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_cards_are_for_people_of_billing(role, address, payer, request):
    client = signed_in(request.getfixturevalue(role))
    method = client.get if address in {CARD, SAVED} else client.post
    assert method(address).status_code == 403


def test_on_account_no_card_is_asked_for(organization, owner_client):
    assert "Invoices are paid by transfer here." in text(owner_client.get(CARD))
    assert "Payment card" not in text(owner_client.get(BILLING))
    for address in (SAVE, MANAGE):
        assert owner_client.post(address).status_code == 409
    assert not Customer.objects.exists()


@pytest.mark.parametrize("address", [SAVE, MANAGE])
def test_saving_takes_a_post(address, by_card, owner_client, stripe_world):
    assert owner_client.get(address).status_code == 405
    assert stripe_world.calls == []


@pytest.mark.usefixtures("prices")
@pytest.mark.parametrize("has_card", [False, True])
def test_a_purchase_without_a_card_is_warned_before_the_click(
    has_card, organization, owner, owner_client, stripe_world, stripe_gateway
):
    pay_by_card(organization, stripe_world)
    if not has_card:
        organization.customers.update(payment_method="")
    [row] = stock_up(1)
    Hold.objects.hold(organization, owner, [row.key], at=timezone.now())
    shown = text(owner_client.get("/o/northwind/numbers/purchase/quote/"))
    assert ("There is no card to pay with" in shown) == (not has_card)
    assert row.number[-4:] in shown


@pytest.mark.usefixtures("prices")
def test_on_account_a_purchase_needs_no_card(organization, owner, owner_client):
    [row] = stock_up(1)
    Hold.objects.hold(organization, owner, [row.key], at=timezone.now())
    assert "no card" not in text(owner_client.get("/o/northwind/numbers/purchase/quote/"))
