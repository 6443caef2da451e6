"""Holding numbers while somebody decides, letting them go, and giving them more time.

Each view answers htmx with the row or the basket as it now stands; without htmx it leads back to the
page the form was on, at the row of its number.
"""

from django.http import Http404
from django.shortcuts import get_object_or_404, redirect, render, resolve_url
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import trigger_client_event

from chirp_dashboard.numbers.basket import Basket
from chirp_dashboard.numbers.forms.order import number_key
from chirp_dashboard.numbers.models import Hold, InventoryNumber
from chirp_dashboard.numbers.search import nearest, stock_offer
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused


@require_safe
@requires("purchase_numbers")
def basket(request, org):
    """The basket alone, for htmx; without it the quote page shows the same."""
    return draw_basket(request) if request.htmx else redirect("numbers:quote", org)


@require_POST
@requires("purchase_numbers")
def hold(request, org):
    key = asked_for(request)
    at = timezone.now()
    try:
        result = Hold.objects.hold(request.organization, request.user, [key], at=at)
        refusal = result.refused.get(key, "")
    except Refused as refused:
        refusal = str(refused)
    if not refusal and not request.htmx:
        return redirect(way_back(request, key))
    if request.htmx.target == "basket":
        return draw_basket(request, refusal=refusal and f"{display(key)}: {refusal}")
    return draw_row(request, key, at=at, refusal=refusal)


@require_POST
@requires("purchase_numbers")
def unhold(request, org):
    key = asked_for(request)
    Hold.objects.let_go(request.organization, request.user, [key])
    if not request.htmx:
        return redirect(way_back(request, key))
    if request.htmx.target == "basket":
        return draw_basket(request)
    return draw_row(request, key, at=timezone.now())


@require_POST
@requires("purchase_numbers")
def extend(request, org):
    Hold.objects.extend(request.organization, request.user, at=timezone.now())
    return draw_basket(request) if request.htmx else redirect(way_back(request))


def asked_for(request):
    """The number a form names, as (country, number)."""
    key = number_key(request.POST.get("number", ""))
    if key is None:
        raise Http404("No number is written like this.")
    return key


def way_back(request, key=None):
    """The page of ours the form was on, at the row of its number."""
    address = request.POST.get("next", "")
    inside = f"/o/{request.organization.slug}/"
    safe = url_has_allowed_host_and_scheme(address, None, require_https=request.is_secure())
    if not safe or not address.startswith(inside):
        address = resolve_url("numbers:purchase", request.organization.slug)
    return f"{address}#{row_id(key)}" if key else address


def row_id(key):
    return f"n-{key[1].lstrip('+')}"


def display(key):
    country, number = key
    return InventoryNumber(country=country, number=number).display


def drawn_from(request):
    """The address of the page the person looks at: where a form without JavaScript leads back to."""
    return request.htmx.current_url_abs_path or request.get_full_path()


def draw_row(request, key, *, at, refusal=""):
    """A row of the results as it now stands, and the basket with it."""
    organization = request.organization
    offer = stock_offer(key, organization, at=at)
    row = offer or get_object_or_404(InventoryNumber.objects.among([key]))
    context = {
        "offer": row,
        "gone": offer is None,
        "refusal": refusal,
        "alternatives": [],
        "criteria": None,
        "basket": Basket.of(organization, request.user, at=at),
        "at": at,
        "here": way_back(request),
    }
    if refusal and (offer is None or offer.holder):
        lost = (row.country, row.number, row.number_type)
        context["alternatives"] = nearest(*lost, organization=organization, at=at)
    template = "_row_answer" if request.htmx else "hold_refused"
    response = render(
        request, f"numbers/purchase/{template}.html", context, status=409 if refusal else 200
    )
    return trigger_client_event(response, "announce", {"text": said(row, offer, request, refusal)})


def said(row, offer, request, refusal):
    """What a screen reader hears when a row was swapped."""
    if refusal:
        return f"{row}: {refusal}"
    held = offer is not None and offer.holder == request.user.pk
    return f"{row} is held for you for 15 minutes." if held else f"{row} is no longer selected."


def draw_basket(request, *, refusal=""):
    """The basket alone; the results, if they are on the page, are told to look again."""
    at = timezone.now()
    context = {
        "basket": Basket.of(request.organization, request.user, at=at),
        "refusal": refusal,
        "at": at,
        "here": drawn_from(request),
    }
    response = render(
        request, "numbers/purchase/_basket.html", context, status=409 if refusal else 200
    )
    if not refusal:
        trigger_client_event(response, "results-changed")
    return response
