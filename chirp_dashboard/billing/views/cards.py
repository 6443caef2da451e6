"""The saved card: it is kept by the gateway, on whose pages it is saved, changed and removed."""

from django.conf import settings
from django.contrib import messages
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.models import Customer
from chirp_dashboard.billing.models.customers import GatewaySilent
from chirp_dashboard.billing.templatetags.cards import card_of
from chirp_dashboard.organizations.permissions import requires

LOOKS = 10  # how often the page by itself looks whether the card is there


@require_safe
@requires("manage_billing")
def card(request, org):
    """The card that pays, and the ways to change it."""
    return show(request)


def show(request, refusal=None):
    context = card_of(request.organization, at=timezone.now()) | {"refusal": refusal}
    return render(request, "billing/card.html", context, status=409 if refusal else 200)


@require_POST
@requires("manage_billing")
def save(request, org):
    """Lead to the gateway's page where a card is saved."""
    return leave(request, Customer.to_save_card, back="billing:card_saved")


@require_POST
@requires("manage_billing")
def manage(request, org):
    """Lead to the gateway's page where cards are changed and removed."""
    return leave(request, Customer.to_manage_cards, back="billing:card_saved")


def leave(request, way, *, back):
    """A page with a plain link, because `form-action` lets no form lead to another site."""
    organization = request.organization
    gateway = GATEWAYS.get(organization.gateway)
    if gateway is None or not gateway.saves_cards:
        return show(request, "Invoices are paid by transfer here, so there is no card to save.")
    try:
        customer = Customer.objects.ensure(organization, at=timezone.now())
        url = way(customer, here(back, organization), here("billing:card", organization))
    except GatewaySilent as silence:
        return show(request, silence)
    if request.htmx:
        return HttpResponseClientRedirect(url)
    return render(request, "billing/card_leave.html", {"url": url})


def here(name, organization):
    return settings.BASE_URL + reverse(name, args=[organization.slug])


@require_http_methods(["GET", "HEAD", "POST"])
@requires("manage_billing")
def saved(request, org):
    """Where the gateway's pages lead back to. The POST reads the card anew, and goes on when it is there."""
    looks = min(number(request.POST.get("looks", "")) + 1, LOOKS)
    context = {"looks": looks, "is_last": looks == LOOKS, "began": request.method == "POST"}
    if request.method == "POST" and has_card(request.organization, context):
        card_page = reverse("billing:card", args=[org])
        messages.success(request, f"{context['customer'].card} is the card that pays.")
        return HttpResponseClientRedirect(card_page) if request.htmx else redirect(card_page)
    template = "billing/_card_wait.html" if request.htmx else "billing/card_saved.html"
    return render(request, template, context)


def has_card(organization, context):
    """Read the card of `organization` anew; where the gateway is silent, `context` says so."""
    customer = organization.customers.filter(gateway=organization.gateway).first()
    context["customer"] = customer
    if customer is None or not customer.gateway_id:
        return False
    try:
        customer.refresh()
    except GatewaySilent as silence:
        context["refusal"] = silence
    return customer.has_card and "refusal" not in context


def number(text):
    return int(text) if text.isascii() and text.isdigit() and len(text) < 4 else 0
