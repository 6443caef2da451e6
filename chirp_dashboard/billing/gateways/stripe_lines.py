"""The lines of a Stripe Invoice: what one payment collects, at most 250 of them."""

from django.apps import apps

from chirp_dashboard.organizations.templatetags.ui import money

MOST_LINES = 250
LONGEST = 250  # characters of a description that a PDF of Stripe's still shows


class SumsDiffer(Exception):
    """What is due is not what the payment asks for any more; nothing may be collected for it."""


def lines_of(payment):
    """One line per charge of the invoice, or per kind where those are too many; then its tax, what was
    paid of it before, and what is still due on older invoices. They sum to `payment.amount`."""
    invoice = payment.invoice
    rest = [
        line(
            f"{invoice.seller.get('tax_name') or 'Tax'} {invoice.tax_rate.normalize():f} %",
            invoice.tax,
        ),
        line(f"Paid before of {invoice.title}", -invoice.paid),
        *older_ones(invoice),
    ]
    rest = [each for each in rest if each["amount"]]
    if len(rest) > MOST_LINES // 2:
        rest = [line(f"{invoice.title}: tax, paid before, and older invoices", total(rest))]
    each = charges_of(invoice) if invoice.line_count + len(rest) <= MOST_LINES else sums_of(invoice)
    lines = each + rest
    if total(lines) != payment.amount:
        raise SumsDiffer(
            f"{money(total(lines), payment.currency)} is due and not "
            f"{money(payment.amount, payment.currency)}; it was not collected."
        )
    return lines


def line(description, amount):
    return {"description": description[:LONGEST], "amount": amount}


def total(lines):
    return sum(each["amount"] for each in lines)


def charges_of(invoice):
    charges = apps.get_model("billing", "Charge").objects.filter(invoice_line__invoice=invoice)
    rows = charges.order_by("invoice_line").select_related("phone_number")
    return [line(words_of(charge), charge.amount) for charge in rows]


def words_of(charge):
    words = [charge.description or charge.get_kind_display()]
    if charge.phone_number:
        words.append(str(charge.phone_number))
    if charge.period_start:
        words.append(f"{charge.period_start} to {charge.period_end}")
    return ", ".join(words)


def sums_of(invoice):
    """The invoice's own sums, by number type and kind of charge."""
    kinds = dict(apps.get_model("billing", "Charge").Kind.choices)
    return [
        line(
            f"{kinds.get(sum_['kind'], sum_['kind'])}, {sum_['count']:,} × {sum_['type'] or 'other'}",
            sum_["amount"],
        )
        for sum_ in invoice.sums
    ]


def older_ones(invoice):
    """What is still due on invoices before this one, a line for each."""
    unpaid = type(invoice).objects.filter(organization=invoice.organization_id).unpaid()
    return [
        line(f"Still due on {older.title}", older.due)
        for older in unpaid
        if (older.due_on, older.number) < (invoice.due_on, invoice.number)
    ]
