"""`{% payment_card %}`: the saved card, wherever it is shown."""

from django import template
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS

register = template.Library()


@register.inclusion_tag("billing/_card_panel.html", takes_context=True)
def payment_card(context):
    """A panel with the card that pays; draws nothing where none is needed, and for people who may not."""
    request = context["request"]
    if not request.can.manage_billing:
        return {}
    return card_of(request.organization, at=timezone.now()) | {"request": request}


def card_of(organization, *, at):
    """What templates show of the card of `organization`."""
    gateway = GATEWAYS.get(organization.gateway)
    if gateway is None or not gateway.saves_cards:
        return {"saves_cards": False}
    customer = organization.customers.filter(gateway=gateway.name).first()
    expiry = customer.expiry(organization.local_date(at)) if customer else ""
    return {"saves_cards": True, "customer": customer, "expiry": expiry}
