"""The operator's desk: prices are edited, money is only read, and actions call the verbs."""

from datetime import date, timedelta

import pytest
from django.apps import apps
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chirp_dashboard.billing.models import Charge, Invoice, Payment, Price, Rental, Standing
from chirp_dashboard.organizations.models import Activity, User

from .conftest import rent

HOME = "/admin/billing/"
MODELS = [
    model._meta.model_name for model in admin.site._registry if model._meta.app_label == "billing"
]
READ_ONLY = [name for name in MODELS if name != "price"]


@pytest.fixture
def billed(organization):
    """A number rented for two months and billed until today."""
    started = timezone.now().date() - timedelta(days=62)
    rental = rent(organization, on=started)[0]
    Rental.objects.charge_due(at=timezone.now())
    return rental


@pytest.fixture
def history(billed, organization, operator):
    """A row of every kind."""
    Payment.objects.record_transfer(
        organization, amount=50, received_on=date(2026, 1, 1), reference="T1", by=operator,
        at=timezone.now(),
    )  # fmt: skip
    Price.objects.create(
        country="US", number_type="local", purchase_fee=100, rental=100, valid_from=date(2020, 1, 1)
    )


def test_every_model_of_billing_is_registered():
    models = {model._meta.model_name for model in apps.get_app_config("billing").get_models()}
    assert set(MODELS) == models


@pytest.mark.parametrize("model", MODELS)
def test_lists_rows_and_searches_open(operator_client, history, model):
    registered = next(m for m in admin.site._registry if m._meta.model_name == model)
    path = f"{HOME}{model}/"
    assert operator_client.get(path).status_code == 200
    assert operator_client.get(path, {"q": "2125550"}).status_code == 200
    if row := registered.objects.first():
        assert operator_client.get(f"{path}{row.pk}/change/").status_code == 200


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_takes_no_more_queries(operator_client, history, organization, model):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert operator_client.get(f"{HOME}{model}/").status_code == 200
        return len(captured)

    few = queries()
    rent(organization, on=timezone.now().date() - timedelta(days=200), numbers=20)
    Rental.objects.charge_due(at=timezone.now())
    assert queries() <= few + 1
    assert few <= 8


