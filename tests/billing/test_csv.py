"""CSV of everything billing shows: the filter that is set, safe in spreadsheets, sums that add up."""

import csv
from datetime import date
from decimal import Decimal
from io import StringIO

import pytest
import time_machine
from django.db.models import TextField, Value
from django.db.models.functions import Cast

from chirp_dashboard import spreadsheet
from chirp_dashboard.billing.models import Charge, Invoice, Payment, Refund
from chirp_dashboard.organizations.templatetags.ui import money

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

BILLING = "/o/northwind/billing"

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def late_december():
    with time_machine.travel(noon(date(2026, 12, 20)), tick=False):
        yield


def rows(client, path, **query):
    """The file at `path` as dicts."""
    response = client.get(f"{BILLING}/{path}/csv/", query)
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/csv; charset=utf-8"
    text = b"".join(response.streaming_content).decode()
    return list(csv.DictReader(StringIO(text)))


def test_charges_have_dates_decimals_and_where_they_were_asked_for(billing_client, rental):
    run(DECEMBER)
    rows_ = rows(billing_client, "charges")
    assert len(rows_) == 3
    number = rental.phone_number.number
    assert rows_[0] == {
        "Date": "2026-12-01", "Number": f"'{number}", "Charge": "rental", "From": "2026-12-01",
        "Until": "2027-01-01", "Currency": "USD", "Amount": "1.00", "Description": "",
        "Invoice": "1", "Order": "",
    }  # fmt: skip
    assert sum(Decimal(row["Amount"]) for row in rows_) == Decimal("2.27")


def test_file_is_named_after_what_whose_and_when(billing_client):
    response = billing_client.get(f"{BILLING}/charges/csv/")
    disposition = response.headers["Content-Disposition"]
    assert disposition == 'attachment; filename="northwind-charges-2026-12-20.csv"'


def test_filters_of_the_page_are_filters_of_the_file(billing_client, organization, rental):
    run(DECEMBER)
    other = rent(organization, on=date(2026, 12, 10), numbers=2)[0]
    assert len(rows(billing_client, "charges")) == 7
    assert len(rows(billing_client, "charges", number=rental.phone_number.public_id)) == 3
    assert len(rows(billing_client, "charges", kind="purchase_fee")) == 3
    assert len(rows(billing_client, "charges", month="2026-12", kind="rental")) == 3
    assert len(rows(billing_client, "numbers", q=other.phone_number.number[-4:])) == 1
    assert rows(billing_client, "numbers", state="released") == []
    assert len(rows(billing_client, "documents", state="unpaid", year="2026")) == 1
    assert rows(billing_client, "documents", kind="receipt") == []


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@x", "\t=1", "\r=1", "\n=1", "=cmd|' /C'!A0"]
)
def test_text_that_would_be_a_formula_is_neutralised(billing_client, organization, text):
    Charge.objects.issue_credit(
        organization, amount=5, reason=f"{text}", by=OPERATOR, at=noon(date(2026, 12, 1))
    )
    kept = Charge.objects.get().description
    (row,) = rows(billing_client, "charges")
    assert row["Description"] == spreadsheet.safe(kept)
    cell = spreadsheet.Safe(Value(text))
    assert Charge.objects.values_list(cell)[0] == (spreadsheet.safe(text),) == (f"'{text}",)


def test_nul_is_left_out():
    assert spreadsheet.safe("\0=1+1") == "'=1+1"


@pytest.mark.parametrize("text", ["Front desk", "a=b", "", "(212) 555-0142", 'é, "q"\n2', "'x"])
def test_other_text_survives_as_it_is(billing_client, organization, rental, text):
    organization.phone_numbers.update(label=text)
    (row,) = rows(billing_client, "numbers")
    assert row["Label"] == text
    assert spreadsheet.safe(text) == text


def test_numbers_survive_a_round_trip(billing_client, rental):
    from chirp_dashboard.numbers.stock_file import PUNCTUATION

    (row,) = rows(billing_client, "numbers")
    number = rental.phone_number.number
    assert row["Number"].removeprefix("'") == number
    assert row["Number"].translate(PUNCTUATION) == number  # as imports read it


def test_amounts_below_zero_stay_numbers(billing_client, organization):
    Charge.objects.issue_credit(
        organization, amount=40, reason="Outage", by=OPERATOR, at=noon(date(2026, 12, 1))
    )
    (row,) = rows(billing_client, "charges")
    assert row["Amount"] == "-0.40"


