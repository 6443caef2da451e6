"""Template filters of the purchase pages: prices per interval, time left, and what a search matched."""

from datetime import timedelta

from django import template
from django.utils.html import format_html

from chirp_dashboard.numbers.search import Position
from chirp_dashboard.organizations.templatetags.ui import price

register = template.Library()


@register.filter
def rent(offer, currency):
    """`$1.00 / month`, or `$1,200.00 / 3 months` for a lease."""
    if offer.rental == 0:
        return "free"
    interval = "month" if offer.interval_months == 1 else f"{offer.interval_months} months"
    return f"{price(offer.rental, currency)} / {interval}"


@register.filter
def left(until, at):
    """`14:59` from `at` until then; what the countdown shows before it starts to run."""
    minutes, seconds = divmod(max(0, round((until - at).total_seconds())), 60)
    return f"{minutes}:{seconds:02}"


@register.filter
def clock(moment, zone):
    """`16:12` on the organization's wall."""
    return f"{moment.astimezone(zone):%H:%M}"


@register.filter
def span(start, end):
    """ "23–30 Nov" for the half-open days [23 Nov, 1 Dec): people count the last day in."""
    last = end - timedelta(days=1)
    if start == last:
        return f"{start.day} {start:%b}"
    if (start.year, start.month) == (last.year, last.month):
        return f"{start.day}–{last.day} {last:%b}"
    return f"{start.day} {start:%b} – {last.day} {last:%b %Y}"


@register.filter
def sentence(text):
    """A reason as a sentence of its own: "Just sold." for "just sold"."""
    text = str(text)
    return f"{text[:1].upper()}{text[1:].rstrip('.')}." if text else ""


@register.filter
def matched(offer, criteria):
    """The number as people read it, with what the search matched marked."""
    shown, digits = offer.display, criteria.digits if criteria else ""
    at = [index for index, character in enumerate(shown) if character.isdigit()]
    national = "".join(shown[index] for index in at)
    start = _position(national, digits, criteria) if digits else -1
    if start < 0 or start + len(digits) > len(at):
        return shown
    first, last = at[start], at[start + len(digits) - 1] + 1
    return format_html("{}<mark>{}</mark>{}", shown[:first], shown[first:last], shown[last:])


def _position(national, digits, criteria):
    if criteria.position == Position.ENDS_WITH:
        return len(national) - len(digits)
    if criteria.position == Position.CONTAINS or national.startswith(digits):
        return national.find(digits)
    return national.find(digits, 3)
