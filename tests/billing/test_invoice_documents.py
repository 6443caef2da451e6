import csv
import re
from datetime import date
from io import BytesIO, StringIO

import pytest
from django.urls import reverse
from pypdf import PdfReader

from chirp_dashboard.billing import documents, paper
from chirp_dashboard.billing.models import Charge, Invoice, Payment, Refund

from .conftest import DECEMBER, OPERATOR, noon, rent, run

STARTED = date(2026, 11, 23)


@pytest.fixture(autouse=True)
def seller(settings):
    settings.SELLER_NAME = "Chirp Ltd"
    settings.SELLER_ADDRESS = "1 Wire Street\nLondon"
    settings.SELLER_TAX_ID = "GB 123"
    settings.SELLER_BANK = "IBAN GB29 NWBK"
    settings.TAX_NAME = "VAT"


@pytest.fixture
def taxed(organization):
    organization.tax_rate = "19"
    organization.billing_address = "7 Long Street\nSpringfield"
    organization.tax_id = "PL 7"
    organization.save()
    return organization


@pytest.fixture
def invoice(organization, rental):
    run(DECEMBER)
    return Invoice.objects.get()


@pytest.fixture
def taxed_invoice(taxed, rental):
    run(DECEMBER)
    return Invoice.objects.get()


@pytest.fixture
def credit_note(taxed_invoice):
    fee = Charge.objects.get(kind="purchase_fee")
    return taxed_invoice.credit(
        [fee], reason="It never worked", by=OPERATOR, at=noon(date(2026, 12, 5))
    )


def address(invoice, view="invoice"):
    return reverse(f"billing:{view}", args=[invoice.organization.slug, invoice.public_id])


def page(client, invoice):
    response = client.get(address(invoice))
    assert response.status_code == 200
    return " ".join(re.sub(r"<[^>]+>", " ", response.content.decode()).split())


def pdf(invoice):
    return paper.drawn(documents.find(invoice.organization, invoice.public_id))


def text_of(written):
    pages = PdfReader(BytesIO(written)).pages
    return " ".join(" ".join(page.extract_text() for page in pages).split())


def rows(invoice):
    document = documents.find(invoice.organization, invoice.public_id)
    return list(csv.DictReader(StringIO(b"".join(document.csv()).decode())))


# What they say --------------------------------------------------------------------------------

INVOICE = [
    "Chirp Ltd", "1 Wire Street", "Tax number GB 123", "Northwind", "7 Long Street",
    "Tax number PL 7", "000001", "1 Dec 2026", "31 Dec 2026", "23–30 Nov 2026", "Purchase fee",
    "Net", "$2.27", "VAT 19%", "$0.43", "Total", "$2.70", "northwind 000001", "IBAN GB29 NWBK",
]  # fmt: skip


def test_page_and_pdf_of_an_invoice_say_the_same(billing_client, taxed_invoice):
    shown, printed = page(billing_client, taxed_invoice), text_of(pdf(taxed_invoice))
    for words in [*INVOICE, rented().display]:
        assert words in shown
        assert words in printed


def rented():
    return Charge.objects.filter(kind="purchase_fee").latest("id").phone_number


def test_no_tax_line_stands_where_there_is_no_tax(billing_client, invoice):
    for words in (page(billing_client, invoice), text_of(pdf(invoice))):
        assert "VAT" not in words
        assert "Net" not in words
        assert "Total $2.27" in words


def test_credit_note_and_what_it_corrects_name_each_other(
    billing_client, taxed_invoice, credit_note
):
    for words in (page(billing_client, credit_note), text_of(pdf(credit_note))):
        assert "Credit note" in words
        assert "Invoice 000001 of 1 Dec 2026" in words
        assert "It never worked" in words
        assert "−$1.00" in words
        assert "VAT 19% −$0.19" in words
        assert "Total −$1.19" in words
        assert "Transfer" not in words
    corrected = page(billing_client, taxed_invoice)
    assert "Credit note 000002 of 5 Dec 2026: −$1.19" in corrected
    assert "Paid or credited $1.19" in corrected
    assert "To pay $1.51" in corrected


