"""The ladder of unpaid rent, for the frame of every page and for the billing page."""

from django import template

from chirp_dashboard.billing.ladder import Ladder

register = template.Library()


@register.simple_tag
def ladder(request, on=None):
    """`{% ladder request as ladder %}` where `request.membership.dunning` is not empty."""
    return Ladder.of(request.organization, request.membership.dunning, on=on)
