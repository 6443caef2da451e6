"""Quotes, orders and purchases through the API: the dashboard's rules, each once."""

import pytest
from django.utils import timezone

from chirp_dashboard.billing.models import Charge
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber
from chirp_dashboard.organizations.models import Activity, Application

from ..numbers.conftest import prices, stock

__all__ = ["prices", "stock"]

pytestmark = pytest.mark.django_db
ORDERS = "/organization/orders"


def lines(*rows):
    return [{"phoneNumber": row.number} for row in rows]


def quoted(call, *rows):
    return call("POST", f"{ORDERS}?dryRun=true", {"lines": lines(*rows)}).json()


@pytest.fixture
def test_app(organization):
    return Application.objects.create(
        organization=organization, name="Try out", slug="try-out", kind="test"
    )


def buy(call, application, number, **headers):
    body = {"phoneNumber": number, "numberType": "local"}
    path = f"/organization/phone-numbers/{application.public_id}/purchase"
    return call("POST", path, body, **headers)


def test_number_is_purchased_for_an_app(admin_call, prices, stock, storefront):
    answer = buy(admin_call, storefront, stock[0].number)
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["purchaseHistoryId"].startswith("ph_purch_")
    number = PhoneNumber.objects.get()
    assert (number.public_id, number.number) == (body["phoneNumberId"], body["number"])
    assert number.assignments.get().application == storefront
    order = Order.objects.get()
    assert (order.placed_by, str(order.placer)) == (None, "Tests")
    assert Activity.objects.get(verb="purchased").actor_kind == "key"
    assert check_books(at=timezone.now()) == []


def test_quote_is_what_the_order_costs(admin_call, prices, stock):
    quote = quoted(admin_call, stock[0], stock[1])
    assert quote["id"] is None
    assert not Order.objects.exists()
    body = {"lines": lines(stock[0], stock[1]), "expectedTotal": quote["total"]}
    order = admin_call("POST", ORDERS, body).json()
    assert (order["state"], order["total"]) == ("completed", quote["total"])
    assert {line["state"] for line in order["lines"]} == {"delivered"}
    assert admin_call("GET", f"{ORDERS}/{order['id']}").json() == order
    assert admin_call("GET", ORDERS).json() == {"orders": [order], "nextCursor": None}
    assert sum(charge.amount for charge in Charge.objects.all()) == quote["net"]


def test_other_total_buys_nothing_and_says_what_it_is(admin_call, prices, stock):
    total = quoted(admin_call, stock[0])["total"]
    answer = admin_call("POST", ORDERS, {"lines": lines(stock[0]), "expectedTotal": total - 1})
    assert answer.status_code == 409
    error = answer.json()["error"]
    assert (error["code"], error["param"]) == ("quote_changed", "expectedTotal")
    assert str(total) in error["message"]
    assert not PhoneNumber.objects.exists()


def test_sold_number_is_409(admin_call, rival_call, prices, stock, storefront, rival_application):
    assert buy(admin_call, storefront, stock[0].number).status_code == 201
    late = buy(rival_call, rival_application, stock[0].number)
    assert (late.status_code, late.json()["error"]["code"]) == (409, "number_unavailable")
    unknown = buy(admin_call, storefront, "+12125559999")
    assert unknown.status_code == 409


def test_number_a_person_holds_is_409(admin_call, prices, stock, storefront, organization, owner):
    Hold.objects.hold(organization, owner, [stock[0].key], at=timezone.now())
    assert buy(admin_call, storefront, stock[0].number).status_code == 409
    answer = admin_call("POST", ORDERS, {"lines": lines(stock[0]), "expectedTotal": 127})
    assert answer.status_code == 409


def test_credit_that_is_short_is_402(admin_call, prices, stock, storefront, organization):
    organization.credit_limit = 1
    organization.save()
    answer = buy(admin_call, storefront, stock[0].number)
    assert (answer.status_code, answer.json()["error"]["code"]) == (402, "payment_required")
    assert answer.json()["error"]["type"] == "provider_error"
    assert not Order.objects.exists()


def test_archived_or_foreign_app_is_404(admin_call, rival_application, prices, stock):
    assert buy(admin_call, rival_application, stock[0].number).status_code == 404


