from django.conf import settings
from django.contrib.auth.decorators import login_not_required
from django.http import Http404, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_POST

from chirp_dashboard.billing.gateways.webhooks import NotAnEvent, StripeWebhooks, Unverified
from chirp_dashboard.billing.models import InboxEvent
from chirp_dashboard.billing.tasks import wake_inbox

LARGEST_BODY = 256 * 1024


@csrf_exempt
@login_not_required
@require_POST
def stripe_webhook(request):
    """Store what Stripe tells and answer at once; it is worked by the worker."""
    if not settings.STRIPE_WEBHOOK_SECRETS:
        raise Http404
    length = request.headers.get("Content-Length") or "0"
    if not (length.isascii() and length.isdecimal()):
        return says(400, "The length of the body is not a number.")
    if int(length) > LARGEST_BODY:
        return says(413, "The body is larger than 256 kB.")
    at, gateway = timezone.now(), StripeWebhooks()
    try:
        gateway.verify(request.body, request.headers.get("Stripe-Signature", ""), at=at)
        notice = gateway.read(request.body)
    except (Unverified, NotAnEvent) as refusal:
        return says(400, refusal)
    if InboxEvent.objects.receive(gateway, notice, request.body, at=at):
        wake_inbox()
    return says(200, "Stored.")


def says(status, text):
    return HttpResponse(f"{text}\n", status=status, content_type="text/plain; charset=utf-8")
