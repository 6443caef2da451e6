"""Which applications a number belongs to: an application's numbers, assign, remove, move."""

from dataclasses import replace
from urllib.parse import urlencode

from django.http import QueryDict
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_GET

from chirp_dashboard.numbers.forms.assignments import ApplicationForm, MoveForm
from chirp_dashboard.numbers.listing import NumberList, Wanted
from chirp_dashboard.numbers.picking import Picker
from chirp_dashboard.organizations.models import Application
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused

from .answers import (
    address_of,
    ask_or_do,
    changed,
    find_number,
    open_view,
    question,
    refused,
    today,
)
from .numbers import draw_list


@require_GET
@requires("view_numbers")
def application_numbers(request, org, slug):
    numbers = numbers_of(request, slug, request.GET, path=request.path)
    if numbers.here is None:
        archived = get_object_or_404(Application, organization=request.organization, slug=slug)
        return render(request, "numbers/archived_application.html", {"application": archived})
    return draw_list(request, numbers, page="numbers/application_numbers.html")


def numbers_of(request, slug, asked, *, path):
    wanted = replace(Wanted.read(asked), application="", state="", kind="")
    return NumberList(request.organization, wanted, path=path, on=today(request), slug=slug)


# One number, one application -------------------------------------------------------------------


@ask_or_do
@requires("assign_numbers")
def assign_number(request, org, number):
    number = find_number(request, number)
    form = ApplicationForm(given(request, "application"), number=number)
    if request.method != "POST" or not form.is_valid():
        return question(
            request, "assign_number", number, {"form": form, "applications": fitting(number)}
        )
    application = form.cleaned_data["application"]
    try:
        number.assign(application, by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Not assigned", refusal)
    undo = f"{address_of(number, 'remove')}?{urlencode({'application': application.slug})}"
    return changed(request, number, f"Assigned to {application}.", undo=undo)


@ask_or_do
@requires("assign_numbers")
def remove(request, org, number):
    number = find_number(request, number)
    form = ApplicationForm(given(request, "application"), number=number)
    if request.method != "POST" or not form.is_valid():
        return question(request, "remove", number, {"form": form, "applications": assigned(number)})
    application = form.cleaned_data["application"]
    try:
        number.remove(application, by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Nothing was removed", refusal)
    undo = f"{address_of(number, 'assign_number')}?{urlencode({'application': application.slug})}"
    return changed(request, number, f"Removed from {application}.", undo=undo)


@ask_or_do
@requires("assign_numbers")
def move(request, org, number):
    number = find_number(request, number)
    form = MoveForm(given(request, "from", "to"), number=number)
    if request.method != "POST" or not form.is_valid():
        return question(
            request, "move", number,
            {"form": form, "sources": assigned(number), "targets": fitting(number)},
        )  # fmt: skip
    source, target = form.cleaned_data["from"], form.cleaned_data["to"]
    try:
        number.move(source, target, by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Not moved", refusal)
    undo = f"{address_of(number, 'move')}?{urlencode({'from': target.slug, 'to': source.slug})}"
    return changed(request, number, f"Moved from {source} to {target}.", undo=undo)


def given(request, *names):
    """What was posted; an Undo button posts nothing but names it in its address."""
    if request.method != "POST":
        return None
    return {name: request.POST.get(name) or request.GET.get(name) for name in names}


def assigned(number):
    """The applications the number is in, longest first."""
    open_ones = number.assignments.open().select_related("application")
    return [each.application for each in open_ones.order_by("assigned_at", "id")]


def fitting(number):
    """The applications the number could be assigned to."""
    kind = Application.Kind.TEST if number.is_test else Application.Kind.LIVE
    applications = Application.objects.open().filter(organization=number.organization, kind=kind)
    return applications.exclude(pk__in=number.assignments.open().values("application"))


# Many numbers, one application -----------------------------------------------------------------


@ask_or_do
@requires("assign_numbers")
def assign(request, org, slug):
    """Search and choose, confirm, then assign: three steps of one address."""
    application = get_object_or_404(Application, organization=request.organization, slug=slug)
    asked = request.POST if request.method == "POST" else request.GET
    application.organization = request.organization
    picker = Picker(application, asked, on=today(request))
    if request.method == "POST" and picker.chosen:
        return assign_chosen(request, picker)
    context = {"application": application, "picker": picker}
    if request.htmx.target == "picker-options":
        return render(request, "numbers/_picker_options.html", context)
    step = "_assign_confirm" if picker.is_confirming else "_assign"
    status = 422 if request.method == "POST" or picker.problem else 200
    return step_of(request, step, context, status=status)


def assign_chosen(request, picker):
    """Assign each number chosen in a transaction of its own, and say of each what became of it."""
    at = timezone.now()
    outcomes = [
        (number, assign_one(number, picker.application, by=request.user, at=at))
        for number in picker.chosen
    ]
    context = {
        "application": picker.application,
        "outcomes": outcomes,
        "done": sum(not refusal for _, refusal in outcomes),
        "refusals": sum(bool(refusal) for _, refusal in outcomes),
    }
    context["list"] = shown_list(request, picker.application)
    return step_of(request, "_assigned", context, status=200 if context["done"] else 409)


def shown_list(request, application):
    """The application's list as it stands open behind the dialog; None where another page does."""
    view, arguments, query = open_view(request) if request.htmx else ("", {}, "")
    if view != "numbers:application_numbers" or arguments["slug"] != application.slug:
        return None
    path = request.htmx.current_url_abs_path.partition("?")[0]
    return numbers_of(request, application.slug, QueryDict(query), path=path)


def assign_one(number, application, *, by, at):
    """Why the number was not assigned; "" if it was."""
    try:
        number.assign(application, by=by, at=at)
    except Refused as refusal:
        return str(refusal)
    return ""


def step_of(request, name, context, *, status=200):
    """Draw `name.html` in the dialog, or as a page."""
    context["layout"] = "_question.html" if request.htmx else "numbers/assign.html"
    return render(request, f"numbers/{name}.html", context, status=status)
