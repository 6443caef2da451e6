"""The calendar of billing: a page, and a feed that calendar programs read without a sign-in."""

import hashlib
from urllib.parse import urlsplit

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_GET, require_POST, require_safe

from chirp_dashboard.billing import ical
from chirp_dashboard.billing.agenda import Agenda
from chirp_dashboard.billing.models import CalendarFeed
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.organizations.permissions import requires

from .exports import today


@require_GET
@requires("view_billing")
def calendar(request, org):
    return page(request)


def page(request, *, secret=""):
    feeds = CalendarFeed.objects.open().filter(
        organization=request.organization, person=request.user
    )
    context = {
        "agenda": Agenda(Statement(request.organization, today(request))),
        "feed": feeds.first(),
        "address": secret and absolute(reverse("calendar_feed", args=[secret])),
    }
    return render(request, "billing/calendar.html", context)


def absolute(path):
    return f"{settings.BASE_URL}{path}"


@require_POST
@requires("manage_billing")
def renew_feed(request, org):
    """Make an address; one made before stops working. The answer is the only time it is shown."""
    secret = CalendarFeed.objects.issue(request.organization, request.user, at=timezone.now())
    return page(request, secret=secret)


@require_POST
@requires("manage_billing")
def revoke_feed(request, org):
    if CalendarFeed.objects.revoke(request.organization, request.user, at=timezone.now()):
        messages.success(request, "The calendar address no longer works.")
    return redirect("billing:calendar", org)


@require_safe
@login_not_required
def feed(request, secret):
    at = timezone.now()
    feed = CalendarFeed.objects.find(secret)
    if feed is None:
        raise Http404("No such calendar.")
    feed.note_use(at=at)
    organization = feed.organization
    on = organization.local_date(at)
    body = ical.calendar(
        f"{organization} billing",
        Agenda(Statement(organization, on)).events,
        host=f"{organization.slug}.{urlsplit(settings.BASE_URL).hostname}",
        on=on,
        link=absolute(reverse("billing:calendar", args=[organization.slug])),
    )
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    response = HttpResponse(body, content_type="text/calendar; charset=utf-8")
    response.headers["Cache-Control"] = "private, max-age=3600"
    response.headers["ETag"] = etag
    response.headers["Content-Disposition"] = 'inline; filename="billing.ics"'
    return get_conditional_response(request, etag=etag, response=response)
