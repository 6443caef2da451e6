from django.conf import settings

from .account import AccountGateway
from .base import Answer, Gateway, Outcome
from .stripe import StripeGateway
from .test import TestGateway

GATEWAYS = {gateway.name: gateway for gateway in (AccountGateway(), TestGateway())}
if settings.STRIPE_SECRET_KEY:
    GATEWAYS[StripeGateway.name] = StripeGateway()
MISSING = {StripeGateway.name: "STRIPE_SECRET_KEY is not set"}

__all__ = [
    "GATEWAYS",
    "Answer",
    "Gateway",
    "Outcome",
    "StripeGateway",
    "TestGateway",
    "UnknownGateway",
    "gateway_for",
]


class UnknownGateway(Exception):
    """An organization names a gateway this deployment does not have."""


def gateway_for(payer):
    """The gateway of anything that names one: an organization, an order, a payment."""
    gateway = GATEWAYS.get(payer.gateway)
    if gateway is None or (gateway.collects_no_money and settings.PRODUCTION):
        why = f": {MISSING[payer.gateway]}" if payer.gateway in MISSING else ""
        raise UnknownGateway(
            f"{payer} pays through “{payer.gateway}”, which is not set up here{why}."
        )
    return gateway
