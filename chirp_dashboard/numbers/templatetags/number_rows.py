from django import template

from chirp_dashboard.numbers.stencils import print_rows

register = template.Library()


@register.simple_tag(takes_context=True)
def number_rows(context, rows, *, here=None, oob=False):
    """Rows of the number list; `here` is the application whose list it is, `oob` swaps them by id."""
    can = context["request"].can
    return print_rows(
        "numbers/_number_row.html", rows, here=here or None, oob=oob,
        can_assign=can.assign_numbers, can_purchase=can.purchase_numbers,
    )  # fmt: skip
