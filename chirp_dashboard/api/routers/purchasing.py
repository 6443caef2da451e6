"""Numbers for sale, quotes and orders."""

import math
import secrets

from django.db.models import Prefetch
from django.http import HttpResponse
from django.urls import reverse
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status

from chirp_dashboard.api import paging, waiting
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key
from chirp_dashboard.api.schemas import (
    AvailableList,
    Order,
    OrderIn,
    OrderList,
    Purchased,
    PurchaseIn,
)
from chirp_dashboard.api.shapes import Count, Country, Text, Truth, Type, shaped
from chirp_dashboard.api.views import location_of
from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.numbers import models
from chirp_dashboard.numbers.models.inventory import Capability
from chirp_dashboard.numbers.models.quotes import Quote, QuoteChanged
from chirp_dashboard.numbers.models.testing import problem_of
from chirp_dashboard.numbers.search import Criteria, Position, stock_offer, stock_offers

from .applications import find_app

router = Router(auth=admin_key, by_alias=True, tags=["Purchasing"])
POSITIONS = {
    "startsWith": Position.STARTS_WITH,
    "contains": Position.CONTAINS,
    "endsWith": Position.ENDS_WITH,
}


AreaCode = shaped("([0-9]{3})?", "an area code has three digits", longest=3)
Pattern = shaped("[0-9A-Za-z]*", "a pattern has digits and letters only", longest=20)
LastNumber = shaped(r"(\+?[0-9]{1,15})?", paging.WRONG, longest=16)
FEATURE = " *({}) *".format(
    "|".join(
        "".join(f"[{letter}{letter.swapcase()}]" for letter in capability)
        for capability in Capability.values
    )
)
Features = shaped(
    f"({FEATURE}(,{FEATURE})*)?", f"features are {', '.join(Capability.values)}", longest=80
)


class Search(Schema):
    """`mobile` is accepted and has no stock."""

    numberType: Type = "local"
    country: Country = "US"
    region: Text = ""
    city: Text = ""
    areaCode: AreaCode = ""
    startsWith: Pattern = Field("", description="At most one of the three patterns.")
    contains: Pattern = ""
    endsWith: Pattern = ""
    features: Features = Field("", description="Comma-separated: SMS,MMS,Voice")
    limit: Count = Field(paging.DEFAULT, ge=1, le=paging.LARGEST)
    cursor: LastNumber = Field("", description="The nextCursor of the page before.")


def criteria_of(asked):
    """What `asked` looks for. Raises ApiError for what makes no sense."""
    patterns = {name: getattr(asked, name) for name in POSITIONS if getattr(asked, name)}
    if len(patterns) > 1:
        raise ApiError(400, "Give one of startsWith, contains and endsWith.", param=[*patterns][1])
    name, pattern = next(iter(patterns.items()), ("contains", ""))
    return Criteria(
        number_type=asked.numberType, country=asked.country.upper(), region=clean(asked.region),
        city=clean(asked.city), area_code=asked.areaCode, pattern=pattern, position=POSITIONS[name],
        capabilities=features_of(asked.features),
    )  # fmt: skip


def clean(text):
    return " ".join(text.split())


def features_of(text):
    known = {capability.upper(): capability for capability in Capability.values}
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    return tuple(known[name.upper()] for name in dict.fromkeys(wanted))


def offer_view(offer):
    return {
        "number": offer.number,
        "numberType": offer.number_type,
        "location": location_of({"city": offer.city, "region": offer.region}),
        "features": list(offer.capabilities),
        "purchaseFee": offer.purchase_fee,
        "monthlyRental": offer.rental,
        "intervalMonths": offer.interval_months,
        "currency": offer.currency,
    }


@router.get("/available-phone-numbers", response=AvailableList, summary="Search numbers for sale")
def available(request, asked: Query[Search]):
    """Numbers that others hold are left out. `cursor` is the last number of the page before."""
    criteria = criteria_of(asked)
    after = asked.cursor
    if asked.numberType == "mobile":
        return {"phoneNumbers": [], "nextCursor": None}
    page = stock_offers(
        criteria, request.key.organization, at=timezone.now(), after=after, limit=asked.limit
    )
    more = page.has_next and page.offers
    return {
        "phoneNumbers": [offer_view(offer) for offer in page.offers],
        "nextCursor": page.offers[-1].number if more else None,
    }


