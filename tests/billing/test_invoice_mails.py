"""What the mails about invoices say: the sum, the date, what happens next, and where to look."""

from datetime import date

import pytest

from chirp_dashboard.billing.models import Charge, Invoice
from chirp_dashboard.organizations.models import Mail

from .conftest import DECEMBER, OPERATOR, noon, rent, run


@pytest.fixture(autouse=True)
def seller(settings):
    settings.SELLER_NAME, settings.TAX_NAME = "Chirp Ltd", "VAT"
    settings.SELLER_BANK = "IBAN GB29 NWBK"
    settings.BASE_URL = "https://numbers.example"


@pytest.fixture
def taxed(organization, owner):
    organization.name, organization.tax_rate = "O'Neil & Sons", "19"
    organization.save()
    rent(organization, on=date(2026, 11, 23))
    return organization


def address(invoice):
    return f"https://numbers.example/o/northwind/billing/invoices/{invoice.public_id}/"


def test_invoice_says_how_to_transfer_it(taxed):
    run(DECEMBER)
    mail, invoice = Mail.objects.get(), Invoice.objects.get()
    assert mail.subject == "Invoice 000001: $2.70"
    assert mail.text == (
        "O'Neil & Sons has a new invoice.\n\n"
        "Invoice 000001 of 1 Dec 2026\n"
        "Net: $2.27\nVAT 19%: $0.43\nTotal: $2.70\n\n"
        "Transfer $2.70 to Chirp Ltd by 31 Dec 2026 with the reference northwind 000001.\n"
        "IBAN GB29 NWBK\n\n"
        f"Every line, as a page, PDF or CSV:\n{address(invoice)}\n\n"
        "-- \nChirp Ltd\n"
        "Sent to those who hear of the invoices of O'Neil & Sons. To change who that is:\n"
        "https://numbers.example/o/northwind/billing/details/\n"
    )


def test_invoice_that_a_card_pays_asks_for_no_transfer(taxed):
    taxed.gateway = "test"
    taxed.save()
    run(DECEMBER)
    text = Mail.objects.get(kind="invoice_issued").text
    assert "$2.70 is collected from the saved card on 1 Dec 2026." in text
    assert "Transfer" not in text
    assert "IBAN" not in text


def test_invoice_that_is_paid_already_asks_for_nothing(taxed):
    Charge.objects.issue_credit(
        taxed, amount=5000, reason="Sorry", by=OPERATOR, at=noon(date(2026, 11, 24))
    )
    run(DECEMBER)
    text = Mail.objects.get().text
    assert "Nothing is left to pay." in text
    assert "Transfer" not in text


def test_credit_note_says_why_and_what_becomes_of_it(taxed):
    run(DECEMBER)
    fee = Charge.objects.get(kind="purchase_fee")
    note = Invoice.objects.get().credit(
        [fee], reason="It never worked", by=OPERATOR, at=noon(DECEMBER)
    )
    mail = Mail.objects.get(kind="credit_note")
    assert mail.subject == "Credit note 000002: −$1.19"
    assert mail.text.startswith(
        "Credit note 000002 of 1 Dec 2026 corrects Invoice 000001 of 1 Dec 2026 for O'Neil & Sons."
        "\n\nWhy: It never worked\n\nNet: −$1.00\nVAT 19%: −$0.19\nTotal: −$1.19\n"
    )
    assert "It pays Invoice 000001 first, then what else is owed." in mail.text
    assert address(note) in mail.text