@pytest.mark.parametrize(
    ("currency", "minor", "text", "words"),
    [
        ("USD", 123456, "1234.56", "$1,234.56"),
        ("USD", -5, "-0.05", "−$0.05"),
        ("JPY", 123456, "123456", "JPY 123,456"),
        ("JPY", -5, "-5", "−JPY 5"),
        ("KWD", 123456, "123.456", "KWD 123.456"),
        ("KWD", -5, "-0.005", "−KWD 0.005"),
        ("VND", 9, "9", "VND 9"),
        ("TND", 1, "0.001", "TND 0.001"),
        ("ISK", 100, "1.00", "ISK 1.00"),
        ("EUR", 0, "0.00", "€0.00"),
    ],
)
def test_sums_have_the_minor_digits_of_their_currency(organization, currency, minor, text, words):
    assert spreadsheet.decimal(minor, currency) == text
    assert money(minor, currency) == words
    rent(organization, on=DECEMBER)
    cell = Cast(spreadsheet.Sum(Value(minor), currency=currency), TextField())
    assert Charge.objects.values_list(cell)[0] == (text,)


def test_yen_have_no_decimals_in_a_file(billing_client, organization):
    organization.currency = "JPY"
    organization.save()
    rent(organization, on=date(2026, 12, 10), amount=150, fee=100)
    assert {row["Amount"] for row in rows(billing_client, "charges")} == {"100", "106"}


def test_documents_have_net_tax_total_and_paid(billing_client, organization, rental):
    organization.tax_rate = 10
    organization.save()
    run(DECEMBER)
    (row,) = rows(billing_client, "documents")
    assert row == {
        "Document": "Invoice 000001", "Number": "1", "Billing date": "2026-12-01",
        "Issued": "2026-12-01", "Due": "2026-12-31", "Currency": "USD", "Net": "2.27",
        "Tax": "0.23", "Total": "2.50", "Paid": "0.00",
    }  # fmt: skip


def test_titles_in_the_file_are_those_of_the_page(organization, rental):
    from chirp_dashboard.billing.lists import title_of

    run(DECEMBER)
    invoice = Invoice.objects.annotate(words=title_of()).get()
    assert invoice.words == invoice.title


def test_payments_come_with_their_refunds(billing_client, organization, rental):
    run(DECEMBER)
    payment = Payment.objects.record_transfer(
        organization, amount=227, received_on=DECEMBER, reference="=Bank", by=OPERATOR,
        at=noon(DECEMBER),
    )  # fmt: skip
    Refund.objects.create(
        organization=organization, payment=payment, reference="r", amount=100, currency="USD",
        reason="+Undone", created_at=noon(DECEMBER),
    )  # fmt: skip
    paid, refund = rows(billing_client, "payments")
    assert (paid["What"], paid["Collected"]) == ("payment", "2.27")
    assert (paid["Received"], paid["Note"]) == ("2026-12-01", "'=Bank")
    assert (refund["What"], refund["Asked for"], refund["Note"]) == ("refund", "1.00", "'+Undone")
    assert refund["Created"] == "2026-12-01"


def test_forecast_adds_up_in_the_file(billing_client, organization, rental):
    run(DECEMBER)
    rent(organization, on=date(2026, 12, 10))
    rows_ = [row for row in rows(billing_client, "forecast") if row["Invoice date"] == str(JANUARY)]
    parts = [Decimal(row["Amount"]) for row in rows_ if row["Count"]]
    total = next(row for row in rows_ if row["Line"] == "Total")
    assert sum(parts) == Decimal(total["Amount"]) == Decimal("3.71")


def test_files_of_nothing_have_their_head(billing_client):
    for path in ("charges", "numbers", "documents", "payments"):
        response = billing_client.get(f"{BILLING}/{path}/csv/")
        text = b"".join(response.streaming_content).decode()
        assert text.count("\n") == 1
        assert "Currency" in text


def test_files_are_whole_where_queries_are_logged(billing_client, rental, settings):
    settings.DEBUG = True
    response = billing_client.get(f"{BILLING}/charges/csv/")
    assert len(response.getvalue().splitlines()) == 3


def test_file_is_sent_in_blocks(billing_client, organization, monkeypatch):
    monkeypatch.setattr(spreadsheet, "BLOCK", 500)
    rent(organization, on=date(2026, 12, 10), numbers=40)
    response = billing_client.get(f"{BILLING}/charges/csv/")
    blocks = list(response.streaming_content)
    assert len(blocks) > 10
    assert b"".join(blocks).count(b"\n") == 81


@pytest.mark.parametrize("path", ["charges", "numbers", "documents", "payments", "forecast"])
def test_files_are_for_people_of_billing(viewer_client, rival_client, client, path):
    assert viewer_client.get(f"{BILLING}/{path}/csv/").status_code == 403
    assert rival_client.get(f"{BILLING}/{path}/csv/").status_code == 404
    assert client.get(f"{BILLING}/{path}/csv/").status_code == 302


def test_files_have_nothing_of_others(billing_client, rival, rental):
    rent(rival, on=date(2026, 11, 5))
    run(DECEMBER)
    assert len(rows(billing_client, "charges")) == 3
    assert len(rows(billing_client, "numbers")) == 1
    assert len(rows(billing_client, "documents")) == 1
