"""`{% payment_card %}` and `{% card_needed %}`: the saved card, wherever it is shown or missed."""

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


@register.inclusion_tag("billing/_card_needed.html", takes_context=True)
def card_needed(context, total):
    """Says before a purchase of `total` that there is no card to pay it with."""
    request = context["request"]
    organization = request.organization
    gateway = GATEWAYS.get(organization.gateway)
    is_paid_at_once = gateway is not None and gateway.collects_order_of(
        total, organization.currency
    )
    is_needed = is_paid_at_once and gateway.saves_cards and not gateway.can_collect(organization)
    return {"request": request, "is_needed": is_needed}


def card_of(organization, *, at):
    """What templates show of the card of `organization`."""
    gateway = GATEWAYS.get(organization.gateway)
    if gateway is None or not gateway.saves_cards:
        return {"saves_cards": False}
    customer = organization.customers.filter(gateway=gateway.name).first()
    expiry = customer.expiry(organization.local_date(at)) if customer else ""
    return {"saves_cards": True, "customer": customer, "expiry": expiry}
