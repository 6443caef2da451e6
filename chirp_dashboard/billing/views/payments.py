"""Paying at once what is due, and one payment's page: what became of it, and what the bank asks."""

from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.http import require_http_methods, require_POST

from chirp_dashboard.billing.models import Payment
from chirp_dashboard.billing.models.collecting import PaymentRefused
from chirp_dashboard.organizations.permissions import requires


@require_POST
@requires("manage_billing")
def pay(request, org, invoice):
    """Collect an invoice and what is due on older ones now; a second click begins nothing."""
    organization, at = request.organization, timezone.now()
    invoice = get_object_or_404(organization.invoices, public_id=invoice)
    try:
        payment = Payment.objects.pay_now(
            invoice,
            amount=sum_shown(request.POST.get("amount", "")),
            after=request.POST.get("after", ""),
            by=request.user,
            at=at,
        )
    except PaymentRefused as refusal:
        context = {"invoice": invoice, "refusal": refusal}
        return render(request, "billing/payment_refused.html", context, status=409)
    payment.advance(at=at)
    return redirect("billing:confirm", organization.slug, payment.public_id)


def sum_shown(text):
    """The sum in the minor unit that the form showed; one that cannot be due for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else -1


@require_http_methods(["GET", "HEAD", "POST"])
@requires("manage_billing")
def confirm(request, org, payment):
    """What became of a payment, with the way to confirm it; a POST asks the gateway now."""
    payments = request.organization.payments.select_related("order", "invoice")
    payment = get_object_or_404(payments, public_id=payment)
    if request.method == "POST":
        payment.look_again(at=timezone.now())
        return redirect(request.path)
    template = "billing/_payment.html" if request.htmx else "billing/payment.html"
    return render(request, template, {"payment": payment, "here": request.path})
