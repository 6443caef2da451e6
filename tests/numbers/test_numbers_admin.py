"""The admin for stock, holds, orders and numbers: history is only read, actions call the verbs."""

from datetime import timedelta

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, OrderLine, PhoneNumber
from chirp_dashboard.organizations.models import Activity

from .conftest import NOON, in_stock

HOME = "/admin/numbers/"
MODELS = [
    model._meta.model_name for model in admin.site._registry if model._meta.app_label == "numbers"
]
READ_ONLY = ["hold", "order", "orderline", "phonenumber", "assignment", "totals"]


def act(client, model, action, *rows):
    """Choose `rows` in the list of `model` and carry out `action`."""
    sent = {"action": action, "_selected_action": [row.pk for row in rows]}
    return client.post(HOME + f"{model}/", sent, follow=True)


def refresh(row):
    row.refresh_from_db()
    return row


def test_every_model_of_numbers_is_registered():
    assert set(MODELS) == {"inventorynumber", *READ_ONLY}


@pytest.fixture
def some(stock, organization, owner, storefront):
    """Makes orders, numbers, assignments and holds: `some(3)`."""
    free = iter(range(10_000))

    def some(count):
        for _ in range(count):
            bought, held = (in_stock(f"+1212556{next(free):04}") for _ in range(2))
            Order.objects.place(
                organization,
                person=owner,
                numbers=[bought.key],
                expected_total=127,
                idempotency_key=bought.number,
                at=NOON,
                application=storefront,
            )
            Hold.objects.create(
                **held.facts,
                organization=organization,
                person=owner,
                held_at=NOON,
                held_until=NOON + timedelta(minutes=15),
                purchase_fee=100,
                rental=100,
                currency="USD",
            )

    return some


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_takes_no_more_queries(operator_client, some, model):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert operator_client.get(HOME + f"{model}/").status_code == 200
        return len(captured)

    some(3)
    few = queries()
    some(27)
    assert queries() == few
    assert few <= 7


@pytest.mark.parametrize("model", MODELS)
def test_every_row_can_be_opened_and_searched(operator_client, some, model):
    some(1)
    [row] = admin.site._registry[apps_model(model)].get_queryset(None)[:1]
    assert operator_client.get(HOME + f"{model}/{row.pk}/change/").status_code == 200
    for q in ("212", "(212) 556", "Storefront", "%", "a\0", "🏪", "x" * 3000):
        assert operator_client.get(HOME + f"{model}/", {"q": q}).status_code == 200


def apps_model(name):
    return next(m for m in admin.site._registry if m._meta.label_lower == f"numbers.{name}")


@pytest.mark.parametrize("model", READ_ONLY)
def test_history_is_only_read(operator_client, some, model):
    some(1)
    row = apps_model(model).objects.get()
    page = HOME + f"{model}/{row.pk}/"
    assert operator_client.post(page + "change/", {"state": "forged"}).status_code == 403
    assert operator_client.post(page + "delete/", {"post": "yes"}).status_code == 403
    assert operator_client.get(HOME + f"{model}/add/").status_code == 403
    assert apps_model(model).objects.count() == 1


# Stock


def test_stock_is_added_and_edited(operator_client, db):
    fields = {
        "country": "US",
        "number": "+12125550199",
        "number_type": "local",
        "region": "NY",
        "city": "New York",
        "area_code": "212",
        "capabilities": "SMS,Voice",
    }
    operator_client.post(HOME + "inventorynumber/add/", fields)
    row = InventoryNumber.objects.get()
    assert row.status == "for_sale"
    operator_client.post(
        HOME + f"inventorynumber/{row.pk}/change/", fields | {"city": "Brooklyn", "number": "+1"}
    )
    row.refresh_from_db()
    assert (row.city, row.number) == ("Brooklyn", "+12125550199")


@pytest.mark.parametrize("number", ["12125550199", "555-0100", "+0123", "", "x" * 5000])
def test_what_is_no_number_is_refused(operator_client, db, number):
    fields = {"country": "US", "number": number, "number_type": "local", "capabilities": "SMS"}
    response = operator_client.post(HOME + "inventorynumber/add/", fields)
    assert response.status_code == 200
    assert response.context["adminform"].errors
    assert InventoryNumber.objects.count() == 0


def test_editing_does_not_undo_a_sale_made_meanwhile(operator_client, stock):
    row = stock[0]
    page = HOME + f"inventorynumber/{row.pk}/change/"
    operator_client.get(page)
    InventoryNumber.objects.filter(pk=row.pk).update(status="sold")
    operator_client.post(
        page,
        {
            "number_type": "local",
            "city": "Brooklyn",
            "region": "NY",
            "area_code": "212",
            "capabilities": "SMS,MMS,Voice",
            "status": "for_sale",
        },
    )
    row.refresh_from_db()
    assert (row.city, row.status) == ("Brooklyn", "sold")


