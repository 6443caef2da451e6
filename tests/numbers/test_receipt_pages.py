"""The receipt of an order that was paid at once."""

import re
from io import BytesIO

import pytest
import time_machine
from django.urls import reverse
from pypdf import PdfReader

from chirp_dashboard.billing.models import Invoice, Payment

from .conftest import NOON


@pytest.fixture(autouse=True)
def noon():
    with time_machine.travel(NOON, tick=False):
        yield


@pytest.fixture
def prepaid(organization):
    organization.gateway = "test"
    organization.save()
    return organization


@pytest.fixture
def receipt(prepaid, purchase, stock):
    purchase(stock[0], stock[1])
    return Invoice.objects.get()


def page(client, invoice):
    response = client.get(reverse("billing:invoice", args=["northwind", invoice.public_id]))
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def printed(client, invoice):
    path = reverse("billing:invoice_pdf", args=["northwind", invoice.public_id])
    pages = PdfReader(BytesIO(client.get(path).content)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def test_receipt_says_what_was_paid_when_and_for_which_order(owner_client, receipt):
    shown = page(owner_client, receipt)
    payment = Payment.objects.get()
    for words in (
        "Receipt 000001", "Order of 23 Nov 2026", "(212) 555-0142", "(212) 555-0143",
        "Total $2.54 Paid $2.54", f"$2.54 collected on 23 Nov 2026, payment {payment.public_id}",
    ):  # fmt: skip
        assert words in shown
    assert "To pay" not in shown
    assert "Transfer" not in shown
    paper = printed(owner_client, receipt)
    assert "Receipt 000001" in paper
    assert "Paid on 23 Nov 2026. Nothing is left to pay." in paper
    assert receipt.order.public_id in paper
    assert "Due" not in paper


def test_receipt_of_an_order_is_named_after_what_it_is(owner_client, receipt):
    path = reverse("billing:invoice_pdf", args=["northwind", receipt.public_id])
    disposition = owner_client.get(path).headers["Content-Disposition"]
    assert disposition == 'inline; filename="receipt-000001-northwind.pdf"'
