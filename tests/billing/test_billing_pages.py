from datetime import date

import pytest
import time_machine
from django.urls import reverse

from chirp_dashboard.billing.chart import Chart
from chirp_dashboard.billing.models import (
    Charge,
    Dunning,
    Invoice,
    Payment,
    PriceChange,
    Refund,
)
from chirp_dashboard.billing.statement import INVOICES, Statement

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

OVERVIEW = "/o/northwind/billing/"
CHARGES = "/o/northwind/billing/charges/"
DOCUMENTS = "/o/northwind/billing/documents/"
PAYMENTS = "/o/northwind/billing/payments/"
PER_NUMBER = "/o/northwind/billing/numbers/"
FORECAST = "/o/northwind/billing/forecast/"


@pytest.fixture(autouse=True)
def late_december():
    with time_machine.travel(noon(date(2026, 12, 20)), tick=False):
        yield


@pytest.fixture
def invoice(rental):
    run(DECEMBER)
    return Invoice.objects.get()


def text_of(response):
    return " ".join(response.content.decode().split())


def statement(organization, on=date(2026, 12, 20)):
    return Statement(organization, on)


# Statement ------------------------------------------------------------------------------------


def test_forecast_is_what_the_next_invoice_will_ask_for(organization, rental):
    run(DECEMBER)
    rent(organization, on=date(2026, 12, 10), numbers=3, amount=250)
    rent(organization, on=date(2026, 12, 10), ends_on=JANUARY)
    rent(organization, on=date(2026, 10, 1), amount=9_000, months=3)
    Charge.objects.issue_credit(
        organization, amount=40, reason="Outage", by=OPERATOR, at=noon(date(2026, 12, 11))
    )
    expected = statement(organization)
    assert expected.next_invoice_on == JANUARY
    run(JANUARY)
    assert expected.forecast == Invoice.objects.get(billing_date=JANUARY).total


def test_forecast_counts_a_lease_only_when_its_period_begins(organization):
    rent(organization, on=date(2026, 11, 15), amount=9_000, months=3)
    run(DECEMBER)
    assert statement(organization).forecast == 0
    run(date(2027, 2, 1))
    assert statement(organization, on=date(2027, 2, 3)).forecast == 9_000
    run(date(2027, 2, 20))
    assert statement(organization, on=date(2027, 2, 20)).forecast == 9_000


def test_forecast_goes_on_after_a_month_that_was_charged_ahead(organization, rental):
    run(JANUARY)
    ahead = statement(organization, on=date(2026, 12, 20))
    assert (ahead.next_invoice_on, ahead.forecast) == (date(2027, 2, 1), 100)


def test_money_paid_ahead_is_credit_and_not_a_charge(organization, rental):
    Payment.objects.record_transfer(
        organization, amount=500, received_on=date(2026, 11, 24), reference="T", by=OPERATOR,
        at=noon(date(2026, 11, 24)),
    )  # fmt: skip
    now = statement(organization, on=date(2026, 11, 24))
    assert (now.not_invoiced, now.credit, now.due) == (127, 500, 0)
    assert now.used == -373


def test_credit_limit_counts_all_that_is_owed(organization, rental):
    organization.credit_limit = 1000
    run(DECEMBER)
    now = statement(organization)
    assert (now.used, now.left, now.limit) == (227, 773, 1000)


def test_organization_without_anything_has_a_statement(organization):
    now = statement(organization)
    assert (now.due, now.forecast, now.used, now.invoices, now.payments) == (0, 0, 0, [], [])


# Overview -------------------------------------------------------------------------------------


def test_overview_says_what_is_due_and_how_to_pay(billing_client, invoice):
    page = text_of(billing_client.get(OVERVIEW))
    assert "$2.27 to pay by 31 Dec 2026" in page
    assert "northwind 000001" in page
    assert "Next invoice, 1 Jan 2027" in page
    assert "Expected" in page


def test_overdue_invoice_is_named(billing_client, invoice):
    with time_machine.travel(noon(date(2027, 1, 2)), tick=False):
        page = text_of(billing_client.get(OVERVIEW))
    assert "Overdue since 31 Dec 2026" in page


