"""How the views of one number answer, with htmx and without it.

A question is the body of a dialog and a page of its own. A change answers with the number as it now
stands wherever the person is looking at it; a refusal with the reason, and likewise.
"""

from urllib.parse import urlsplit

from django.contrib import messages
from django.http import QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import Resolver404, resolve, reverse
from django.utils import timezone
from django.utils.http import url_has_allowed_host_and_scheme
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRefresh, trigger_client_event

from chirp_dashboard.numbers.drawing import Drawing, rental_text, with_facts
from chirp_dashboard.numbers.listing import NumberList, Wanted
from chirp_dashboard.numbers.models import PhoneNumber

from .number_page import page_of

ask_or_do = require_http_methods(["GET", "HEAD", "POST"])


def find_number(request, public_id):
    """A number of this organization, released ones too; anybody else's is 404."""
    owned = PhoneNumber.objects.visible_to(request.organization)
    number = get_object_or_404(owned, public_id=public_id)
    number.organization = request.organization
    return number


def address_of(number, view="detail"):
    return reverse(f"numbers:{view}", args=[number.organization.slug, number.public_id])


def posted(request):
    """What a form is bound to: an empty POST too, so that it is told what is missing."""
    return request.POST if request.method == "POST" else None


def today(request):
    return request.organization.local_date(timezone.now())


# Where the person is ---------------------------------------------------------------------------


def came_from(request, otherwise):
    """The page of this organization to lead back to: named by the form, else the one that is open."""
    inside = reverse("numbers:overview", args=[request.organization.slug])
    open_page = request.htmx.current_url_abs_path if request.htmx else _referer(request)
    for address in (request.POST.get("back"), open_page):
        is_ours = url_has_allowed_host_and_scheme(address, allowed_hosts=None)
        if is_ours and address.startswith(inside) and urlsplit(address).path != request.path:
            return address
    return otherwise


def _referer(request):
    parts = urlsplit(request.headers.get("Referer", ""))
    if parts.netloc != request.get_host():
        return None
    return parts._replace(scheme="", netloc="", fragment="").geturl()


def open_view(request):
    """The name and arguments of the view that drew the open page, and its query string."""
    parts = urlsplit(request.htmx.current_url_abs_path or "")
    try:
        match = resolve(parts.path)
    except Resolver404:
        return "", {}, parts.query
    is_here = match.kwargs.get("org") == request.organization.slug
    return match.view_name if is_here else "", match.kwargs, parts.query


# Answers ----------------------------------------------------------------------------------------


def question(request, name, number, context, *, status=200):
    """Ask before something is done: `_name.html` in a dialog, or on a page."""
    form = context.get("form")
    if form is not None and form.is_bound and not form.is_valid():
        status = 422
    context = context | {
        "number": number,
        "page": address_of(number),
        "rental": rental_text(number),
        "back": came_from(request, address_of(number)),
        "layout": "_question.html" if request.htmx else "numbers/question.html",
    }
    return render(request, f"numbers/_{name}.html", context, status=status)


def changed(request, number, text, *, undo=""):
    """Say what was done and show the number as it now stands."""
    if not request.htmx:
        messages.success(request, text, extra_tags=undo)
        return redirect(came_from(request, address_of(number)))
    shown = as_shown(request, number)
    if shown is None:
        messages.success(request, text, extra_tags=undo)
        return HttpResponseClientRefresh()
    response = render(request, "numbers/_changed.html", shown | {"text": text, "undo": undo})
    return trigger_client_event(response, "close-dialog")


def refused(request, number, heading, refusal):
    """Say why not, with the number as it now stands."""
    shown = as_shown(request, number) if request.htmx else {"row": [drawn(request, number)]}
    context = (shown or {}) | {"heading": heading, "refusal": refusal}
    return question(request, "refused", number, context, status=409)


def drawn(request, number, *, slug=""):
    """The number as a row of the list (of the application `slug`), read anew."""
    row = with_facts(PhoneNumber.objects.filter(pk=number.pk)).get()
    return Drawing(request.organization, on=today(request), slug=slug).draw(row)


def as_shown(request, number):
    """What changes on the open page: its row, or the page of the number; None for other pages."""
    view, arguments, query = open_view(request)
    if view == "numbers:detail" and arguments["number"] == number.public_id:
        return page_of(request, find_number(request, number.public_id)) | {"whole": True}
    if view == "numbers:list":
        numbers = NumberList(
            request.organization,
            Wanted.read(QueryDict(query)),
            path=reverse(view, kwargs=arguments),
            on=today(request),
        )
        return {"row": [drawn(request, number)], "list": numbers}
    if view == "numbers:application_numbers":
        return row_of_application(request, number, arguments["slug"])
    return None


def row_of_application(request, number, slug):
    """The number's row in the list of an application, or that it left it."""
    assigned = (
        number.assignments.open().filter(application__slug=slug).select_related("application")
    )
    here = assigned.first()
    if here is None:
        return {"gone": number.public_id}
    return {
        "row": [drawn(request, number, slug=slug)],
        "here": {"name": here.application.name, "slug": slug},
    }
