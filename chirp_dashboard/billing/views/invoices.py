from django.conf import settings
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard.billing import lists
from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.statement import shown
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_billing")
def invoice(request, org, invoice):
    organization = request.organization
    invoice = get_object_or_404(organization.invoices.select_related("order"), public_id=invoice)
    context = {
        "invoice": shown(invoice, organization, organization.local_date(timezone.now())),
        "is_paid_by_transfer": not gateway_for(organization).collects_orders,
        "bank": settings.SELLER_BANK,
        "list": lists.Lines(invoice, request.GET),
    }
    template = "billing/_lines.html" if request.htmx else "billing/invoice.html"
    return render(request, template, context)
