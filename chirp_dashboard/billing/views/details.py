"""Who the invoices are written to, and who hears of them."""

from django.contrib import messages
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from chirp_dashboard.billing.forms import DetailsForm
from chirp_dashboard.organizations.permissions import requires


@require_http_methods(["GET", "HEAD", "POST"])
@requires("manage_billing")
def details(request, org):
    organization = request.organization
    posted = request.POST if request.method == "POST" else None
    form = DetailsForm(posted, initial=DetailsForm.of(organization))
    if form.is_valid():
        organization.change_settings(form.cleaned_data, by=request.user, at=timezone.now())
        messages.success(request, "Billing details saved.")
        address = reverse("billing:overview", args=[org])
        return HttpResponseClientRedirect(address) if request.htmx else redirect(address)
    context = {"form": form, "people": organization.billing_recipients()}
    template = "billing/_details.html" if request.htmx else "billing/details.html"
    return render(request, template, context, status=422 if form.errors else 200)