def test_refund_of_a_credit_note_is_shown_with_it(billing_client, organization, credit_note):
    payment = Payment.objects.record_transfer(
        organization,
        amount=500,
        received_on=DECEMBER,
        reference="T",
        by=OPERATOR,
        at=noon(DECEMBER),
    )
    Refund.objects.create(
        organization=organization, payment=payment, credit_note=credit_note, reference="r",
        amount=119, currency="USD", reason="It never worked", state="refunded",
    )  # fmt: skip
    assert "$1.19 given back, refund" in page(billing_client, credit_note)


def test_issued_invoice_keeps_its_buyer_and_seller(billing_client, taxed, taxed_invoice, settings):
    printed = pdf(taxed_invoice)
    taxed.change_settings(
        {"name": "Southwind", "billing_address": "Elsewhere", "tax_id": "XX 9"},
        by=OPERATOR, at=noon(DECEMBER),
    )  # fmt: skip
    settings.SELLER_NAME, settings.TAX_NAME = "Somebody else", "GST"
    assert pdf(Invoice.objects.get()) == printed
    shown = page(billing_client, taxed_invoice).split("From", 1)[1]
    for words in ("Southwind", "Elsewhere", "XX 9", "Somebody else", "GST"):
        assert words not in shown


def test_invoice_of_nothing_to_pay_asks_for_nothing(organization, rental):
    Charge.objects.issue_credit(
        organization, amount=5000, reason="Sorry", by=OPERATOR, at=noon(STARTED)
    )
    run(DECEMBER)
    words = text_of(pdf(Invoice.objects.get()))
    assert "Nothing to pay." in words
    assert "Transfer" not in words
    assert "IBAN" not in words


# PDF ------------------------------------------------------------------------------------------


def test_same_invoice_is_the_same_bytes(taxed_invoice):
    assert pdf(taxed_invoice) == pdf(taxed_invoice)


def test_payment_does_not_change_what_was_issued(organization, taxed_invoice):
    printed = pdf(taxed_invoice)
    Payment.objects.record_transfer(
        organization,
        amount=270,
        received_on=DECEMBER,
        reference="T",
        by=OPERATOR,
        at=noon(DECEMBER),
    )
    assert Invoice.objects.get().is_paid
    assert pdf(Invoice.objects.get()) == printed


def test_pdf_says_what_it_is(taxed_invoice):
    reader = PdfReader(BytesIO(pdf(taxed_invoice)))
    assert reader.metadata.title == "Invoice 000001"
    assert reader.metadata.author == "Chirp Ltd"
    assert reader.metadata.creation_date == taxed_invoice.created_at.replace(microsecond=0)
    assert reader.trailer["/Root"]["/Lang"] == "en"


@pytest.mark.parametrize("name", ["Żółć", "Ελλάδα", "Кирилл", "Čeština", "Tiếng Việt", "A&B <i>"])
def test_names_are_written_as_they_are(organization, rental, name):
    organization.change_settings({"name": name}, by=OPERATOR, at=noon(STARTED))
    run(DECEMBER)
    words = text_of(pdf(Invoice.objects.get()))
    assert name in words
    assert paper.MISSING not in words


def test_east_asian_names_take_a_standard_font(organization, rental):
    organization.change_settings({"name": "東京 Ltd 们 서울"}, by=OPERATOR, at=noon(STARTED))
    run(DECEMBER)
    written = pdf(Invoice.objects.get())
    for font in (b"HeiseiKakuGo-W5", b"STSong-Light", b"HYGothic-Medium"):
        assert b"/" + font in written
    assert paper.MISSING not in text_of(written)


