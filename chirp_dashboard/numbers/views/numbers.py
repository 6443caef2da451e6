"""The numbers an organization owns: their list, the page of one, its label and its release lock."""

from urllib.parse import urlsplit

from django.http import QueryDict
from django.shortcuts import render
from django.utils import timezone
from django.views.decorators.http import require_GET
from django_htmx.http import push_url, replace_url, trigger_client_event

from chirp_dashboard.numbers.forms.numbers import LabelForm, LockForm
from chirp_dashboard.numbers.listing import NumberList, Wanted
from chirp_dashboard.organizations.permissions import requires
from chirp_dashboard.organizations.refusals import Refused

from .answers import ask_or_do, changed, find_number, posted, question, refused, today
from .number_page import page_of


@require_GET
@requires("view_numbers")
def number_list(request, org):
    numbers = NumberList(
        request.organization, Wanted.read(request.GET), path=request.path, on=today(request)
    )
    return draw_list(request, numbers, page="numbers/number_list.html")


def draw_list(request, numbers, *, page):
    """The whole `page` of a NumberList; to htmx the table and what around it says the same."""
    if not request.htmx:
        return render(request, page, {"list": numbers})
    is_typed = request.htmx.trigger == "number-filters"
    context = {"list": numbers, "is_typed": is_typed}
    response = render(request, "numbers/_number_swap.html", context)
    note_address = replace_url if is_typed and goes_on_typing(request, numbers) else push_url
    note_address(response, numbers.current)
    return trigger_client_event(response, "announce", {"text": numbers.announcement})


def goes_on_typing(request, numbers):
    """Whether only the search differs from the page that is open: then Back should skip its letters."""
    query = urlsplit(request.htmx.current_url or "").query
    before = Wanted.read(QueryDict(query))
    return bool(before.q and numbers.wanted.q) and before.query(q="") == numbers.wanted.query(q="")


@require_GET
@requires("view_numbers")
def detail(request, org, number):
    number = find_number(request, number)
    context = page_of(request, number, before=request.GET.get("before", ""))
    is_timeline = request.htmx.target == "timeline"
    template = "numbers/_timeline.html" if is_timeline else "numbers/number_page.html"
    return render(request, template, context)


@ask_or_do
@requires("assign_numbers")
def label(request, org, number):
    number = find_number(request, number)
    form = LabelForm(posted(request), initial={"label": number.label})
    if request.method != "POST" or not form.is_valid():
        return question(request, "label", number, {"form": form})
    try:
        number.rename(form.cleaned_data["label"], by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "The label was not saved", refusal)
    return changed(request, number, "Label saved." if number.label else "Label taken away.")


@ask_or_do
@requires("purchase_numbers")
def lock(request, org, number):
    number = find_number(request, number)
    form = LockForm(posted(request))
    if request.method != "POST" or not form.is_valid():
        return question(request, "lock", number, {"form": form})
    try:
        number.set_release_lock(form.cleaned_data["locked"], by=request.user, at=timezone.now())
    except Refused as refusal:
        return refused(request, number, "The release lock was not changed", refusal)
    return changed(request, number, f"Release lock is {'on' if number.release_locked else 'off'}.")