def test_paid_invoice_leaves_nothing_to_pay(billing_client, organization, invoice):
    Payment.objects.record_transfer(
        organization, amount=227, received_on=DECEMBER, reference="Bank 7", by=OPERATOR,
        at=noon(DECEMBER),
    )  # fmt: skip
    page = text_of(billing_client.get(OVERVIEW))
    assert "Nothing to pay" in page
    assert "Bank 7" in page


def test_overview_of_nothing_says_when_the_first_invoice_comes(billing_client):
    page = text_of(billing_client.get(OVERVIEW))
    assert "The first invoice is written on 1 Jan 2027" in page


def test_prepaying_organization_is_not_told_to_transfer(billing_client, organization, invoice):
    organization.gateway = "test"
    organization.save()
    page = text_of(billing_client.get(OVERVIEW))
    assert "Transfer it" not in page
    assert "Purchases are paid at once" in page


@pytest.mark.parametrize("numbers", [1, 30])
def test_pages_take_five_queries(billing_client, organization, django_assert_num_queries, numbers):
    rental = rent(organization, on=date(2026, 11, 23), numbers=numbers)[0]
    run(DECEMBER)
    invoice = Invoice.objects.get()
    paths = {
        OVERVIEW: 4,
        CHARGES: 4,
        f"{CHARGES}?number={rental.phone_number.public_id}": 5,
        invoice_path(invoice): 5,
        DOCUMENTS: 4,
        PAYMENTS: 4,
        PER_NUMBER: 4,
        FORECAST: 9,
    }
    for path, queries in paths.items():
        with django_assert_num_queries(queries):
            assert billing_client.get(path).status_code == 200, path


def test_swap_of_the_numbers_returns_them_alone(billing_client, rental):
    headers = {"HX-Request": "true", "HX-Target": "per-number"}
    response = billing_client.get(PER_NUMBER, {"q": "nothing"}, headers=headers)
    assert next(t.name for t in response.templates) == "billing/_per_number.html"
    assert "No number matches “nothing”" in text_of(response)


def test_numbers_are_found_by_digits_and_label(billing_client, organization):
    first, second = rent(organization, on=date(2026, 11, 23), numbers=2)
    organization.phone_numbers.filter(pk=second.phone_number_id).update(label="Sales desk")
    number = first.phone_number
    for q in (number.number[-7:], number.display, "sales desk", "SALES"):
        page = text_of(billing_client.get(PER_NUMBER, {"q": q}))
        found = second.phone_number if "ales" in q.lower() else number
        other = number if found != number else second.phone_number
        assert found.display in page
        assert other.display not in page


def test_numbers_are_paged_by_key(billing_client, organization):
    rentals = rent(organization, on=date(2026, 11, 23), numbers=110)
    path, seen, pages = PER_NUMBER, [], 0
    while path:
        listed = billing_client.get(path).context["list"]
        seen += [row["public_id"] for row in listed.rows]
        path, pages = listed.older and PER_NUMBER + listed.older, pages + 1
    assert (pages, len(seen), len(set(seen))) == (3, 110, 110)
    back = billing_client.get(PER_NUMBER + listed.newer).context["list"]
    assert [row["public_id"] for row in back.rows] == seen[50:100]
    assert {rental.phone_number.public_id for rental in rentals} == set(seen)


def test_page_says_when_an_invoice_is_being_written(billing_client, organization, invoice):
    assert statement(organization).late == []
    with time_machine.travel(noon(JANUARY), tick=False):
        assert statement(organization, on=JANUARY).late == [JANUARY]
        page = text_of(billing_client.get(OVERVIEW))
        assert "The invoice of 1 Jan 2027 is being written" in page
        run(JANUARY)
        assert "is being written" not in text_of(billing_client.get(OVERVIEW))


@pytest.mark.parametrize("numbers", [1, 30])
def test_page_with_everything_on_it_takes_the_same_queries(
    billing_client, organization, operator, django_assert_num_queries, numbers
):
    rent(organization, on=date(2026, 10, 5), numbers=numbers)
    rent(organization, on=date(2026, 10, 5), amount=9_000, months=3)
    run(date(2026, 11, 1))
    PriceChange.objects.announce(
        organization, country="US", number_type="local", interval_months=1, amount=250,
        currency="USD", applies_from=date(2027, 2, 1), reason="Carrier", by=operator,
        at=noon(date(2026, 12, 1)),
    )  # fmt: skip
    with time_machine.travel(noon(date(2026, 12, 20)), tick=False):
        Dunning.objects.walk(at=noon(date(2026, 12, 20)))
        with django_assert_num_queries(4):
            page = text_of(billing_client.get(OVERVIEW))
    for words in ("to pay", "Purchases stop", "cost $2.50 per month from 1 Feb 2027"):
        assert words in page