def test_letters_of_no_font_are_marked_and_explained(organization, rental):
    organization.change_settings({"name": "Bird 🐦 and مرحبا"}, by=OPERATOR, at=noon(STARTED))
    run(DECEMBER)
    words = text_of(pdf(Invoice.objects.get()))
    assert "Bird ▯ and ▯▯▯▯▯" in words
    assert "▯ stands for a letter that this PDF cannot show; that page does." in words


def test_long_words_stay_on_the_page(organization, rental):
    organization.change_settings({"name": "W" * 120}, by=OPERATOR, at=noon(STARTED))
    Charge.objects.issue_credit(
        organization, amount=1, reason="x" * 200, by=OPERATOR, at=noon(STARTED)
    )
    run(DECEMBER)
    widths = []

    def measure(text, _, matrix, font, size):
        if text.strip() and font:
            widths.append(matrix[4] + len(text.strip()) * size * 0.2)

    for sheet in PdfReader(BytesIO(pdf(Invoice.objects.get()))).pages:
        sheet.extract_text(visitor_text=measure)
    assert max(widths) < paper.WIDTH
    for line in paper.wrapped("W" * 120, 200, paper.BODY):
        assert paper.width_of(line, paper.REGULAR, paper.BODY) <= 200


@pytest.mark.parametrize("letters", ["W" * 27, "i" * 27, "3MW4t2hXKvR7Q91CH0BGvmplMdN"])
def test_an_id_is_never_broken_however_wide_its_letters_are(letters):
    paper.glyphs()
    room = paper.RIGHT - paper.MIDDLE - paper.LABEL
    order = f"ord_{letters}"
    assert paper.wrapped(order, room, paper.size_for(order, room)) == [order]


def test_every_line_of_a_long_invoice_is_printed_under_its_columns(organization):
    rent(organization, on=STARTED, numbers=60)
    run(DECEMBER)
    reader = PdfReader(BytesIO(pdf(Invoice.objects.get())))
    pages = [" ".join(page.extract_text().split()) for page in reader.pages]
    assert len(pages) > 3
    assert sum(text.count("23–30 Nov 2026") for text in pages) == 60
    assert all("Number Charge For USD" in text for text in pages[:-1])
    for place, text in enumerate(pages, start=1):
        assert f"Page {place} of" in text
        assert str(len(pages)) in text


