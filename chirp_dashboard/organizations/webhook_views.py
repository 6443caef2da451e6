"""Where an application hears of its numbers, what it was told, trying it out, and the signing secrets."""

from urllib.parse import urlencode

from django.contrib import messages
from django.db.models import Count, Q
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseClientRedirect, trigger_client_event

from .delivery_log import FILTERS, DeliveryLog
from .forms import RedeliverForm, WebhookForm
from .models import Delivery, Webhook, both_secrets_until, rotate_secret, secret_of
from .permissions import requires
from .proof import fresh_proof
from .refusals import Refused
from .views import ask_or_do, find_application, question


@require_GET
@requires("manage_webhooks")
def webhooks(request, org, slug):
    """The webhooks of an application, and the log of what they were told."""
    at = timezone.now()
    found = list(webhooks_of(request, slug).order_by("id"))
    application = found[0].application if found else find_application(request, slug)
    for webhook in found:
        webhook.both_until = both_secrets_until(webhook, at=at)
    context = {"application": application, "webhooks": found, "now": at}
    context["log"] = DeliveryLog(found, request.GET, at=at)
    if not request.htmx or request.htmx.trigger == "webhooks":  # a dialog changed them
        return render(request, "organizations/webhooks.html", context)
    response = render(request, "organizations/_deliveries.html", context)
    if request.htmx.trigger == "deliveries":  # it asked by itself
        return response
    return trigger_client_event(response, "announce", {"text": context["log"].announcement})


@ask_or_do
@never_cache
@requires("manage_webhooks")
def webhook_create(request, org, slug):
    """Ask where to send events; the answer shows the signing secret, this once."""
    application = find_application(request, slug)
    form = WebhookForm(request.POST or None)
    context = {"application": application, "form": form}
    if request.method != "POST" or not form.is_valid():
        return question(request, "webhook_create", context)
    try:
        webhook = application.add_webhook(
            **form.cleaned_data, by=request.user, at=timezone.now(), once=True
        )
    except Refused as refusal:
        return question(request, "webhook_create", context | {"refusal": refusal}, status=409)
    context |= {"webhook": webhook, "secret": secret_of(webhook, webhook.secret_version)}
    return changed(question(request, "webhook_create", context))


@ask_or_do
@requires("manage_webhooks")
def webhook_change(request, org, slug, webhook):
    webhook = find_webhook(request, slug, webhook)
    form = WebhookForm(request.POST or None, webhook=webhook)
    context = {"application": webhook.application, "webhook": webhook, "form": form}
    if request.method != "POST" or not form.is_valid():
        return question(request, "webhook_change", context)
    try:
        webhook.application.change_webhook(
            webhook, **form.cleaned_data, by=request.user, at=timezone.now()
        )
    except Refused as refusal:
        return question(request, "webhook_change", context | {"refusal": refusal}, status=409)
    return back(request, slug, "Webhook saved.")


@ask_or_do
@requires("manage_webhooks")
def webhook_remove(request, org, slug, webhook):
    webhook = find_webhook(request, slug, webhook)
    context = {"application": webhook.application, "webhook": webhook}
    if request.method != "POST":
        return question(request, "webhook_remove", context)
    try:
        webhook.application.remove_webhook(webhook, by=request.user, at=timezone.now())
    except Refused as refusal:
        return question(request, "webhook_remove", context | {"refusal": refusal}, status=409)
    return back(request, slug, "Webhook removed.")


@ask_or_do
@never_cache
@requires("manage_webhooks")
@fresh_proof
def webhook_secret(request, org, slug, webhook):
    """Make a new signing secret and show it once; the one before still signs for a day."""
    webhook, at = find_webhook(request, slug, webhook), timezone.now()
    context = {"application": webhook.application, "webhook": webhook}
    if request.method != "POST":
        context["both_until"] = both_secrets_until(webhook, at=at)
        return question(request, "webhook_secret", context)
    seen = request.POST.get("version", "")
    seen = int(seen) if seen.isascii() and seen.isdigit() and len(seen) < 9 else 0
    try:
        context["secret"] = rotate_secret(webhook, by=request.user, at=at, seen=seen)
    except Refused as refusal:
        context["refusal"] = refusal
        return changed(question(request, "webhook_secret", context, status=409))
    context["both_until"] = both_secrets_until(webhook, at=at)
    return changed(question(request, "webhook_secret", context))


