"""API keys: of an application, and of the organization. A new one is shown on the answer, once."""

from django.contrib import messages
from django.http import Http404
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from .forms import RenameForm
from .models import ApiKey
from .permissions import requires
from .refusals import Refused
from .views import ask_or_do, find_application, go


@require_GET
@requires("manage_keys")
def application_keys(request, org, slug):
    application = find_application(request, slug)
    keys = ApiKey.objects.filter(application=application)
    return key_page(request, keys, application=application)


@ask_or_do
@never_cache
@requires("manage_keys")
def application_key_create(request, org, slug):
    return create(request, application=find_application(request, slug))


@ask_or_do
@requires("manage_keys")
def application_key_revoke(request, org, slug, key):
    application = find_application(request, slug)
    return revoke(request, ApiKey.objects.filter(application=application), key, application)


@require_GET
@requires("manage_admin_keys")
def admin_keys(request, org):
    return key_page(request, own_keys(request))


@ask_or_do
@never_cache
@requires("manage_admin_keys")
def admin_key_create(request, org):
    return create(request)


@ask_or_do
@requires("manage_admin_keys")
def admin_key_revoke(request, org, admin_key):
    return revoke(request, own_keys(request), admin_key)


# Parts ----------------------------------------------------------------------------------------


def own_keys(request):
    return ApiKey.objects.filter(organization=request.organization, kind=ApiKey.Kind.ADMIN)


def key_page(request, keys, *, application=None):
    shown = list(keys.in_use().select_related("created_by").order_by("-id"))
    context = {"application": application, "keys": shown}
    return render(request, "organizations/keys.html", context)


def create(request, *, application=None):
    """Ask for a name; the answer to a valid one shows the secret, which nobody can see again."""
    form = RenameForm(request.POST or None)
    context = {"form": form, "application": application}
    status = 200
    if request.method == "POST" and form.is_valid():
        try:
            context["key"], context["secret"] = ApiKey.objects.issue(
                request.organization, name=form.cleaned_data["name"], application=application,
                by=request.user, at=timezone.now(),
            )  # fmt: skip
        except Refused as refusal:
            context["refusal"], status = refusal, 409
    elif request.method == "POST":
        status = 422
    fragment = "_key_create" if request.htmx else "key_create"
    return render(request, f"organizations/{fragment}.html", context, status=status)


def revoke(request, keys, public_id, application=None):
    key = keys.filter(public_id=public_id).select_related("application", "organization").first()
    if key is None:
        raise Http404
    if request.method != "POST":
        fragment = "_key_revoke" if request.htmx else "key_revoke"
        context = {"key": key, "application": application}
        return render(request, f"organizations/{fragment}.html", context)
    key.revoke(by=request.user, at=timezone.now())
    messages.success(request, f"Revoked {key}.")
    if application:
        return go(
            request, "organizations:application_keys", request.organization.slug, application.slug
        )
    return go(request, "organizations:admin_keys", request.organization.slug)
