"""Test numbers of a test application: they are added here, and cost nothing."""

from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from chirp_dashboard.numbers.forms.testing import TestNumberForm
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.numbers.models.testing import UNAVAILABLE, UNPAID
from chirp_dashboard.organizations.models import Application
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused

from .answers import ask_or_do, drawn, posted
from .assignments import shown_list, step_of


@ask_or_do
@requires("purchase_numbers")
def add_test(request, org, slug):
    application = get_object_or_404(Application, organization=request.organization, slug=slug)
    application.organization = request.organization
    offered = PhoneNumber.objects.free_serial(request.organization)
    form = TestNumberForm(posted(request), offered=offered)
    if request.method != "POST" or not form.is_valid():
        return ask(request, application, form, status=422 if form.errors else 200)
    wanted = form.cleaned_data
    try:
        number = PhoneNumber.objects.add_test(
            application, wanted["number"], number_type=wanted["number_type"],
            by=request.user, at=timezone.now(),
        )  # fmt: skip
    except Refused as refusal:
        there = PhoneNumber.objects.tests_of(request.organization).filter(number=wanted["number"])
        return ask(request, application, form, refusal=refusal, there=there.first(), status=409)
    return added(request, application, number)


def ask(request, application, form, *, refusal=None, there=None, status):
    """The form, with what was typed; after a refusal with the number that is `there` already."""
    context = {
        "application": application,
        "form": form,
        "refusal": refusal,
        "there": there,
        "row": [drawn(request, there)] if there else [],
        "gone": UNAVAILABLE,
        "unpaid": UNPAID,
        "list": shown_list(request, application) if refusal else None,
    }
    return step_of(request, "_add_test", context, status=status)


def added(request, application, number):
    """The application's list with the new number; on another page, lead there."""
    text = f"Added {number}. It costs nothing."
    numbers = shown_list(request, application)
    if numbers:
        response = render(request, "numbers/_test_added.html", {"list": numbers, "text": text})
        return trigger_client_event(response, "close-dialog")
    messages.success(request, text)
    address = resolve_url(
        "numbers:application_numbers", request.organization.slug, application.slug
    )
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)