def test_invoices_are_paged_by_number(billing_client, organization):
    rent(organization, on=date(2021, 1, 15))
    run(date(2026, 12, 20))
    latest = billing_client.get(OVERVIEW).context["statement"].invoices
    assert [invoice.number for invoice in latest] == list(range(71, 71 - INVOICES, -1))
    first = billing_client.get(DOCUMENTS).context["list"]
    assert [row["number"] for row in first.rows] == list(range(71, 21, -1))
    older = billing_client.get(DOCUMENTS + first.older, headers={"HX-Request": "true"})
    assert next(t.name for t in older.templates) == "billing/_documents.html"
    assert [row["number"] for row in older.context["list"].rows] == list(range(21, 0, -1))
    assert older.context["list"].older == ""


@pytest.mark.parametrize("nonsense", ["x", "-1", "9" * 30, "٣", "0", "\0", "2026-13", "0000-01"])
@pytest.mark.parametrize(
    ("path", "names"),
    [
        (OVERVIEW, ["after"]),
        (DOCUMENTS, ["kind", "state", "year", "after", "before"]),
        (PAYMENTS, ["state", "after", "before"]),
        (PER_NUMBER, ["q", "state", "after", "before"]),
        (CHARGES, ["kind", "month", "after", "before"]),
    ],
)
def test_nonsense_in_an_address_shows_something_calm(
    billing_client, invoice, path, names, nonsense
):
    for name in names:
        assert billing_client.get(path, {name: nonsense}).status_code == 200
        export = path + "csv/" if path != OVERVIEW else path
        assert billing_client.get(export, {name: nonsense}).status_code == 200


# Documents and payments -------------------------------------------------------------------------


def listed(client, path, **query):
    return client.get(path, query).context["list"].rows


def test_documents_are_filtered_by_kind_state_and_year(billing_client, organization, invoice):
    rent(organization, on=date(2026, 12, 10))
    run(JANUARY)
    assert [row["title"] for row in listed(billing_client, DOCUMENTS)] == [
        "Invoice 000002",
        "Invoice 000001",
    ]
    assert len(listed(billing_client, DOCUMENTS, kind="invoice", state="unpaid")) == 2
    assert [row["number"] for row in listed(billing_client, DOCUMENTS, year="2027")] == [2]
    assert listed(billing_client, DOCUMENTS, kind="receipt") == []
    assert listed(billing_client, DOCUMENTS, state="paid") == []
    assert "No document matches" in text_of(billing_client.get(DOCUMENTS, {"state": "paid"}))
    with time_machine.travel(noon(date(2027, 1, 2)), tick=False):
        assert [row["number"] for row in listed(billing_client, DOCUMENTS, state="overdue")] == [1]


def test_lists_without_anything_say_what_will_stand_there(billing_client):
    for path, words in {
        DOCUMENTS: "No invoices yet",
        PAYMENTS: "No payments yet",
        PER_NUMBER: "Nothing is rented at the moment.",
        CHARGES: "Nothing was charged yet.",
        FORECAST: "Nothing to charge",
    }.items():
        assert words in text_of(billing_client.get(path)), path


def pay(organization, invoice, state, **facts):
    return Payment.objects.create(
        organization=organization, invoice=invoice, gateway="test", currency="USD", amount=227,
        reference=f"attempt-{state}", state=state, **facts,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("state", "group", "words"),
    [
        ("created", "waiting", "Being collected"),
        ("unknown", "waiting", "Being checked"),
        ("action_required", "waiting", "Waits for your confirmation"),
        ("authorised", "waiting", "Reserved"),
        ("captured", "collected", "Collected"),
        ("declined", "failed", "Declined"),
        ("voided", "", "Cancelled"),
    ],
)
def test_payments_show_how_each_attempt_stands(
    billing_client, organization, invoice, state, group, words
):
    pay(organization, invoice, state, captured=227 if state == "captured" else 0)
    assert words in text_of(billing_client.get(OVERVIEW))
    page = text_of(billing_client.get(PAYMENTS))
    assert words in page
    assert "Invoice 000001" in page
    for other in ("waiting", "collected", "failed", "refunded"):
        assert len(listed(billing_client, PAYMENTS, state=other)) == (other == group)


