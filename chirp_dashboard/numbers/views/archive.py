"""Archiving an application: here and not in `organizations`, because it ends assignments."""

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.organizations.models import COUNTED_TO, Application
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused


@require_http_methods(["GET", "HEAD", "POST"])
@requires("manage_applications")
def archive_application(request, org, slug):
    applications = Application.objects.with_numbers()
    application = get_object_or_404(applications, organization=request.organization, slug=slug)
    if request.method != "POST":
        return question(request, application)
    try:
        ended = Assignment.objects.archive(application, by=request.user, at=timezone.now())
    except Refused as refusal:
        return question(request, application, refusal=refusal, status=409)
    messages.success(request, f"Archived {application}. {kept(ended)}")
    address = resolve_url("organizations:application_list", org)
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


def question(request, application, *, refusal=None, status=200):
    alone = Assignment.objects.open().filter(
        application=application, phone_number__assignment_count=1
    )
    context = {
        "application": application,
        "alone": len(alone.values_list("pk")[: COUNTED_TO + 1]),
        "counted_to": COUNTED_TO,
        "refusal": refusal,
    }
    fragment = "_archive_application" if request.htmx else "archive_application"
    return render(request, f"numbers/{fragment}.html", context, status=status)


def kept(ended):
    if not ended:
        return "It had no phone numbers."
    if ended == 1:
        return "Its phone number stays in your organization."
    return f"Its {ended:,} phone numbers stay in your organization."
