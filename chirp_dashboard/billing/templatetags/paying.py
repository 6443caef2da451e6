"""`{% pay_now %}`: the button that collects what is due, wherever it is shown."""

from django import template

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.models import Payment

register = template.Library()


@register.inclusion_tag("billing/_pay.html", takes_context=True)
def pay_now(context, invoice=None):
    """The button for `invoice` and older ones, else for all that is due; or what the last attempt is at.

    Draws nothing where invoices are paid by transfer, where nothing is due, and for people who may not.
    """
    request = context["request"]
    organization = request.organization
    gateway = gateway_for(organization)
    shown = {"request": request, "csrf_token": context.get("csrf_token")}
    if not gateway.collects_invoices or not request.can.manage_billing:
        return shown
    invoice = invoice or organization.invoices.unpaid().last()
    amount = Payment.objects.amount_due(invoice) if invoice and not invoice.is_paid else 0
    if not amount:
        return shown
    return shown | {
        "invoice": invoice,
        "amount": amount,
        "currency": organization.currency,
        "attempt": Payment.objects.latest_attempt(organization),
        "has_card": gateway.can_collect(organization),
        "waits": amount < gateway.minimum(organization.currency),
    }
