from django.http import HttpResponse
from django.shortcuts import render
from django.utils import timezone
from django.utils.cache import get_conditional_response
from django.views.decorators.http import require_GET

from chirp_dashboard import spreadsheet
from chirp_dashboard.billing import documents, lists, paper
from chirp_dashboard.billing.statement import shown
from chirp_dashboard.organizations.permissions import requires


@require_GET
@requires("view_billing")
def invoice(request, org, invoice):
    organization = request.organization
    document = documents.find(organization, invoice)
    context = {
        "document": document,
        "invoice": shown(document.invoice, organization, organization.local_date(timezone.now())),
        "list": lists.Lines(document.invoice, request.GET),
    }
    template = "billing/_lines.html" if request.htmx else "billing/invoice.html"
    return render(request, template, context)


@require_GET
@requires("view_billing")
def pdf(request, org, invoice):
    """The document as it was issued: the same bytes every time."""
    document = documents.find(request.organization, invoice)
    etag = f'"{document.fingerprint}"'
    if unchanged := get_conditional_response(request, etag=etag):
        return unchanged
    response = HttpResponse(paper.drawn(document), content_type="application/pdf")
    response.headers["Content-Disposition"] = f'inline; filename="{document.file_name("pdf")}"'
    response.headers["ETag"] = etag
    return response


@require_GET
@requires("view_billing")
def csv(request, org, invoice):
    document = documents.find(request.organization, invoice)
    return spreadsheet.download(document.file_name("csv"), document.csv())