@pytest.mark.parametrize(
    ("change", "param"),
    [({"lines": []}, "lines"), ({"lines": [{"phoneNumber": 7}]}, "lines[0].phoneNumber"),
     ({"expectedTotal": -1}, "expectedTotal"), ({"expectedTotal": "1"}, ""),
     ({"expectedTotal": None}, "expectedTotal"), ({"appId": "app_x"}, "appId")],
)  # fmt: skip
def test_order_that_makes_no_sense_is_refused(admin_call, prices, stock, change, param):
    body = {"lines": lines(stock[0]), "expectedTotal": 1} | change
    answer = admin_call("POST", ORDERS, body)
    assert answer.status_code in {400, 404, 409}
    assert not param or answer.json()["error"]["param"] == param
    assert not Order.objects.exists()


def test_repeat_with_the_key_is_one_order(admin_call, prices, stock, storefront):
    first = buy(admin_call, storefront, stock[0].number, Idempotency_Key="van-1")
    again = buy(admin_call, storefront, stock[0].number, Idempotency_Key="van-1")
    assert (again.status_code, again.json()) == (201, first.json())
    other = buy(admin_call, storefront, stock[1].number, Idempotency_Key="van-1")
    assert other.status_code == 422
    assert Order.objects.count() == 1


def test_repeat_whose_answer_was_never_stored_is_the_same_order(admin_call, prices, stock):
    """The process was killed between the order and the storing of its answer."""
    from chirp_dashboard.api.models import Answer

    body = {"lines": lines(stock[0]), "expectedTotal": quoted(admin_call, stock[0])["total"]}
    first = admin_call("POST", ORDERS, body, Idempotency_Key="k")
    Answer.objects.all().delete()
    again = admin_call("POST", ORDERS, body, Idempotency_Key="k")
    assert again.json() == first.json()
    Answer.objects.all().delete()
    other = admin_call("POST", ORDERS, body | {"lines": lines(stock[1])}, Idempotency_Key="k")
    assert other.status_code == 422
    assert Order.objects.count() == 1


# Test applications ----------------------------------------------------------------------------


def test_test_number_costs_nothing_and_touches_no_stock(
    admin_call, prices, stock, test_app, storefront
):
    made = buy(admin_call, test_app, stock[0].number)
    assert made.status_code == 201, made.content
    assert made.json()["phoneNumberId"].startswith("ph_test_")
    assert not Charge.objects.exists()
    assert not Order.objects.exists()
    assert InventoryNumber.objects.get(pk=stock[0].pk).status == "for_sale"
    assert check_books(at=timezone.now()) == []
    assert buy(admin_call, storefront, stock[0].number).status_code == 201, "still for sale"
    assert check_books(at=timezone.now()) == []


def test_test_key_works_with_test_numbers_only(
    admin_call, owner, organization, prices, stock, test_app, storefront
):
    from .conftest import make_key

    call = make_key(organization, owner, test_app)
    assert call.secret.startswith("sk_test_app_")
    test = buy(admin_call, test_app, stock[0].number).json()["phoneNumberId"]
    live = buy(admin_call, storefront, stock[1].number).json()["phoneNumberId"]
    assert [n["phoneNumberId"] for n in call("GET", "/phone-numbers").json()["phoneNumbers"]] == [
        test
    ]
    assert call("POST", "/phone-numbers", {"phoneNumberId": live}).status_code == 404
    assert call("DELETE", f"/phone-numbers/{test}").status_code == 200
    assert call("POST", "/phone-numbers", {"phoneNumberId": test}).status_code == 201
    assert admin_call("DELETE", f"/organization/phone-numbers/{test}").json()["success"] is True
    assert admin_call("POST", f"/organization/phone-numbers/{test}/undo-release").status_code == 409
    assert check_books(at=timezone.now()) == []


def test_magic_numbers_answer_as_the_worst_case(admin_call, test_app):
    gone = buy(admin_call, test_app, "+15005550000")
    assert (gone.status_code, gone.json()["error"]["code"]) == (409, "number_unavailable")
    unpaid = buy(admin_call, test_app, "+15005550002")
    assert (unpaid.status_code, unpaid.json()["error"]["code"]) == (402, "payment_required")
    assert buy(admin_call, test_app, "12").status_code == 400
    assert not PhoneNumber.objects.exists()
