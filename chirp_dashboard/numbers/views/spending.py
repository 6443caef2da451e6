from urllib.parse import urlencode

from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard import spreadsheet
from chirp_dashboard.numbers.spending import NOT_ASSIGNED, Spending, SpendingOf
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_billing")
def spending(request, org):
    """Spend per application of a month, or with `application` the numbers of one."""
    spending = asked(request)
    if slug := request.GET.get("application", "").replace("\0", ""):
        return numbers_of(request, spending, slug)
    if request.htmx and "panel" in request.GET:
        return render(request, "numbers/_spending_panel.html", {"spending": spending})
    return render(request, "numbers/spending.html", {"spending": spending})


def asked(request):
    organization = request.organization
    return Spending(organization, organization.local_date(timezone.now()), request.GET)


def numbers_of(request, spending, slug):
    application = None
    if slug != NOT_ASSIGNED:
        application = get_object_or_404(request.organization.applications, slug=slug)
    part = SpendingOf(spending, application, after=request.GET.get("after", ""))
    here = {"month": spending.value, "application": part.slug}
    context = {
        "spending": spending,
        "part": part,
        "older": part.older and "?" + urlencode(here | {"after": part.older}),
        "first": "?" + urlencode(here) if part.after else "",
    }
    return render(request, "numbers/spending_of.html", context)


@require_GET
@requires("view_billing")
def spending_csv(request, org):
    spending = asked(request)
    name = spreadsheet.file_name(
        request.organization, f"applications-{spending.value}", on=spending.on
    )
    return spreadsheet.download(name, [spreadsheet.written(spending.table())])
