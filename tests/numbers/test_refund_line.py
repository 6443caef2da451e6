"""A line that counts as delivered and never worked: number back, charges credited, money returned, once."""

from datetime import date, timedelta

import pytest

from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    Refund,
    Rental,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import InventoryNumber, Order, OrderLine, PhoneNumber
from chirp_dashboard.numbers.models.refunding import LineRefundRefused
from chirp_dashboard.numbers.models.releasing import ReleaseRefused
from chirp_dashboard.organizations.models import Activity, Actor

from .conftest import NOON

DUE = 127
LATER = NOON + timedelta(hours=1)
OPERATOR = Actor.system("tests")


@pytest.fixture
def order(organization, owner, stock, storefront):
    """Two numbers, assigned to the storefront; `order("test")` is paid by card."""

    def order(gateway="account"):
        organization.gateway = gateway
        organization.save()
        return Order.objects.place(
            organization,
            person=owner,
            numbers=[stock[0].key, stock[1].key],
            expected_total=2 * DUE,
            idempotency_key="key",
            application=storefront,
            at=NOON,
        )

    return order


def refund(order, *, reason="The number never rang", at=LATER):
    line = order.lines.first()
    line.refund(reason=reason, by=OPERATOR, at=at)
    Refund.objects.advance_due(at=at)
    return line


def test_a_prepaid_line_is_refunded_by_credit_note_and_card(order):
    placed = order("test")
    line = refund(placed)
    note = Invoice.objects.get(kind="credit_note")
    assert (note.total, note.corrects.kind, note.order) == (-DUE, "receipt", placed)
    given = Refund.objects.get()
    assert (given.state, given.amount, given.credit_note) == ("refunded", DUE, note)
    assert Payment.objects.get().refunded == DUE
    assert TestAuthorisation.objects.get(state="refunded").amount == DUE
    assert Standing.objects.get().balance == 0
    assert line.is_refunded
    assert check_books(at=LATER) == []


def test_the_number_goes_back_and_is_not_rented_any_more(order, organization):
    line = refund(order())
    number = line.phone_number
    number.refresh_from_db()
    assert number.is_released
    assert not number.assignments.open().exists()
    assert InventoryNumber.objects.get(number=number.number).not_for_sale_until > LATER
    Rental.objects.charge_due(on=date(2027, 1, 1), at=NOON + timedelta(days=40))
    rent = Charge.objects.filter(phone_number=number, kind="rental")
    assert rent.count() == 1, "only the first period, which was credited"
    assert check_books(at=NOON + timedelta(days=40)) == []


def test_what_was_not_invoiced_yet_is_credited_on_the_next_invoice(order):
    refund(order())
    assert Standing.objects.get().balance == DUE
    assert not Invoice.objects.exists()
    Rental.objects.charge_due(on=date(2026, 12, 1), at=NOON + timedelta(days=8))
    assert Invoice.objects.get().total == DUE + 100
    assert not Refund.objects.exists()
    assert check_books(at=NOON + timedelta(days=8)) == []


def test_what_was_invoiced_is_credited_by_notes_on_each_invoice(order):
    placed = order("test")
    for day, month in ((8, date(2026, 12, 1)), (39, date(2027, 1, 1))):
        Rental.objects.charge_due(on=month, at=NOON + timedelta(days=day))
    refund(placed, at=NOON + timedelta(days=40))
    notes = Invoice.objects.filter(kind="credit_note").order_by("number")
    assert [(note.corrects.kind, note.total) for note in notes] == [
        ("monthly", -100), ("monthly", -100), ("receipt", -DUE),
    ]  # fmt: skip
    assert Payment.objects.get().refunded == DUE, "the order's payment gives back what it collected"
    assert Standing.objects.get().balance == 200, "rent of the other number"
    assert check_books(at=NOON + timedelta(days=40)) == []


def test_tax_is_given_back_with_it(order, organization, owner, stock):
    organization.tax_rate, organization.gateway = 19, "test"
    organization.save()
    placed = Order.objects.place(
        organization,
        person=owner,
        numbers=[stock[0].key, stock[1].key],
        expected_total=302,
        idempotency_key="key",
        at=NOON,
    )
    for line in placed.lines.all():
        line.refund(reason="Never worked", by=OPERATOR, at=LATER)
    Refund.objects.advance_due(at=LATER)
    assert sum(Refund.objects.values_list("amount", flat=True)) == 302
    assert Standing.objects.get().balance == 0
    assert check_books(at=LATER) == []


def test_a_line_is_refunded_once(order):
    placed = order("test")
    refund(placed)
    refund(placed)
    assert Refund.objects.count() == 1
    assert Invoice.objects.filter(kind="credit_note").count() == 1
    assert Activity.objects.filter(verb="line_refunded").count() == 1