def test_declined_payment_says_why(billing_client, organization, invoice):
    pay(organization, invoice, "declined", decline_code="insufficient_funds")
    assert "insufficient funds" in text_of(billing_client.get(PAYMENTS))


def test_refunds_stand_below_their_payment(billing_client, organization, invoice):
    payment = pay(organization, invoice, "captured", captured=227, refunded=100)
    Refund.objects.create(
        organization=organization, payment=payment, reference="r1", amount=100, currency="USD",
        reason="Not delivered", state="refunded",
    )  # fmt: skip
    page = text_of(billing_client.get(PAYMENTS))
    assert "$1.00 given back" in page
    assert "Not delivered" in page
    assert "−$1.00" in page
    assert len(listed(billing_client, PAYMENTS, state="refunded")) == 1


# Chart ----------------------------------------------------------------------------------------


def test_chart_shows_months_and_what_is_expected(billing_client, invoice):
    chart = billing_client.get(OVERVIEW).context["chart"]
    december, january = chart.bars[-2:]
    assert (december.name, december.text) == ("December 2026", "$2.27")
    assert (january.name, january.text) == ("January 2027, expected", "$1.00")
    assert chart.series == [("Local", "series-1"), ("Expected", "series-1 planned")]
    for bar in chart.bars:
        for rect in bar.rects:
            assert rect.y + rect.height == pytest.approx(chart.zero, abs=0.2)


def months(*sums, expected=0, currency="USD"):
    given = [(date(2026, 1 + place, 1), each) for place, each in enumerate(sums)]
    return Chart(given, (date(2026, 1 + len(sums), 1), expected), currency)


def test_chart_stacks_types_and_leaves_out_what_never_was():
    chart = months({"local": 300, "tollfree": 200}, {"local": 100, "tax": 50}, expected=700)
    assert [name for name, _ in chart.series] == ["Local", "Toll-free", "Tax", "Expected"]
    assert chart.table[0] == ("January 2026", ["$3.00", "$2.00", "–", "–"], "$5.00")
    low, high = chart.bars[0].rects
    assert high.y + high.height == pytest.approx(low.y, abs=0.2)
    assert low.height / high.height == pytest.approx(1.5, abs=0.05)


def test_chart_puts_credits_below_zero():
    chart = months({"local": 300, "": -500}, {"local": 100})
    assert chart.bottom <= -500
    charged, credited = chart.bars[0].rects
    assert charged.y + charged.height == pytest.approx(chart.zero)
    assert credited.y == chart.zero
    assert chart.bars[0].text == "−$2.00"


def test_chart_of_yen_has_whole_numbers():
    chart = months({"local": 12_345}, expected=20_000, currency="JPY")
    assert chart.bars[0].text == "JPY 12,345"
    assert all("." not in words for _, _, words in chart.grid)


def test_chart_reads_what_invoices_keep_of_their_sums(organization, rental):
    toll_free = rent(organization, on=date(2026, 11, 23), amount=200)[0]
    organization.phone_numbers.filter(pk=toll_free.phone_number_id).update(number_type="tollfree")
    organization.tax_rate = 10
    organization.save()
    Charge.objects.issue_credit(
        organization, amount=40, reason="Outage", by=OPERATOR, at=noon(date(2026, 11, 24))
    )
    run(DECEMBER)
    month, sums = statement(organization).months[-1]
    assert month == DECEMBER
    assert sums == {"local": 227, "tollfree": 353, "": -40, "tax": 54}
    assert sum(sums.values()) == Invoice.objects.get().total


# Charges --------------------------------------------------------------------------------------


