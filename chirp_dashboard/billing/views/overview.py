from django.shortcuts import render
from django.views.decorators.http import require_GET
from django_htmx.http import trigger_client_event

from chirp_dashboard.billing import lists
from chirp_dashboard.billing.chart import Chart
from chirp_dashboard.billing.forecast import Forecast
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.organizations.permissions import requires

from .exports import today, wanted


@require_GET
@requires("view_billing")
def overview(request, org):
    statement = Statement(request.organization, today(request))
    context = {"statement": statement, "chart": Chart.of(statement)}
    return render(request, "billing/overview.html", context)


@require_GET
@requires("view_billing")
def forecast(request, org):
    forecast = Forecast(Statement(request.organization, today(request)))
    return render(request, "billing/forecast.html", {"forecast": forecast})


def listed(request, rows, *, name, **context):
    """The page billing/<name>.html, or for htmx its list alone; `rows` are the list."""
    context |= {"list": rows}
    if not request.htmx:
        return render(request, f"billing/{name}.html", context)
    response = render(request, f"billing/_{name}.html", context)
    return trigger_client_event(response, "announce", {"text": f"{len(rows.rows)} shown"})


@require_GET
@requires("view_billing")
def charges(request, org):
    number = wanted(request)
    rows = lists.Ledger(request.organization, number, request.GET)
    months = lists.months_back(today(request))
    return listed(request, rows, name="charges", number=number, months=months)


@require_GET
@requires("view_billing")
def documents(request, org):
    rows = lists.Documents(request.organization, today(request), request.GET)
    return listed(request, rows, name="documents")


@require_GET
@requires("view_billing")
def payments(request, org):
    return listed(request, lists.Payments(request.organization, request.GET), name="payments")


@require_GET
@requires("view_billing")
def per_number(request, org):
    rows = lists.CostPerNumber(request.organization, request.GET)
    return listed(request, rows, name="per_number")
