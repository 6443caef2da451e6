"""What an application's webhooks were told, trying them out, and their signing secrets."""

from django.contrib import messages
from django.http import Http404
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from .models import Delivery, Webhook, rotate_secret
from .permissions import requires
from .refusals import Refused
from .views import ask_or_do, find_application, go

SHOWN = 50


@require_GET
@requires("manage_webhooks")
def deliveries(request, org, slug):
    """The latest deliveries of the application, each with its tries; older ones by `before`."""
    application = find_application(request, slug)
    rows = Delivery.objects.filter(webhook__application=application).order_by("-id")
    before = request.GET.get("before", "")
    if before.isascii() and before.isdigit() and len(before) < 19:
        rows = rows.filter(pk__lt=int(before))
    found = list(rows.select_related("webhook").prefetch_related("attempts")[: SHOWN + 1])
    context = {
        "application": application,
        "deliveries": found[:SHOWN],
        "older": f"?before={found[SHOWN - 1].pk}" if len(found) > SHOWN else "",
        "newest": "?" if before else "",
        "webhook": application.webhook,
    }
    fragment = "_webhook_deliveries" if request.htmx else "webhook_deliveries"
    return render(request, f"organizations/{fragment}.html", context)


@require_POST
@requires("manage_webhooks")
def webhook_test(request, org, slug):
    application = find_application(request, slug)
    webhook = application.webhook
    if webhook is None or application.is_archived:
        raise Http404
    Delivery.objects.test(webhook, at=timezone.now())
    messages.success(request, "A test event is on its way. Reload to see what was answered.")
    return go(request, "organizations:webhook_deliveries", org, slug)


@require_POST
@requires("manage_webhooks")
def webhook_redeliver(request, org, slug, message):
    application = find_application(request, slug)
    rows = Delivery.objects.filter(webhook__application=application)
    delivery = get_object_or_404(
        rows.select_related("webhook__application__organization"), message_id=message
    )
    try:
        delivery.redeliver(by=request.user, at=timezone.now())
        messages.success(request, "The event is sent again.")
    except Refused as refusal:
        messages.info(request, str(refusal))
    return go(request, "organizations:webhook_deliveries", org, slug)


@ask_or_do
@never_cache
@requires("manage_webhooks")
def webhook_secret(request, org, slug):
    """Make a new signing secret and show it once; the one before still signs for a day."""
    application = find_application(request, slug)
    webhook = application.webhook
    if webhook is None:
        raise Http404
    context = {"application": application, "webhook": webhook}
    if request.method == "POST":
        webhook = Webhook.objects.select_related("application__organization").get(pk=webhook.pk)
        context["secret"] = rotate_secret(webhook, by=request.user, at=timezone.now())
    fragment = "_webhook_secret" if request.htmx else "webhook_secret"
    return render(request, f"organizations/{fragment}.html", context)
