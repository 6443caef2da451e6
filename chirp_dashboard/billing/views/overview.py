from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET
from django_htmx.http import trigger_client_event

from chirp_dashboard.billing import lists
from chirp_dashboard.billing.chart import Chart
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_billing")
def overview(request, org):
    organization = request.organization
    on = organization.local_date(timezone.now())
    before = request.GET.get("invoices", "")
    statement = Statement(organization, on, before=int(before) if is_number(before) else None)
    if request.htmx.target == "invoices":
        return render(request, "billing/_invoices.html", {"statement": statement})
    per_number = lists.CostPerNumber(organization, request.GET)
    if request.htmx.target == "per-number":
        response = render(request, "billing/_per_number.html", {"list": per_number})
        return trigger_client_event(response, "announce", {"text": f"{len(per_number.rows)} shown"})
    chart = Chart(
        statement.months,
        (statement.next_invoice_on, statement.forecast),
        organization.currency,
    )
    context = {"statement": statement, "chart": chart, "list": per_number}
    return render(request, "billing/overview.html", context)


def is_number(text):
    """Is `text` the number of an invoice that could exist?"""
    return text.isascii() and text.isdigit() and len(text) < 19


@require_GET
@requires("view_billing")
def charges(request, org):
    organization = request.organization
    number = None
    if wanted := request.GET.get("number", ""):
        number = get_object_or_404(organization.phone_numbers, public_id=wanted.replace("\0", ""))
    context = {"list": lists.Ledger(organization, number, request.GET), "number": number}
    template = "billing/_ledger.html" if request.htmx else "billing/charges.html"
    return render(request, template, context)
