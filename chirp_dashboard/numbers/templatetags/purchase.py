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
def span(period):
    """ "23–30 Nov", the last day included; "23 Nov – 22 Feb 2027" where the month changes."""
    first, last = period.start, period.end - timedelta(days=1)
    if (first.year, first.month) == (last.year, last.month):
        return f"{first.day}–{last.day} {last:%b}" if first != last else f"{last.day} {last:%b}"
    return f"{first.day} {first:%b} – {last.day} {last:%b %Y}"


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
