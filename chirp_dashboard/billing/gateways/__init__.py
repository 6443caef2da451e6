from .account import AccountGateway
from .base import Answer, Gateway, Outcome

GATEWAYS = {gateway.name: gateway for gateway in (AccountGateway(),)}

__all__ = ["GATEWAYS", "Answer", "Gateway", "Outcome", "gateway_for"]


def gateway_for(payer):
    """The gateway of anything that names one: an organization, an order, a payment."""
    return GATEWAYS[payer.gateway]