def test_charges_say_where_each_was_asked_for(billing_client, organization, invoice):
    rent(organization, on=date(2026, 12, 10))
    page = text_of(billing_client.get(CHARGES))
    assert "Invoice 000001" in page
    assert "Not yet invoiced" in page
    assert "1–31 Dec 2026" in page
    assert "23–30 Nov 2026" in page


def test_charges_of_one_number(billing_client, organization, rental):
    other = rent(organization, on=date(2026, 12, 10))[0]
    page = text_of(billing_client.get(CHARGES, {"number": rental.phone_number.public_id}))
    assert f"Charges of {rental.phone_number}" in page
    assert other.phone_number.display not in page


def test_charges_of_a_rivals_number_are_not_found(billing_client, rival):
    theirs = rent(rival, on=DECEMBER)[0].phone_number
    assert billing_client.get(CHARGES, {"number": theirs.public_id}).status_code == 404
    assert billing_client.get(CHARGES, {"number": "\0ph_x"}).status_code == 404


def test_swap_of_charges_returns_them_alone(billing_client, rental):
    response = billing_client.get(CHARGES, headers={"HX-Request": "true"})
    assert next(t.name for t in response.templates) == "billing/_charges.html"


# Invoice --------------------------------------------------------------------------------------


def invoice_path(invoice):
    return reverse("billing:invoice", args=[invoice.organization.slug, invoice.public_id])


def test_invoice_shows_seller_buyer_lines_and_total(billing_client, settings, organization, rental):
    settings.SELLER_NAME, settings.SELLER_ADDRESS = "Chirp Ltd", "1 Wire Street\nLondon"
    run(DECEMBER)
    page = text_of(billing_client.get(invoice_path(Invoice.objects.get())))
    for words in (
        "Chirp Ltd",
        "1 Wire Street",
        "Northwind",
        "Purchase fee",
        "23–30 Nov 2026",
        "$2.27",
    ):
        assert words in page
    assert 'with the reference <b class="nowrap">northwind 000001</b>' in page


def test_issued_invoice_keeps_the_seller_it_was_issued_by(billing_client, settings, invoice):
    settings.SELLER_NAME = "Somebody else"
    assert "Somebody else" not in text_of(billing_client.get(invoice_path(invoice)))


def test_lines_of_a_long_invoice_are_paged(billing_client, organization):
    rent(organization, on=date(2026, 11, 23), numbers=70)
    run(DECEMBER)
    path = invoice_path(Invoice.objects.get())
    first = billing_client.get(path).context["list"]
    rest = billing_client.get(path + first.older, headers={"HX-Request": "true"})
    third = billing_client.get(path + rest.context["list"].older).context["list"]
    assert [len(page.rows) for page in (first, rest.context["list"], third)] == [100, 100, 10]
    assert next(t.name for t in rest.templates) == "billing/_lines.html"


def test_rivals_invoice_is_not_found(billing_client, rival):
    rent(rival, on=date(2026, 11, 23))
    run(DECEMBER)
    theirs = Invoice.objects.get()
    path = reverse("billing:invoice", args=["northwind", theirs.public_id])
    assert billing_client.get(path).status_code == 404
    assert billing_client.get(invoice_path(theirs)).status_code == 404


# Who may --------------------------------------------------------------------------------------


@pytest.fixture
def paths(invoice):
    return [OVERVIEW, CHARGES, invoice_path(invoice)]


@pytest.mark.parametrize("role", ["owner", "admin", "billing"])
def test_payers_see_billing(request, paths, role):
    client = request.getfixturevalue(f"{role}_client")
    assert [client.get(path).status_code for path in paths] == [200] * 3


@pytest.mark.parametrize("role", ["viewer", "developer"])
def test_other_roles_are_refused(request, paths, role):
    client = request.getfixturevalue(f"{role}_client")
    assert [client.get(path).status_code for path in paths] == [403] * 3


def test_strangers_find_nothing(rival_client, stranger_client, paths):
    for client in (rival_client, stranger_client):
        assert [client.get(path).status_code for path in paths] == [404] * 3


def test_signed_out_people_sign_in_first(client, paths):
    assert [client.get(path).status_code for path in paths] == [302] * 3


def test_nothing_is_changed_by_posting(owner_client, paths):
    assert [owner_client.post(path).status_code for path in paths] == [405] * 3