def test_a_refunded_number_is_not_brought_back(order, owner):
    number = refund(order()).phone_number
    number = PhoneNumber.objects.get(pk=number.pk)
    with pytest.raises(ReleaseRefused, match="was refunded"):
        number.undo_release(by=owner, at=LATER)


def test_pages_do_not_promise_that_a_refunded_number_comes_back(
    order, organization, owner_client, time_machine
):
    number = refund(order()).phone_number
    time_machine.move_to(LATER)
    page = f"/o/{organization.slug}/numbers/{number.public_id}/"
    shown = owner_client.get(page).content.decode()
    assert "can no longer be brought back" in shown
    assert "undo-release" not in shown
    asked = owner_client.get(f"{page}undo-release/").content.decode()
    assert "cannot be brought back" in asked
    assert "was refunded" in asked
    assert "14 days" not in asked


def test_a_lock_or_an_earlier_release_does_not_keep_the_money(order, owner):
    placed = order()
    first, second = placed.lines.all()
    first.phone_number.set_release_lock(True, by=owner, at=NOON)
    second.phone_number.release(when="now", by=owner, at=NOON)
    for line in placed.lines.all():
        line.refund(reason="Never worked", by=OPERATOR, at=LATER)
    assert not PhoneNumber.objects.live().exists()
    assert Standing.objects.get().balance == 0
    assert check_books(at=LATER) == []


def test_a_charge_credited_before_is_not_credited_twice(order):
    placed = order()
    fee = Charge.objects.filter(kind="purchase_fee").first()
    Charge.objects.issue_credit(
        placed.organization, amount=40, reason="Goodwill", by=OPERATOR, at=NOON, corrects=fee
    )
    refund(placed)
    assert Standing.objects.get().balance == DUE
    assert check_books(at=LATER) == []


@pytest.mark.parametrize(("reason", "why"), [(" ", "Write why"), ("x" * 201, "at most 200")])
def test_a_refund_says_why(order, reason, why):
    with pytest.raises(LineRefundRefused, match=why):
        refund(order(), reason=reason)
    assert PhoneNumber.objects.live().count() == 2


def test_a_line_that_was_not_delivered_cannot_be_refunded(order):
    placed = order()
    line = placed.lines.last()
    OrderLine.objects.filter(pk=line.pk).update(state="failed", phone_number=None)
    with pytest.raises(LineRefundRefused, match="not delivered"):
        line.refund(reason="Never worked", by=OPERATOR, at=LATER)


def test_an_order_that_is_not_settled_is_settled_first(order):
    placed = order("test")
    Order.objects.filter(pk=placed.pk).update(state="stuck", settled_at=None)
    with pytest.raises(LineRefundRefused, match="not settled"):
        refund(placed)


def test_the_order_page_shows_what_was_refunded(order, owner_client):
    placed = order("test")
    refund(placed)
    page = owner_client.get(f"/o/northwind/orders/{placed.public_id}/").content.decode()
    assert "The number never rang." in page
    assert "1 of 2 numbers delivered" in page
    assert "Given back" in page
    assert "Credit note 000002" in page
    placed.lines.last().refund(reason="Neither did this", by=OPERATOR, at=LATER)
    page = owner_client.get(f"/o/northwind/orders/{placed.public_id}/").content.decode()
    assert "Fee and rental are credited. The numbers are yours no more." in page


def test_what_other_credits_left_too_little_for_is_credited_on_the_next_invoice(
    order, organization
):
    placed = order()
    Charge.objects.issue_credit(organization, amount=250, reason="Gift", by=OPERATOR, at=NOON)
    Rental.objects.charge_due(on=date(2026, 12, 1), at=NOON + timedelta(days=8))
    assert Invoice.objects.get().net == 2 * (DUE + 100) - 250
    refund(placed, at=NOON + timedelta(days=9))
    assert not Invoice.objects.filter(kind="credit_note").exists()
    credits = Charge.objects.filter(kind="credit").exclude(corrects=None)
    assert sorted(credits.values_list("amount", flat=True)) == [-100, -100, -27]
    assert check_books(at=NOON + timedelta(days=9)) == []


def test_a_month_the_run_had_not_charged_yet_is_credited_too(order):
    placed, at = order(), NOON + timedelta(days=9)
    for line in placed.lines.all():
        line.refund(reason="Never rang", by=OPERATOR, at=at)
    Rental.objects.charge_due(at=at)
    assert Charge.objects.filter(period_start=date(2026, 12, 1)).count() == 2
    assert Standing.objects.get().balance == 0
    assert check_books(at=at) == []
