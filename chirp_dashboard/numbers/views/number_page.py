"""The page of one number: what it is, who uses it, what it costs, and what happened to it."""

from datetime import timedelta

from django.db.models import Sum
from django.utils import timezone

from chirp_dashboard.billing.models import Charge
from chirp_dashboard.numbers.drawing import Drawing, announced_text, rental_text, span, with_facts
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.numbers.timeline import Timeline

CHARGES_SHOWN = 12


def page_of(request, number, *, before=""):
    """Everything the page of `number` draws."""
    organization = request.organization
    at = timezone.now()
    on = organization.local_date(at)
    row = with_facts(PhoneNumber.objects.filter(pk=number.pk)).get()
    rentals = number.rentals.with_announced(on=on).order_by("-id")
    rental = None if number.is_released else rentals.first()
    assignments = list(
        number.assignments.open()
        .select_related("application", "assigned_by")
        .order_by("assigned_at", "id")
    )
    for assignment in assignments:
        assignment.since = assignment.assigned_at.astimezone(organization.zone)
    context = {
        "number": number,
        "row": Drawing(organization, on=on).draw(row),
        "assignments": assignments,
        "rental": rental_text(number),
        "announced": announced_text(number, rental.announced if rental else None),
        "period": days_of(rental.period_containing(max(on, rental.starts_on))) if rental else "",
        "purchased_at": number.purchased_at.astimezone(organization.zone),
        "undo_until": number.undo_until.astimezone(organization.zone)
        if number.undo_until and at < number.undo_until
        else None,
        "timeline": Timeline(number, before=before),
    }
    if request.can.view_billing:
        context |= charges_of(number)
    return context


def days_of(period):
    """A half-open period as people say it: "1–30 Nov 2026"."""
    start, end = period
    return span(start, end - timedelta(days=1))


def charges_of(number):
    charges = Charge.objects.filter(phone_number=number)
    recent = list(charges.order_by("-id")[:CHARGES_SHOWN])
    for charge in recent:
        if charge.period_start and charge.period_end:
            charge.days = days_of((charge.period_start, charge.period_end))
    return {"charges": recent, "spent": charges.aggregate(sum=Sum("amount"))["sum"] or 0}