# Quotes and orders ----------------------------------------------------------------------------

WITH_LINES = Prefetch(
    "lines", queryset=models.OrderLine.objects.select_related("phone_number").order_by("id")
)


def quote_of(organization, keys, *, at):
    """What `keys` (country and number) cost now; raises ApiError for the first that is not for sale."""
    offers = []
    for place, key in enumerate(keys):
        offer = stock_offer(key, organization, at=at)
        if offer is None or offer.holder:
            raise unavailable(key[1], param=f"lines[{place}].phoneNumber")
        offers.append(offer)
    return Quote.of(organization, offers, on=organization.local_date(at))


def unavailable(number, *, param="phoneNumber"):
    return ApiError(
        409, f"{number} is no longer available. Nothing was purchased.", code="number_unavailable",
        param=param,
    )  # fmt: skip


def key_of_number(number, number_type):
    """`(country, number)` of what stock has under these digits; raises ApiError."""
    found = models.InventoryNumber.objects.filter(number=number).order_by("id")
    row = found.values("country", "number_type").first()
    if row is None:
        raise unavailable(number)
    if row["number_type"] != number_type:
        raise ApiError(400, f"{number} is not of that type.", param="numberType")
    return row["country"], number


def place(request, keys, *, expected_total, application):
    """Place an order and wait for what it comes to; raises ApiError for one that brought nothing.

    The Idempotency-Key, where there is one, keeps it from happening twice.
    """
    until = waiting.deadline()
    try:
        order = models.Order.objects.place(
            request.key.organization, key=request.key, numbers=keys, expected_total=expected_total,
            idempotency_key=getattr(request, "order_key", f"api-{secrets.token_hex(30)}"),
            at=timezone.now(), application=application,
        )  # fmt: skip
    except QuoteChanged as changed:
        if changed.lost:
            raise unavailable(next(iter(changed.lost))[1]) from None
        now = f" It is {changed.quote.total} now." if changed.quote else ""
        raise ApiError(
            409, f"{changed}{now}", code="quote_changed", param="expectedTotal"
        ) from None
    waiting.wait_for(order, until=until)
    check_outcome(order)
    return orders_of(request).get(pk=order.pk)


def answered(order, response):
    """201 for an order that is settled; else 202, which says where to look and when."""
    if order.is_settled:
        return 201
    response.headers["Location"] = reverse("v1:get_order", args=[order.public_id])
    if order.next_look_at:
        rest = (order.next_look_at - timezone.now()).total_seconds()
        response.headers["Retry-After"] = f"{max(1, math.ceil(rest))}"
    return 202


def order_view(order):
    """An order as it is now, with the outcome of each line."""
    lines = list(order.lines.all())
    net = sum(line.due for line in lines)
    return {
        "id": order.public_id,
        "state": order.state,
        "lines": [line_view(line) for line in lines],
        "net": net,
        "tax": order.total - net,
        "total": order.total,
        "monthly": sum(line.rental for line in lines if line.interval_months == 1),
        "currency": order.currency,
        "nextInvoiceOn": next_billing_date(
            order.organization.billing_day, after=order.placed_on
        ).isoformat(),
        "appId": order.application and order.application.public_id,
        "createdAt": order.placed_at,
    }


def line_view(line):
    return {
        "id": line.public_id,
        "number": line.number,
        "state": line.state,
        "reason": line.reason,
        "phoneNumberId": line.phone_number and line.phone_number.public_id,
        "purchaseFee": line.purchase_fee,
        "firstRental": line.first_rental,
        "rental": line.rental,
        "intervalMonths": line.interval_months,
    }


def quote_view(quote, application):
    """What an order would be, before it is placed: without an id."""
    return {
        "id": None,
        "state": "quoted",
        "lines": [
            {
                "id": None,
                "number": line.facts.number,
                "state": "quoted",
                "reason": "",
                "phoneNumberId": None,
                "purchaseFee": line.purchase_fee,
                "firstRental": line.first.amount,
                "rental": line.rental,
                "intervalMonths": line.interval_months,
            }
            for line in quote.lines
        ],
        "net": quote.net,
        "tax": quote.tax,
        "total": quote.total,
        "monthly": quote.monthly,
        "currency": quote.currency,
        "nextInvoiceOn": quote.next_invoice_on.isoformat(),
        "appId": application and application.public_id,
        "createdAt": None,
    }


