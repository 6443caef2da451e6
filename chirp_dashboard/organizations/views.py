from django.contrib import messages
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from .application_list import ApplicationList
from .forms import ApplicationForm, OrganizationForm, RenameForm, suggest_slug
from .models import Application
from .permissions import requires
from .refusals import Refused

ask_or_do = require_http_methods(["GET", "HEAD", "POST"])


@require_GET
def home(request):
    """Go to the only organization; with several, or with `?choose`, let the person pick."""
    memberships = request.user.memberships.select_related("organization")
    memberships = memberships.order_by("organization__name", "id")
    if len(memberships) == 1 and "choose" not in request.GET:
        return redirect("numbers:overview", memberships[0].organization.slug)
    return render(request, "organizations/home.html", {"memberships": memberships})


def go(request, *where):
    """Leave a form that was saved, from a page or from a dialog."""
    address = resolve_url(*where)
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)


# Applications ---------------------------------------------------------------------------------


@require_GET
@requires("view_numbers")
def application_list(request, org):
    page = ApplicationList(request.organization, request.GET)
    if not request.htmx:
        return render(request, "organizations/application_list.html", {"page": page})
    response = render(request, "organizations/_application_table.html", {"page": page})
    return trigger_client_event(response, "announce", {"text": page.announcement})


@ask_or_do
@requires("manage_applications")
def application_create(request, org):
    organization = request.organization
    form = ApplicationForm(request.POST or None, organization=organization)
    if request.method == "POST" and form.is_valid():
        try:
            application = Application.objects.add(
                organization, **form.cleaned_data, by=request.user, at=timezone.now()
            )
        except Refused as refusal:
            form.add_error("slug", str(refusal))
        else:
            messages.success(request, f"Created {application}.")
            return go(request, "numbers:application_numbers", org, application.slug)
    context = {"form": form, "suggested": request.POST.get("suggested", "")}
    return question(request, "application_create", context)


@require_GET
@requires("manage_applications")
def application_slug(request, org):
    """The slug field again, with a slug for the name typed unless somebody wrote their own."""
    typed = {
        key: request.GET.get(key, "").replace("\0", "")[:120]
        for key in ("name", "slug", "suggested")
    }
    if typed["slug"] in {"", typed["suggested"]}:
        name = typed["name"].strip()
        typed["slug"] = typed["suggested"] = (
            suggest_slug(request.organization, name) if name else ""
        )
    form = ApplicationForm(initial={"slug": typed["slug"]}, organization=request.organization)
    context = {"form": form, "suggested": typed["suggested"]}
    return render(request, "organizations/_application_slug.html", context)


@require_GET
@requires("view_numbers")
def application_settings(request, org, slug):
    return settings_page(request, find_application(request, slug))


@require_POST
@requires("manage_applications")
def application_rename(request, org, slug):
    application = find_application(request, slug)
    form = RenameForm(request.POST)
    if not form.is_valid():
        return settings_page(request, application, "_application_name", name_form=form, status=422)
    try:
        application.rename(**form.cleaned_data, by=request.user, at=timezone.now())
    except Refused as refusal:
        return settings_page(
            request, application, "_application_name", name_refusal=refusal, status=409
        )
    messages.success(request, "Name saved.")
    return go(request, "organizations:application_settings", org, slug)


def find_application(request, slug):
    return get_object_or_404(Application, organization=request.organization, slug=slug)


def settings_page(request, application, section=None, *, status=200, **given):
    """The settings of `application`; to htmx only the `section` that was sent."""
    context = {
        "application": application,
        "webhooks": list(application.webhooks.order_by("id")),
        "name_form": RenameForm(initial={"name": application.name}),
    }
    fragment = section if section and request.htmx else "application_settings"
    return render(request, f"organizations/{fragment}.html", context | given, status=status)


def question(request, name, context, *, status=200):
    """A form that is the body of a dialog, or a page of its own."""
    form = context.get("form")
    if form and form.errors:
        status = 422
    fragment = f"_{name}" if request.htmx else name
    return render(request, f"organizations/{fragment}.html", context, status=status)


# The organization -----------------------------------------------------------------------------


@require_GET
@requires("view_numbers")
def settings(request, org):
    return organization_page(request)


@require_POST
@requires("manage_settings")
def change_settings(request, org):
    organization = request.organization
    form = OrganizationForm(
        request.POST, organization=organization, terms_are_fixed=organization.terms_are_fixed()
    )
    if not form.is_valid():
        return organization_page(request, form=form, status=422)
    try:
        organization.change_settings(form.cleaned_data, by=request.user, at=timezone.now())
    except Refused as refusal:
        return organization_page(request, refusal=refusal, status=409)
    messages.success(request, "Settings saved.")
    return go(request, "organizations:settings", org)


def organization_page(request, *, form=None, refusal=None, status=200):
    organization = request.organization
    terms_are_fixed = organization.terms_are_fixed()
    context = {
        "form": form
        or OrganizationForm(organization=organization, terms_are_fixed=terms_are_fixed),
        "refusal": refusal,
        "terms_are_fixed": terms_are_fixed,
        "members": organization.memberships.by_strength().select_related("user"),
    }
    fragment = "_settings_form" if request.htmx and request.method == "POST" else "settings"
    return render(request, f"organizations/{fragment}.html", context, status=status)
