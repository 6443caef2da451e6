"""`stripe_world`: a Stripe account of the test's own, behind an edge that misbehaves on request."""

import json
import time

import pytest
from django.db import connection

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.gateways.stripe import StripeGateway
from chirp_dashboard.billing.models import Customer

from ...conftest import unavailable
from . import world as counterpart
from .edge import Edge

SECRET_KEY = "sk_test_51NorthwindOnlyForTests000"
WEBHOOK_SECRET = "whsec_OnlyForTests"


@pytest.fixture(scope="session")
def stripe_edge():
    python = counterpart.find_python()
    if python is None:
        # Debian 12 has none, so this stays a skip even where everything is required.
        pytest.skip(
            "no Python 3.13 or newer for the Stripe counterpart: name one in STRIPE_WORLD_PYTHON"
        )
    try:
        with counterpart.serving(counterpart.environment(python)) as address:
            edge = Edge(address)
            yield edge
            edge.shutdown()
            edge.server_close()
    except counterpart.Unavailable as failure:
        unavailable(f"no environment for the Stripe counterpart with {python}: {failure}")


@pytest.fixture
def stripe_world(stripe_edge):
    """A fresh Stripe account: `url`, `fault()`, `count()`, `ask()`, `all()`, `events()`, `add_card()`."""
    world = stripe_edge.open()
    yield world
    stripe_edge.shut(world)


@pytest.fixture
def stripe_gateway(stripe_world, settings, monkeypatch):
    """The Stripe gateway, registered and talking to `stripe_world`; it waits for nothing between tries.

    Fails the test that calls it inside a transaction other than the test's own.
    """
    settings.STRIPE_SECRET_KEY = SECRET_KEY
    settings.STRIPE_WEBHOOK_SECRETS = [WEBHOOK_SECRET]
    settings.STRIPE_API_BASE = stripe_world.url
    gateway = StripeGateway()
    gateway.waits = []
    monkeypatch.setattr(gateway, "pause", gateway.waits.append)
    monkeypatch.setattr(gateway, "ask", outside_transactions(gateway.ask))
    monkeypatch.setitem(GATEWAYS, "stripe", gateway)
    return gateway


def slow(*values):
    """A case for `make test-all` only."""
    return pytest.param(*values, marks=pytest.mark.slow)


def outside_transactions(ask):
    def guarded(*args, **kwargs):
        ours = [block for block in connection.atomic_blocks if not block._from_testcase]
        assert not ours, "The gateway was called inside a database transaction."
        return ask(*args, **kwargs)

    return guarded


@pytest.fixture
def stripe_environment(stripe_world, process_environment):
    """`process_environment` of a process that pays through `stripe_world`."""
    return process_environment | {
        "STRIPE_SECRET_KEY": SECRET_KEY,
        "STRIPE_WEBHOOK_SECRETS": WEBHOOK_SECRET,
        "STRIPE_API_BASE": stripe_world.url,
    }


@pytest.fixture
def payer(organization, stripe_world, stripe_gateway):
    """`organization`, paying through Stripe with a saved Visa card."""
    return pay_by_card(organization, stripe_world)


def pay_by_card(organization, world, token="tok_visa"):
    """Let `organization` pay through Stripe with the test card `token`."""
    organization.gateway = "stripe"
    organization.save(update_fields=["gateway"])
    customer = Customer.objects.ensure(organization, at=organization.created_at)
    change_card(customer, world, token)
    return organization


def change_card(customer, world, token):
    """Save the test card `token` at Stripe, and read which it is."""
    world.add_card(customer.gateway_id, token)
    customer.refresh()
    return customer


def signed(event, secret=WEBHOOK_SECRET, at=None):
    """`(body, header)` as Stripe sends `event`: Client().post(url, body, "application/json", headers=…)."""
    from stripe import WebhookSignature

    body = json.dumps(event)
    header = WebhookSignature.generate_signature_header(
        body, secret, timestamp=int(at or time.time())
    )
    return body.encode(), {"stripe-signature": header}