def test_stock_is_withdrawn_and_put_back_but_never_what_is_sold(operator_client, stock):
    InventoryNumber.objects.filter(pk=stock[1].pk).update(status="sold")
    content = act(operator_client, "inventorynumber", "withdraw", *stock[:2]).content.decode()
    assert "1 of 2 withdrawn from sale." in content
    assert [refresh(row).status for row in stock[:2]] == ["withdrawn", "sold"]
    act(operator_client, "inventorynumber", "put_on_sale", *stock[:2])
    assert [refresh(row).status for row in stock[:2]] == ["for_sale", "sold"]


def test_stock_is_never_deleted(operator_client, stock):
    page = HOME + f"inventorynumber/{stock[0].pk}/delete/"
    assert operator_client.post(page, {"post": "yes"}).status_code == 403
    assert "delete_selected" not in operator_client.get(HOME + "inventorynumber/").content.decode()


def test_stock_is_found_by_digits_place_and_state(operator_client, stock):
    def found(**query):
        page = operator_client.get(HOME + "inventorynumber/", query)
        return {row.number for row in page.context["cl"].result_list}

    in_stock("+15145550142", country="CA", region="QC", city="Montreal", area_code="514")
    assert found(q="555-0142") == {"+12125550142", "+15145550142"}
    assert found(q="(514) 555") == {"+15145550142"}
    assert found(q="montreal") == {"+15145550142"}
    assert found(region="QC") == {"+15145550142"}
    assert len(found(available="now")) == 6
    assert found(available="aside") == set()


def test_list_of_stock_counts_no_further_than_its_cap(operator_client, stock):
    with CaptureQueriesContext(connection) as captured:
        operator_client.get(HOME + "inventorynumber/")
    counts = [query["sql"] for query in captured if "COUNT(" in query["sql"]]
    assert counts
    assert all("LIMIT 10000" in sql for sql in counts)


# Holds, orders, numbers


def test_stuck_hold_is_released(operator_client, stock, organization, owner):
    Hold.objects.hold(organization, owner, [stock[0].key], at=timezone.now())
    response = act(operator_client, "hold", "let_go", Hold.objects.get())
    assert "Released: 1." in response.content.decode()
    assert Hold.objects.count() == 0


def test_stuck_orders_can_be_listed(operator_client, some):
    some(2)
    stuck = Order.objects.first()
    Order.objects.filter(pk=stuck.pk).update(state="stuck")
    page = operator_client.get(HOME + "order/", {"state__exact": "stuck"})
    assert list(page.context["cl"].result_list) == [stuck]


def test_settled_order_has_no_next_step(operator_client, some):
    some(1)
    content = act(operator_client, "order", "advance", Order.objects.get()).content.decode()
    assert "nothing to do now" in content


def test_numbers_are_locked_through_the_verb(operator_client, some, operator):
    some(1)
    number = PhoneNumber.objects.get()
    act(operator_client, "phonenumber", "lock", number)
    assert refresh(number).release_locked
    assert Activity.objects.get(verb="locked").actor == operator
    act(operator_client, "phonenumber", "unlock", number)
    assert not refresh(number).release_locked


def test_numbers_are_found_by_label(operator_client, some, owner):
    some(2)
    number = PhoneNumber.objects.first()
    number.rename("Front desk", by=owner, at=NOON)
    page = operator_client.get(HOME + "phonenumber/", {"q": "front"})
    assert list(page.context["cl"].result_list) == [number]
    page = operator_client.get(HOME + "phonenumber/", {"q": number.public_id})
    assert list(page.context["cl"].result_list) == [number]


def test_member_of_an_organization_is_no_operator(owner_client, stock):
    assert owner_client.get(HOME + "inventorynumber/", follow=True).status_code == 403


def ask_refund(client, line, **answer):
    """Answer the form, look at what it does, and confirm."""
    path, chosen = HOME + "orderline/", {"action": "refund", "_selected_action": [line.pk]}
    once = client.post(path, chosen).context["once"]
    seen = client.post(path, chosen | {"answer": once} | answer)
    if not seen.context or not seen.context["seen"]:
        return seen
    sent = chosen | {"answer": seen.context["once"], "confirmed": "yes"} | answer
    return client.post(path, sent, follow=True)


def test_a_line_that_never_worked_is_refunded(operator_client, operator, number):
    line = OrderLine.objects.get()
    assert "This field is required." in ask_refund(operator_client, line).content.decode()
    done = ask_refund(operator_client, line, reason="It never rang").content.decode()
    assert "is given back and its charges are credited." in done
    assert refresh(line).is_refunded
    assert refresh(number).is_released
    assert Activity.objects.get(verb="line_refunded").actor == operator
    again = ask_refund(operator_client, line, reason="Again").content.decode()
    assert "was refunded already." in again
    assert Activity.objects.filter(verb="line_refunded").count() == 1
