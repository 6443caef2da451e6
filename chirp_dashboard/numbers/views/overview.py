from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.numbers.overview import Overview
from chirp_dashboard.numbers.recent import recent
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_numbers")
def overview(request, org):
    organization = request.organization
    on = organization.local_date(timezone.now())
    context = {
        "overview": Overview(organization, on=on),
        "recent": recent(organization, with_money=request.can.view_billing),
    }
    if request.can.view_billing:
        context["statement"] = Statement(organization, on=on)
    return render(request, "numbers/overview.html", context)