@pytest.mark.parametrize("model", READ_ONLY)
def test_money_is_only_read(operator_client, history, model):
    registered = next(m for m in admin.site._registry if m._meta.model_name == model)
    path = f"{HOME}{model}/"
    assert operator_client.get(f"{path}add/").status_code == 403
    if row := registered.objects.first():
        assert operator_client.post(f"{path}{row.pk}/change/", {}).status_code == 403
        assert operator_client.post(f"{path}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        assert registered.objects.filter(pk=row.pk).exists()


def test_charges_are_found_by_the_digits_of_their_number(operator_client, billed, organization):
    other = rent(organization, on=date(2026, 11, 1))[0]
    digits = billed.phone_number.number[-7:]
    found = operator_client.get(f"{HOME}charge/", {"q": f"{digits[:3]}-{digits[3:]}"})
    page = found.content.decode()
    assert billed.phone_number.display in page
    assert other.phone_number.display not in page
    assert "0 charges" in operator_client.get(f"{HOME}charge/", {"q": "ab"}).content.decode()


# Prices ---------------------------------------------------------------------------------------


def price(**changed):
    return {
        "country": "us", "number_type": "local", "currency": "usd", "purchase_fee": "100",
        "rental": "150", "interval_months": "1", "valid_from": "2999-01-01",
    } | changed  # fmt: skip


SEEN = {"seen": "yes"}


def test_price_is_added_and_edited(operator_client, db):
    assert operator_client.post(f"{HOME}price/add/", price(**SEEN)).status_code == 302
    row = Price.objects.get()
    assert (row.country, row.currency, row.rental) == ("US", "USD", 150)
    operator_client.post(f"{HOME}price/{row.pk}/change/", price(rental="175", **SEEN))
    assert Price.objects.get().rental == 175


@pytest.mark.parametrize(
    "wrong",
    [{"rental": "-1"}, {"purchase_fee": "1.5"}, {"country": "USA"}, {"interval_months": "2"},
     {"number_type": "fax"}, {"valid_from": "soon"}, {"currency": "dollars"}],
)  # fmt: skip
def test_price_that_makes_no_sense_is_refused(operator_client, db, wrong):
    response = operator_client.post(f"{HOME}price/add/", price(**wrong))
    assert response.status_code == 200
    assert next(iter(wrong)) in response.context["adminform"].form.errors
    assert not Price.objects.exists()


def test_price_in_another_currency_than_the_organizations_is_refused(operator_client, organization):
    wrong = price(organization=organization.pk, currency="EUR")
    response = operator_client.post(f"{HOME}price/add/", wrong)
    assert "Northwind pays in USD." in response.content.decode()


def test_second_price_for_the_same_day_is_refused(operator_client, db):
    operator_client.post(f"{HOME}price/add/", price(**SEEN))
    second = operator_client.post(f"{HOME}price/add/", price(rental="1", **SEEN))
    assert "is on the price list of everyone already" in second.content.decode()
    assert Price.objects.count() == 1


def test_price_in_force_is_not_deleted(operator_client, history):
    row = Price.objects.get()
    path = f"{HOME}price/{row.pk}/delete/"
    assert operator_client.post(path, {"post": "yes"}).status_code == 403
    Price.objects.update(valid_from=date(2999, 1, 1))
    assert operator_client.post(path, {"post": "yes"}).status_code == 302
    assert not Price.objects.exists()


# Actions --------------------------------------------------------------------------------------


def choose(client, model, action, *rows, **answer):
    sent = {"action": action, "_selected_action": [row.pk for row in rows]} | answer
    return client.post(f"{HOME}{model}/", sent, follow=True)


def answered(client, model, action, row, **answer):
    once = choose(client, model, action, row).context["once"]
    return choose(client, model, action, row, answer=once, **answer)


def test_payment_is_recorded_through_its_verb(operator_client, operator, billed, organization):
    standing = Standing.objects.get()
    due = Invoice.objects.order_by("number").first()
    response = answered(
        operator_client, "standing", "record_payment", standing,
        amount="1.27", received_on="2026-01-01", reference="Bank 1",
    )  # fmt: skip
    assert "Recorded $1.27 of Northwind." in response.content.decode()
    due.refresh_from_db()
    assert due.paid == 127
    assert Payment.objects.get().note == "Bank 1"
    assert Activity.objects.get(verb="paid").actor == operator


def test_form_sent_twice_works_once(operator_client, billed):
    standing = Standing.objects.get()
    once = choose(operator_client, "standing", "issue_credit", standing).context["once"]
    answer = {"answer": once, "amount": "0.10", "reason": "Outage"}
    choose(operator_client, "standing", "issue_credit", standing, **answer)
    again = choose(operator_client, "standing", "issue_credit", standing, **answer)
    assert "This form was sent already." in again.content.decode()
    assert Charge.objects.filter(kind="credit").count() == 1


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"amount": "0"}, "greater than or equal to"),
        ({"amount": "-1"}, "greater than or equal to"),
        ({"amount": "1.005"}, "decimal places"),
        ({"amount": "NaN"}, "Enter a number"),
        ({"amount": "9" * 15}, "less than or equal to"),
        ({"received_on": "2999-01-01"}, "in the future"),
        ({"reference": " "}, "required"),
    ],
)
def test_payment_that_makes_no_sense_is_refused(operator_client, billed, wrong, says):
    answer = {"amount": "1", "received_on": "2026-01-01", "reference": "T"} | wrong
    response = answered(
        operator_client, "standing", "record_payment", Standing.objects.get(), **answer
    )
    assert says in response.content.decode()
    assert not Payment.objects.exists()


def test_credit_needs_a_reason(operator_client, billed):
    response = answered(
        operator_client, "standing", "issue_credit", Standing.objects.get(), amount="1", reason=""
    )
    assert "This field is required." in response.content.decode()
    assert not Charge.objects.filter(kind="credit").exists()


def test_charge_is_credited_at_most_once_over(operator_client, billed):
    charge = Charge.objects.get(kind="purchase_fee")
    answered(operator_client, "charge", "credit_charge", charge, amount="0.60", reason="Goodwill")
    assert Charge.objects.get(kind="credit").corrects == charge
    refused = answered(
        operator_client, "charge", "credit_charge", charge, amount="0.41", reason="Goodwill"
    )
    assert "$0.40 of the charge can still be credited." in refused.content.decode()


def test_actions_want_one_row(operator_client, billed):
    response = choose(
        operator_client, "charge", "credit_charge", *Charge.objects.order_by("pk")[:2]
    )
    assert "Choose one row for this." in response.content.decode()


@pytest.mark.parametrize(
    ("permission", "may"),
    [("view_standing", []), ("add_payment", ["record_payment"]), ("add_charge", ["issue_credit"])],
)
def test_each_action_has_its_own_permission(billed, permission, may):
    person = User.objects.create_user("clerk@chirp.example", "correct horse", is_staff=True)
    person.user_permissions.set(
        Permission.objects.filter(codename__in=[permission, "view_standing"])
    )
    client = Client()
    client.force_login(person)
    page = client.get(f"{HOME}standing/").content.decode()
    offered = [name for name in ("record_payment", "issue_credit") if f'value="{name}"' in page]
    assert offered == may
