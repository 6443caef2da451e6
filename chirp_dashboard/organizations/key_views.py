"""API keys: of an application, and of the organization. A new one is shown on the answer, once."""

from django.contrib import messages
from django.http import Http404
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET
from django_htmx.http import trigger_client_event

from .forms import KeyForm
from .models import ApiKey
from .permissions import requires
from .proof import fresh_proof
from .refusals import Refused
from .views import ask_or_do, find_application, go


@require_GET
@requires("manage_keys")
def application_keys(request, org, slug):
    return key_page(request, find_application(request, slug))


@ask_or_do
@never_cache
@requires("manage_keys")
@fresh_proof
def application_key_create(request, org, slug):
    return create(request, find_application(request, slug))


@ask_or_do
@requires("manage_keys")
def application_key_revoke(request, org, slug, key):
    return revoke(request, key, find_application(request, slug))


@require_GET
@requires("manage_admin_keys")
def admin_keys(request, org):
    return key_page(request)


@ask_or_do
@never_cache
@requires("manage_admin_keys")
@fresh_proof
def admin_key_create(request, org):
    return create(request)


@ask_or_do
@requires("manage_admin_keys")
def admin_key_revoke(request, org, admin_key):
    return revoke(request, admin_key)


# Parts ----------------------------------------------------------------------------------------


def keys_of(request, application):
    """The keys of `application`; without one, the admin keys."""
    return ApiKey.objects.filter(organization=request.organization, application=application)


def listed(request, application):
    keys = list(keys_of(request, application).listed())
    return {
        "application": application,
        "keys": [key for key in keys if key.revoked_at is None],
        "revoked": [key for key in keys if key.revoked_at],
        "now": timezone.now(),
    }


def key_page(request, application=None):
    return render(request, "organizations/keys.html", listed(request, application))


def answer(request, name, context, *, status=200, changed=False):
    """A dialog or a page of its own; the dialog brings the list along where that may have changed."""
    if not request.htmx:
        return render(request, f"organizations/{name}.html", context, status=status)
    if changed:
        context |= listed(request, context["application"]) | {"changed": True}
    return render(request, f"organizations/_{name}.html", context, status=status)


def create(request, application=None):
    """Ask for a name; the answer to a valid one shows the secret, which nobody can see again."""
    context = {"application": application}
    if request.method != "POST":
        form = KeyForm.blank(name=request.GET.get("name", ""))
        return answer(request, "key_create", context | {"form": form})
    form = context["form"] = KeyForm(request.POST)
    if not form.is_valid():
        return answer(request, "key_create", context, status=422)
    try:
        context["key"], context["secret"] = ApiKey.objects.issue(
            request.organization, **form.cleaned_data, application=application,
            by=request.user, at=timezone.now(),
        )  # fmt: skip
    except Refused as refusal:
        context["refusal"] = refusal
        return answer(request, "key_create", context, status=409, changed=True)
    return answer(request, "key_create", context, changed=True)


def revoke(request, public_id, application=None):
    key = keys_of(request, application).filter(public_id=public_id).first()
    if key is None:
        raise Http404
    context = {"key": key, "application": application}
    if request.method != "POST":
        return answer(request, "key_revoke", context)
    if not key.revoke(by=request.user, at=timezone.now()):
        return answer(request, "key_revoke", context, status=409, changed=True)
    text = f"Revoked {key}."
    if request.htmx:
        context |= listed(request, application) | {"text": text}
        return trigger_client_event(
            render(request, "organizations/_key_revoked.html", context), "close-dialog"
        )
    messages.success(request, text)
    if application:
        return go(request, "organizations:application_keys", request.organization.slug, application.slug)  # fmt: skip
    return go(request, "organizations:admin_keys", request.organization.slug)