def orders_of(request):
    found = models.Order.objects.filter(organization=request.key.organization)
    return found.select_related("application", "organization").prefetch_related(WITH_LINES)


class DryRun(Schema):
    dryRun: Truth = Field(False, description="Only say what it would cost.")


@router.post(
    "/orders", response={200: Order, 201: Order, 202: Order}, summary="Quote or place an order"
)
def place_order(request, payload: OrderIn, query: Query[DryRun], response: HttpResponse):
    """With dryRun the quote; without it the order, at the total the quote said.

    201 when it is settled; 202 when something outside has not answered within 10 seconds. Then look at
    the order, or repeat the request with the same Idempotency-Key.
    """
    application = find_app(request, payload.app_id) if payload.app_id else None
    keys = [(line.country.upper(), line.phone_number) for line in payload.lines]
    if len(set(keys)) < len(keys):
        raise ApiError(400, "A number stands on two lines.", param="lines")
    if query.dryRun:
        quote = quote_of(request.key.organization, keys, at=timezone.now())
        return Status(200, quote_view(quote, application))
    if payload.expected_total is None:
        raise ApiError(
            400, "Write the total that the quote said (dryRun=true).", param="expectedTotal"
        )
    order = place(request, keys, expected_total=payload.expected_total, application=application)
    return Status(answered(order, response), order_view(order))


def check_outcome(order):
    """Raise ApiError for an order that brought nothing."""
    if order.state == order.State.DECLINED:
        reason = order.reason or "The payment was declined."
        raise ApiError(402, f"{reason} Nothing was purchased.", code="payment_required")
    if order.state == order.State.FAILED:
        raise ApiError(409, order.reason, code="number_unavailable")


@router.get("/orders", response=OrderList, summary="List orders")
def list_orders(request, page: Query[paging.PageQuery]):
    placed = models.Order.objects.filter(organization=request.key.organization)
    rows, cursor = page.read(placed.values("id"), descending=True)
    found = orders_of(request).in_bulk([row["id"] for row in rows])
    return {"orders": [order_view(found[row["id"]]) for row in rows], "nextCursor": cursor}


@router.get("/orders/{orderId}", response=Order, summary="Get an order")
def get_order(request, orderId: str):
    if order := orders_of(request).filter(public_id=orderId).first():
        return order_view(order)
    raise ApiError(404, "There is no such order.", param="orderId")


@router.post(
    "/phone-numbers/{appId}/purchase",
    response={201: Purchased, 202: Purchased},
    summary="Purchase a number for an app",
)
def purchase(request, appId: str, payload: PurchaseIn, response: HttpResponse):
    """At its price now; search or quote first to know it. A test app gets a free test number.

    202 with the order's id when something outside has not answered within 10 seconds.
    """
    application = find_app(request, appId)
    if application.is_test:
        return purchase_test_number(request, application, payload)
    key = key_of_number(payload.phone_number, payload.number_type)
    order = place(request, [key], expected_total=None, application=application)
    (line,) = order.lines.all()
    return Status(answered(order, response), purchased_view(order, line, application))


def purchased_view(order, line, application):
    return {
        "phoneNumberId": line.phone_number and line.phone_number.public_id,
        "appId": application.public_id,
        "number": line.number,
        "purchaseHistoryId": line.public_id,
        "orderId": order.public_id,
        "createdAt": order.placed_at,
    }


def purchase_test_number(request, application, payload):
    at = timezone.now()
    if problem := problem_of(payload.phone_number, payload.number_type):
        raise ApiError(400, problem, param="numberType")
    number = models.PhoneNumber.objects.add_test(
        application, payload.phone_number, number_type=payload.number_type,
        by=request.key.actor, at=at,
    )  # fmt: skip
    return Status(
        201,
        {
            "phoneNumberId": number.public_id,
            "appId": application.public_id,
            "number": number.number,
            "purchaseHistoryId": number.public_id.replace("ph_test_", "ph_purch_test_"),
            "orderId": None,
            "createdAt": at,
        },
    )