@pytest.mark.slow
def test_ten_thousand_lines_are_all_printed(organization):
    rent(organization, on=STARTED, numbers=documents.LINES_AT_MOST // 3)
    run(DECEMBER)
    reader = PdfReader(BytesIO(pdf(Invoice.objects.get())))
    printed = sum(page.extract_text().count("23–30 Nov 2026") for page in reader.pages)
    assert printed == documents.LINES_AT_MOST // 3


def test_too_many_lines_are_summed_by_type(organization, monkeypatch):
    monkeypatch.setattr(documents, "LINES_AT_MOST", 5)
    rent(organization, on=STARTED, numbers=2)
    run(DECEMBER)
    words = text_of(pdf(Invoice.objects.get()))
    assert "Local Purchase fee 2 $2.00" in words
    assert "Local Rental 4 $2.54" in words
    assert "The 6 lines are in the CSV file on the page below." in words
    assert "23–30 Nov 2026" not in words


def test_answer_is_a_named_file(billing_client, taxed_invoice):
    response = billing_client.get(address(taxed_invoice, "invoice_pdf"))
    assert response.headers["Content-Type"] == "application/pdf"
    assert (
        response.headers["Content-Disposition"] == 'inline; filename="invoice-000001-northwind.pdf"'
    )
    assert response.content == pdf(taxed_invoice)
    assert response.headers["Cache-Control"] == "no-store"


def test_unchanged_pdf_is_not_drawn_again(billing_client, taxed_invoice, monkeypatch):
    path = address(taxed_invoice, "invoice_pdf")
    etag = billing_client.get(path).headers["ETag"]
    monkeypatch.setattr(paper, "drawn", None)
    assert billing_client.get(path, headers={"If-None-Match": etag}).status_code == 304


def test_new_bank_account_is_a_new_file(billing_client, taxed_invoice, settings):
    path = address(taxed_invoice, "invoice_pdf")
    etag = billing_client.get(path).headers["ETag"]
    settings.SELLER_BANK = "IBAN DE02"
    changed = billing_client.get(path, headers={"If-None-Match": etag})
    assert changed.status_code == 200
    assert "IBAN DE02" in text_of(changed.content)


# CSV ------------------------------------------------------------------------------------------


def test_csv_adds_up(taxed_invoice):
    *lines, net, tax, total = rows(taxed_invoice)
    assert [line["Amount"] for line in lines] == ["0.27", "1.00", "1.00"]
    assert sum(round(float(line["Amount"]) * 100) for line in lines) == 227
    assert (net["Charge"], net["Amount"]) == ("Net", "2.27")
    assert (tax["Charge"], tax["Amount"]) == ("VAT 19%", "0.43")
    assert (total["Charge"], total["Amount"]) == ("Total", "2.70")
    assert lines[0] | {"Number": ""} == {
        "Document": "Invoice 000001", "Issued": "2026-12-01", "Number": "", "Type": "local",
        "Charge": "rental", "From": "2026-11-23", "Until": "2026-12-01", "Description": "",
        "Currency": "USD", "Amount": "0.27",
    }  # fmt: skip
    assert lines[0]["Number"] == f"'{rented().number}"


def test_csv_without_tax_has_no_line_for_it(invoice):
    assert [row["Charge"] for row in rows(invoice)[-2:]] == ["Net", "Total"]


def test_csv_has_every_line_of_a_long_invoice(organization):
    rent(organization, on=STARTED, numbers=120)
    run(DECEMBER)
    assert len(rows(Invoice.objects.get())) == 360 + 2


def test_csv_cells_are_no_formulas(organization, rental):
    Charge.objects.issue_credit(
        organization, amount=7, reason="=HYPERLINK(1)", by=OPERATOR, at=noon(STARTED)
    )
    run(DECEMBER)
    credit = next(row for row in rows(Invoice.objects.get()) if row["Charge"] == "credit")
    assert (credit["Description"], credit["Amount"]) == ("'=HYPERLINK(1)", "-0.07")


def test_csv_is_a_named_file(billing_client, credit_note):
    response = billing_client.get(address(credit_note, "invoice_csv"))
    assert response.headers["Content-Type"].startswith("text/csv")
    assert (
        response.headers["Content-Disposition"]
        == 'attachment; filename="credit-note-000002-northwind.csv"'
    )
    assert b"It never worked" in b"".join(response.streaming_content)


# Who may --------------------------------------------------------------------------------------

VIEWS = ["invoice", "invoice_pdf", "invoice_csv"]


@pytest.mark.parametrize("view", VIEWS)
def test_invoice_of_another_organization_is_not_found(billing_client, rival_client, rival, view):
    rent(rival, on=STARTED)
    run(DECEMBER)
    theirs = Invoice.objects.get()
    ours = reverse(f"billing:{view}", args=["northwind", theirs.public_id])
    assert billing_client.get(ours).status_code == 404
    assert billing_client.get(address(theirs, view)).status_code == 404
    assert rival_client.get(address(theirs, view)).status_code == 200


@pytest.mark.parametrize("view", VIEWS)
def test_roles_without_billing_are_refused(developer_client, viewer_client, invoice, view):
    for client in (developer_client, viewer_client):
        assert client.get(address(invoice, view)).status_code == 403


@pytest.mark.parametrize("view", VIEWS)
def test_unknown_invoice_is_not_found(billing_client, view):
    path = reverse(f"billing:{view}", args=["northwind", "inv_nothing"])
    assert billing_client.get(path).status_code == 404
    assert billing_client.post(path).status_code == 405