@require_POST
@requires("manage_webhooks")
def webhook_switch_on(request, org, slug, webhook):
    webhook = find_webhook(request, slug, webhook)
    try:
        webhook.application.switch_webhook_on(webhook, by=request.user, at=timezone.now())
    except Refused as refusal:
        return back(request, slug, str(refusal), messages.error)
    return back(request, slug, f"Events are sent to {webhook.host} again.")


@require_POST
@requires("manage_webhooks")
def webhook_test(request, org, slug, webhook):
    webhook = find_webhook(request, slug, webhook)
    if webhook.application.is_archived:
        return archived(request, slug, webhook.application)
    try:
        Delivery.objects.test(webhook, at=timezone.now())
    except Refused as refusal:
        return back(request, slug, str(refusal), messages.error)
    return back(request, slug, f"A test event is on its way to {webhook.host}.")


# The log ----------------------------------------------------------------------------------------


@require_GET
@requires("manage_webhooks")
def delivery(request, org, slug, message):
    return delivery_page(request, find_delivery(request, slug, message))


@require_POST
@requires("manage_webhooks")
def redeliver(request, org, slug, message):
    found = find_delivery(request, slug, message)
    if found.webhook.application.is_archived:
        return archived(request, slug, found.webhook.application)
    try:
        found.redeliver(by=request.user, at=timezone.now())
    except Refused as refusal:
        now = find_delivery(request, slug, message)
        return delivery_page(request, now, refusal=refusal, status=409)
    return back(request, slug, f"{found.event} is sent again.")


def delivery_page(request, found, *, status=200, **given):
    context = {"delivery": found, "attempts": list(found.attempts.order_by("-id"))}
    context |= {"application": found.webhook.application, "now": timezone.now()}
    return question(request, "delivery", context | given, status=status)


@ask_or_do
@requires("manage_webhooks")
def redeliver_failed(request, org, slug):
    """Send again what failed since a moment: everything after an outage of the receiver."""
    application, at = find_application(request, slug), timezone.now()
    if application.is_archived:
        return archived(request, slug, application)
    given = request.POST if request.method == "POST" else request.GET
    asked = given.get("webhook", "").replace("\0", "?")  # without one: of all there are
    webhook = get_object_or_404(application.webhooks, public_id=asked) if asked else None
    form = RedeliverForm(
        request.POST or None, counts=count_failed(application, webhook, at=at), at=at
    )
    context = {"application": application, "webhook": webhook, "form": form}
    if request.method != "POST" or not form.is_valid():
        return question(request, "redeliver_failed", context)
    count = Delivery.objects.redeliver_failed(
        application, webhook=webhook, since=form.cleaned_data["since"], by=request.user, at=at
    )
    if not count:
        return question(request, "redeliver_failed", context | {"nothing": True}, status=409)
    return back(
        request, slug, f"{count:,} {'event is' if count == 1 else 'events are'} sent again."
    )


def count_failed(application, webhook, *, at):
    rows = Delivery.objects.filter(state=Delivery.State.FAILED, webhook__application=application)
    if webhook:
        rows = rows.filter(webhook=webhook)
    return rows.aggregate(
        **{
            name: Count("pk", filter=Q(happened_at__gte=at - ago))
            for name, (ago, _) in RedeliverForm.SINCE.items()
        }
    )


# Parts ------------------------------------------------------------------------------------------


def webhooks_of(request, slug):
    return Webhook.objects.select_related("application__organization").filter(
        application__organization=request.organization, application__slug=slug
    )


def find_webhook(request, slug, public_id):
    return get_object_or_404(webhooks_of(request, slug), public_id=public_id)


def find_delivery(request, slug, message):
    rows = Delivery.objects.select_related("webhook__application__organization")
    here = {"webhook__application__organization": request.organization}
    return get_object_or_404(rows, webhook__application__slug=slug, message_id=message, **here)


def changed(answer):
    """Let the list under a dialog be drawn again."""
    return trigger_client_event(answer, "webhooks-changed")


def archived(request, slug, application):
    """Nothing is sent for an archived application any more."""
    return back(request, slug, f"{application} is archived.", messages.error)


def back(request, slug, text, say=messages.success):
    """To the webhooks of the application, with the filters that were open."""
    kept = {name: request.GET[name][:64] for name in FILTERS if request.GET.get(name)}
    say(request, text)
    address = resolve_url("organizations:webhooks", request.organization.slug, slug)
    if kept:
        address += f"?{urlencode(kept)}"
    return HttpResponseClientRedirect(address) if request.htmx else redirect(address)
