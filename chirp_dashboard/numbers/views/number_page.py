"""The page of one number: what it is, who uses it, what it costs, and what happened to it."""

from datetime import timedelta

from django.db.models import Sum
from django.utils import timezone

from chirp_dashboard.billing.models import Charge
from chirp_dashboard.numbers.drawing import Drawing, with_facts
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.numbers.timeline import Timeline

CHARGES_SHOWN = 12


def page_of(request, number, *, before=""):
    """Everything the page of `number` draws."""
    organization = request.organization
    at = timezone.now()
    on = organization.local_date(at)
    row = with_facts(PhoneNumber.objects.filter(pk=number.pk)).get()
    rental = number.open_rental()
    is_running = rental is not None and not number.is_released
    context = {
        "number": number,
        "row": Drawing(organization, on=on).draw(row),
        "assignments": number.assignments.open()
        .select_related("application", "assigned_by")
        .order_by("assigned_at", "id"),
        "rental": rental,
        "period": shown_period(rental.period_containing(max(on, rental.starts_on)))
        if is_running
        else None,
        "can_be_brought_back": number.is_released and at < number.undo_until,
        "timeline": Timeline(number, before=before),
    }
    if request.can.view_billing:
        context |= charges_of(number)
    return context


def shown_period(period):
    """First and last day of a half-open period."""
    start, end = period
    return {"first": start, "last": end - timedelta(days=1)}


def charges_of(number):
    charges = Charge.objects.filter(phone_number=number)
    recent = list(charges.order_by("-id")[:CHARGES_SHOWN])
    for charge in recent:
        if charge.period_start and charge.period_end:
            charge.shown_period = shown_period((charge.period_start, charge.period_end))
    return {"charges": recent, "spent": charges.aggregate(sum=Sum("amount"))["sum"] or 0}
