from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard.numbers.overview import Overview
from chirp_dashboard.numbers.recent import recent
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_numbers")
def overview(request, org):
    organization = request.organization
    context = {
        "overview": Overview(organization, on=organization.local_date(timezone.now())),
        "recent": recent(organization, with_money=request.can.view_billing),
    }
    return render(request, "numbers/overview.html", context)
