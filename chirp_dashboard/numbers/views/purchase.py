"""Purchase: which kind, and the quote that becomes an order. Search and holds have their own modules."""

import uuid
from datetime import timedelta

from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_safe

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.models import NumberType, Price, Standing
from chirp_dashboard.billing.models.books import CreditLimitReached
from chirp_dashboard.numbers.basket import Basket
from chirp_dashboard.numbers.forms.order import OrderForm
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.numbers.models.quotes import Quote, QuoteChanged
from chirp_dashboard.numbers.search import nearest
from chirp_dashboard.organizations.models import FRAMED_APPLICATIONS, Application
from chirp_dashboard.organizations.permissions import requires, roles_with
from chirp_dashboard.organizations.refusals import Refused

LISTED_APPLICATIONS = 200
OFFERED_INSTEAD = 12

KINDS = {
    NumberType.LOCAL: {
        "icon": "map-pin",
        "can": ["SMS", "MMS", "Voice"],
        "good_for": "A number people know as theirs, with the area code of their city or state.",
    },
    NumberType.TOLL_FREE: {
        "icon": "phone-arrow-down-left",
        "can": ["SMS", "MMS", "Voice"],
        "good_for": "Free to call for your customers, and at home in the whole country.",
    },
    NumberType.SHORT_CODE: {
        "icon": "bolt",
        "can": ["SMS", "MMS"],
        "good_for": "Five or six digits, easy to remember, for many messages in a short time.",
    },
}


@require_safe
@requires("view_numbers")
def kinds(request, org):
    """Local, toll-free or short code: what each is good for and what it costs from."""
    at = timezone.now()
    cheapest = {}
    prices = Price.objects.in_force(request.organization, on=request.organization.local_date(at))
    for price in sorted(prices.values(), key=lambda price: (price.rental, price.purchase_fee)):
        cheapest.setdefault(price.number_type, price)
    context = {
        "kinds": [(kind, about, cheapest.get(kind)) for kind, about in KINDS.items()],
        "purchasers": roles_with("purchase_numbers"),
    }
    if request.can.purchase_numbers:
        context["basket"] = Basket.of(request.organization, request.user, at=at)
    return render(request, "numbers/purchase/kinds.html", context)


@require_http_methods(["GET", "HEAD", "POST"])
@requires("purchase_numbers")
def quote(request, org):
    """What the selected numbers cost; a POST completes the purchase at the total that was shown."""
    at = timezone.now()
    if request.method == "POST":
        return complete(request, at=at)
    basket = Basket.of(request.organization, request.user, at=at)
    return draw_quote(request, basket.quote, basket=basket, at=at)


def complete(request, *, at):
    organization = request.organization
    form = OrderForm(live_applications(organization), request.POST)
    if not form.is_valid():
        return draw_refused_quote(request, form, at=at, status=422)
    try:
        order = Order.objects.place(
            organization,
            person=request.user,
            numbers=form.cleaned_data["number"],
            expected_total=form.cleaned_data["expected_total"],
            idempotency_key=form.cleaned_data["idempotency_key"],
            application=form.cleaned_data["application"],
            at=at,
        )
    except QuoteChanged as changed:
        return draw_changed_quote(request, form, changed, at=at)
    except CreditLimitReached as refusal:
        figures = credit_figures(request, form.cleaned_data["expected_total"], at=at)
        return draw_refused_quote(request, form, at=at, refusal=refusal, figures=figures)
    except Refused as refusal:
        return draw_refused_quote(request, form, at=at, refusal=refusal)
    return redirect("numbers:order", organization.slug, order.public_id)


def draw_refused_quote(request, form, *, at, status=409, **why):
    """The quote of what is held, with what was typed and why nothing was bought."""
    basket = Basket.of(request.organization, request.user, at=at)
    return draw_quote(request, basket.quote, basket=basket, at=at, form=form, status=status, **why)


def draw_changed_quote(request, form, changed, *, at):
    """The quote as it now is, what is lost and why, and what is most like it. Nothing was bought."""
    organization = request.organization
    Hold.objects.let_go(organization, request.user, list(changed.lost))
    lost = what_was_lost(organization, changed.lost, at=at)
    quote = changed.quote or Quote.of(organization, [], on=organization.local_date(at))
    basket = Basket.of(organization, request.user, at=at)
    was = form.cleaned_data["expected_total"]
    return draw_quote(
        request, quote, basket=basket, at=at, form=form, lost=lost, was=was, status=409
    )


def what_was_lost(organization, reasons, *, at):
    """`[(number, why, the nearest offers)]`: each offer once, and for the first few numbers only."""
    keys = list(reasons)
    owned = PhoneNumber.objects.live().among(keys).filter(organization=organization)
    owned = {number.key for number in owned}
    lost, offered = [], []
    for row in InventoryNumber.objects.among(keys).order_by("number"):
        reason, near = reasons[row.key], []
        if row.key in owned:
            reason = "Your organization purchased it meanwhile"
        elif len(offered) < OFFERED_INSTEAD:
            facts = (*row.key, row.number_type)
            near = nearest(*facts, organization=organization, at=at, without=offered)
        offered += [offer.number for offer in near]
        lost.append((row, reason, near))
    return lost


def draw_quote(request, quote, *, basket, at, form=None, status=200, **context):
    gateway = gateway_for(request.organization)
    context |= {
        "quote": quote,
        "basket": basket,
        "form": form,
        "idempotency_key": uuid.uuid4(),
        "due_on": quote.next_invoice_on + timedelta(days=gateway.terms_days),
        "first_rentals": first_rentals(quote),
        "renewals": renewals(quote),
        "applications": listed_applications(request),
        "at": at,
        "here": request.path,
        "shop": reverse("numbers:purchase", args=[request.organization.slug]),
    }
    return render(request, "numbers/purchase/quote.html", context, status=status)


def first_rentals(quote):
    """What is due for each first period: `[(period, sum, how many numbers)]`."""
    groups = {}
    for line in quote.lines:
        groups.setdefault((line.first.start, line.first.end), []).append(line.first)
    return [(group[0], sum(p.amount for p in group), len(group)) for group in groups.values()]


def renewals(quote):
    """What comes afterwards: `[(from which day, every how many months, sum)]`."""
    groups = {}
    for line in quote.lines:
        key = (line.first.end, line.interval_months)
        groups[key] = groups.get(key, 0) + line.rental
    return [(day, months, total) for (day, months), total in sorted(groups.items())]


def live_applications(organization):
    return Application.objects.open().filter(
        organization=organization, kind=Application.Kind.LIVE
    )  # fmt: skip


def listed_applications(request):
    """The live applications to choose from: the side bar knows them all unless there are many."""
    if len(request.applications) < FRAMED_APPLICATIONS:
        return [item for item in request.applications if item["kind"] == Application.Kind.LIVE]
    names = live_applications(request.organization).order_by("name", "id").values("name", "slug")
    return list(names[:LISTED_APPLICATIONS])


def credit_figures(request, total, *, at):
    """Why a purchase was refused, in figures; None for a role that may not see them."""
    if not request.can.view_billing:
        return None
    organization = request.organization
    standing = Standing.objects.filter(organization=organization).first()
    return {
        "limit": organization.credit_limit,
        "cap": organization.daily_spend_cap,
        "owed": standing.owed() if standing else 0,
        "unsettled": standing.unsettled if standing else 0,
        "spent": standing.spent_so_far(organization.local_date(at)) if standing else 0,
        "total": total,
    }
