"""Giving a number back, thinking better of it, and bringing it back."""

from datetime import timedelta

from django.utils import timezone

from chirp_dashboard.numbers.drawing import long_day, span
from chirp_dashboard.numbers.forms.numbers import ReleaseForm, UndoReleaseForm
from chirp_dashboard.numbers.models.releasing import NOW, PERIOD_END, UNDO_FOR
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused

from .answers import address_of, ask_or_do, changed, find_number, question, refused, today


@ask_or_do
@requires("purchase_numbers")
def release(request, org, number):
    number = find_number(request, number)
    when = request.POST.get("when") or request.GET.get("when")
    form = ReleaseForm(request.POST.dict() | {"when": when} if request.method == "POST" else None)
    if request.method != "POST" or not form.is_valid():
        return question(request, "release", number, {"form": form} | release_facts(request, number))
    try:
        number.release(**form.cleaned_data, by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Not released", refusal)
    if number.is_released:
        return changed(request, number, f"Released {number}.{until_when(request, number)}")
    last = long_day(number.releases_on - timedelta(days=1))
    undo = address_of(number, "cancel_release")
    return changed(request, number, f"{number} works until the end of {last}.", undo=undo)


def until_when(request, number):
    """How long the release can be undone; nothing where it cannot."""
    if number.undo_until is None:
        return ""
    return f" It can be brought back until {long_day(request.organization.local_date(number.undo_until))}."


def release_facts(request, number):
    """What releasing would end and cost, with last days in place of the days after."""
    if number.is_released:
        return {}
    preview = number.preview_release(on=today(request))
    return {
        "preview": preview,
        "last_day": preview.period_end - timedelta(days=1),
        "undo_after_now": preview.today + UNDO_FOR,
        "undo_after_period": preview.period_end + UNDO_FOR,
        "now": NOW,
        "period_end": PERIOD_END,
    }


@ask_or_do
@requires("purchase_numbers")
def cancel_release(request, org, number):
    number = find_number(request, number)
    if request.method != "POST":
        return question(request, "cancel_release", number, release_facts(request, number))
    try:
        number.cancel_release(by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Nothing was changed", refusal)
    undo = f"{address_of(number, 'release')}?when={PERIOD_END}"
    return changed(request, number, f"{number} is kept.", undo=undo)


@ask_or_do
@requires("purchase_numbers")
def undo_release(request, org, number):
    number = find_number(request, number)
    form = UndoReleaseForm(request.POST)
    if request.method != "POST" or not form.is_valid():
        return question(request, "undo_release", number, undo_facts(request, number))
    try:
        undone = number.undo_release(**form.cleaned_data, by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "Not brought back", refusal)
    lost = ", ".join(application.name for application in undone.not_restored)
    note = f" Not assigned again: {lost} (archived)." if lost else ""
    return changed(request, number, f"{number} is yours again.{note}")


def undo_facts(request, number):
    """What bringing the number back costs and restores; nothing once that is no longer possible."""
    at = timezone.now()
    if number.undo_until is None or at >= number.undo_until:
        return {}
    on = request.organization.local_date(at)
    undo = number.preview_undo(on=on)
    return {"undo": undo, "days": span(on, undo.terms.first_end - timedelta(days=1))}
