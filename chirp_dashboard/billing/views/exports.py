"""What the lists show, as CSV: the filter that is set, every page of it."""

from django.shortcuts import get_object_or_404
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard import spreadsheet
from chirp_dashboard.billing import lists
from chirp_dashboard.billing.forecast import Forecast
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.organizations.permissions import requires


def today(request):
    return request.organization.local_date(timezone.now())


def download(request, rows):
    name = spreadsheet.file_name(request.organization, rows.file, on=today(request))
    return spreadsheet.download(name, rows.csv())


@require_GET
@requires("view_billing")
def charges(request, org):
    return download(request, lists.Ledger(request.organization, wanted(request), request.GET))


def wanted(request):
    """The number the address asks for, or None."""
    number = request.GET.get("number", "").replace("\0", "")
    if not number:
        return None
    return get_object_or_404(request.organization.phone_numbers, public_id=number)


@require_GET
@requires("view_billing")
def documents(request, org):
    return download(request, lists.Documents(request.organization, today(request), request.GET))


@require_GET
@requires("view_billing")
def payments(request, org):
    return download(request, lists.Payments(request.organization, request.GET))


@require_GET
@requires("view_billing")
def per_number(request, org):
    return download(request, lists.CostPerNumber(request.organization, request.GET))


@require_GET
@requires("view_billing")
def forecast(request, org):
    organization, on = request.organization, today(request)
    name = spreadsheet.file_name(organization, "forecast", on=on)
    rows = Forecast(Statement(organization, on)).table()
    return spreadsheet.download(name, [spreadsheet.written(rows)])
