"""Orders: the outcome of each line, live while something is open, and the list of all of them."""

from django.db.models import Count, OuterRef, Q, Subquery
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe
from django_htmx.http import trigger_client_event

from chirp_dashboard.billing.models import Invoice
from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.numbers.models import Order, OrderLine
from chirp_dashboard.numbers.search import nearest
from chirp_dashboard.organizations.permissions import requires

PER_PAGE = 25
OFFERED_INSTEAD = 12

# The shape in front of the state's word; an order still open is "pending".
MARKS = {
    Order.State.COMPLETED: "completed",
    Order.State.PARTLY_COMPLETED: "partly",
    Order.State.STUCK: "partly",
    Order.State.DECLINED: "failed",
    Order.State.FAILED: "failed",
}


@require_safe
@requires("view_numbers")
def order(request, org, order):
    """One order. Safe to reload: it only reads; while it is open htmx asks again every two seconds."""
    orders = Order.objects.select_related("placed_by", "placed_by_key", "application")
    order = get_object_or_404(orders, organization=request.organization, public_id=order)
    lines = list(order.lines.select_related("phone_number"))
    kept = [line for line in lines if line.is_delivered and not line.is_refunded]
    net = sum(line.due for line in kept)
    due = order.with_tax(net)
    payment = order.own_payment()
    documents = list(order.receipts.all()) if payment else []
    context = {
        "order": order,
        "lines": lines,
        "payment": payment,
        "delivered": kept,
        "came_to": what_it_came_to(order, lines, kept),
        "lost": lost_lines(request, lines),
        "payable_on": next_billing_date(request.organization.billing_day, after=order.placed_on),
        "due": due,
        "tax": due - net,
        "documents": documents,
        "invoiced": invoiced_beside_a_receipt(documents),
        "here": request.path,
    }
    template = "_order" if request.htmx else "order"
    response = render(request, f"numbers/{template}.html", context)
    if request.htmx and not order.is_open:
        trigger_client_event(response, "announce", {"text": outcome(order, lines)})
    return response


def what_it_came_to(order, lines, kept):
    """The state of the order, where refunded lines count as not delivered."""
    if not any(line.is_refunded for line in lines):
        return order.state
    return Order.State.PARTLY_COMPLETED if kept else "refunded"


def invoiced_beside_a_receipt(documents):
    """What was delivered after the order's own payment had been collected, tax included."""
    sums = {}
    for document in documents:
        sums[document.kind] = sums.get(document.kind, 0) + document.total
    return sums.get(Invoice.Kind.ORDER, 0) if Invoice.Kind.RECEIPT in sums else 0


def outcome(order, lines):
    delivered = sum(line.is_delivered for line in lines)
    return f"{order.get_state_display()}: {delivered} of {len(lines)} delivered."


def lost_lines(request, lines):
    """`[(line, the nearest offers)]` of what was not delivered: each offer once, for the first few."""
    at, organization = timezone.now(), request.organization
    lost, offered = [], []
    for line in lines:
        if line.is_delivered or line.is_live:
            continue
        near = []
        if request.can.purchase_numbers and len(offered) < OFFERED_INSTEAD:
            facts = (*line.key, line.number_type)
            near = nearest(*facts, organization=organization, at=at, without=offered)
        offered += [offer.number for offer in near]
        lost.append((line, near))
    return lost


@require_safe
@requires("view_numbers")
def order_list(request, org):
    """Every order, newest first: the page after (older than) or before one of them."""
    after, before = request.GET.get("after", ""), request.GET.get("before", "")
    orders = Order.objects.filter(organization=request.organization)
    page, more = page_of(orders, after=after, before=before)
    for order in page:
        order.mark = MARKS.get(order.state, "pending")
    newest, oldest = (page[0].public_id, page[-1].public_id) if page else ("", "")
    context = {
        "orders": page,
        "newer": f"?before={newest}" if page and (more if before else after) else "",
        "older": f"?after={oldest}" if page and (before or more) else "",
        "is_first_page": not after and not before,
    }
    return render(request, "numbers/order_list.html", context)


def counted(orders):
    """With how many numbers each order asked for (`size`) and how many came (`delivered`)."""
    lines = OrderLine.objects.filter(order=OuterRef("pk")).order_by().values("order")
    delivered = Q(state=OrderLine.State.DELIVERED)
    return orders.annotate(
        size=Subquery(lines.annotate(n=Count("pk")).values("n")),
        delivered=Subquery(lines.annotate(n=Count("pk", filter=delivered)).values("n")),
    )


def page_of(orders, *, after, before):
    """The orders next to the one named, newest first, and whether there are more that way."""
    named = orders.filter(public_id=(before or after).replace("\0", "")).order_by().values("id")
    if before:
        orders = orders.filter(id__gt=Subquery(named)).order_by("id")
    elif after:
        orders = orders.filter(id__lt=Subquery(named))
    rows = list(counted(orders.select_related("placed_by", "placed_by_key"))[: PER_PAGE + 1])
    page = rows[:PER_PAGE]
    return page[::-1] if before else page, len(rows) > PER_PAGE
