"""Every rule of the books, broken on purpose behind the database's back, has to be named."""

from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chirp_dashboard.billing.models import Charge, Invoice, Payment, Rental
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import InventoryNumber

from .conftest import NOON

DECEMBER = date(2026, 12, 1)
LATER = datetime(2026, 12, 2, 12, tzinfo=UTC)


@contextmanager
def unguarded(cursor):
    """No trigger and no foreign key looks; what they still have to check is checked before."""
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    cursor.execute("SET session_replication_role = replica")
    yield cursor
    cursor.execute("SET session_replication_role = DEFAULT")


def plant(statement, *parameters):
    with connection.cursor() as cursor, unguarded(cursor):
        cursor.execute(statement, parameters)


def drop(*constraints):
    """Take away what would refuse the violation; the test's transaction brings it back."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        for table, name in constraints:
            cursor.execute("SELECT EXISTS (SELECT FROM pg_constraint WHERE conname = %s)", [name])
            if cursor.fetchone()[0]:
                cursor.execute(f"ALTER TABLE {table} DROP CONSTRAINT {name}")
            else:
                cursor.execute(f"DROP INDEX {name}")


def broken():
    return [(row.invariant, row.what) for row in check_books(at=LATER)]


def assert_named(invariant, *texts):
    """Some row of `invariant` is named with all of `texts`."""
    found = broken()
    assert any(
        invariant == row[0] and all(str(text) in row[1] for text in texts) for row in found
    ), found


@pytest.fixture
def billed(purchase, stock, organization, storefront, owner):
    """(212) 555-0142 and 0143, assigned, billed on 1 December, half paid; the first of them."""
    numbers = purchase(stock[0], stock[1], application=storefront)
    Rental.objects.charge_due(on=DECEMBER, at=LATER)
    Payment.objects.record_transfer(
        organization, amount=200, received_on=DECEMBER, reference="T1", by=owner, at=LATER
    )
    return numbers[0]


def test_books_of_untouched_work_balance(billed):
    assert broken() == []


def test_released_and_returned_numbers_balance(billed, owner):
    billed.release(when="now", by=owner, at=LATER)
    assert broken() == []
    billed.undo_release(by=owner, at=LATER + timedelta(hours=1))
    assert broken() == []


@pytest.mark.parametrize("status", ["for_sale", "claimed"])
def test_owned_number_that_is_not_sold_in_stock_is_named(billed, status):
    InventoryNumber.objects.filter(number=billed.number).update(status=status)
    assert_named("I1", billed.number, status, billed.public_id)


@pytest.mark.parametrize("status", ["sold", "claimed"])
def test_stock_that_nobody_has_is_named(stock, status):
    InventoryNumber.objects.filter(number=stock[0].number).update(status=status)
    assert_named("I1", stock[0].number, status)


def test_empty_books_balance(db):
    assert broken() == []


def test_two_live_owners_are_named(billed, rival):
    drop(("numbers_phonenumber", "phone_number_owned_once"))
    other = billed.organization.phone_numbers.exclude(pk=billed.pk).get()
    plant("UPDATE numbers_phonenumber SET number = %s WHERE id = %s", billed.number, other.pk)
    assert_named("I1", billed.number, billed.public_id, other.public_id)


def test_two_live_order_lines_are_named(billed):
    drop(
        ("numbers_orderline", "line_live_once"),
        ("numbers_orderline", "line_once"),
        ("numbers_orderline", "line_delivered_has_number"),
    )
    plant("UPDATE numbers_orderline SET state = 'placed', number = %s", billed.number)
    assert_named("I1", billed.number, billed.order_line.public_id)


def test_doubled_period_is_named(billed):
    drop(("billing_charge", "charge_rental_period_once"))
    plant(
        "INSERT INTO billing_charge (organization_id, entry_id, kind, rental_id, phone_number_id,"
        ' "on", period_start, period_end, amount, currency, description, created_at)'
        ' SELECT organization_id, entry_id, kind, rental_id, phone_number_id, "on", period_start,'
        " period_end, amount, currency, description, created_at FROM billing_charge"
        " WHERE kind = 'rental' AND period_start = %s AND phone_number_id = %s",
        DECEMBER,
        billed.pk,
    )
    assert_named("I2", f"rental {billed.rentals.get().pk}", "2 charges")
    assert_named("I3", "entry")


def test_period_charged_before_it_begins_is_named(billed):
    charge = Charge.objects.filter(kind="rental", period_start=DECEMBER).first()
    plant(
        "UPDATE billing_charge SET period_start = '2027-05-01', period_end = '2027-06-01'"
        " WHERE id = %s",
        charge.pk,
    )
    assert_named("I2", f"charge {charge.pk}", "2027-05-01")


def test_period_charged_after_the_end_is_named(billed):
    rental = billed.rentals.get()
    plant("UPDATE billing_rental SET ends_on = %s WHERE id = %s", DECEMBER, rental.pk)
    assert_named("I2", f"rental {rental.pk}", "2026-12-01")


def test_period_not_charged_is_named(billed):
    plant(
        "DELETE FROM billing_charge WHERE period_start = %s AND phone_number_id = %s",
        DECEMBER,
        billed.pk,
    )
    assert_named("I2", billed.public_id, "1 of 2 periods")


def test_periods_due_by_another_day_can_be_asked_for(billed):
    assert check_books(at=LATER, on=date(2026, 12, 31)) == []
    missing = check_books(at=LATER, on=date(2027, 1, 1))
    assert {row.invariant for row in missing} == {"I2"}
    assert len(missing) == 2


def test_unbalanced_entry_is_named(billed):
    plant("UPDATE billing_posting SET amount = amount + 1 WHERE account = 'rentals'")
    found = broken()
    assert {invariant for invariant, _ in found} == {"I3"}
    assert any(what.startswith("entry ") for _, what in found)
    assert ("I3", "northwind: 2 USD") in found
    assert ("I3", "2 USD") in found


def test_entry_that_differs_from_its_charges_is_named(billed):
    charge = Charge.objects.filter(kind="purchase_fee").first()
    plant("UPDATE billing_charge SET amount = 7 WHERE id = %s", charge.pk)
    assert_named("I3", f"entry {charge.entry_id}: charges of 161, posted 254")
    assert_named("Invoices", Invoice.objects.get().public_id)


def test_payment_not_posted_is_named(billed):
    plant("UPDATE billing_payment SET captured = 150")
    assert_named("I3", Payment.objects.get().public_id, "collected 150, posted 200")


def test_balance_that_differs_is_named(billed):
    plant("UPDATE billing_standing SET balance = balance + 5")
    assert_named("I3", "northwind: balance 259, posted 254")


def test_reserve_that_differs_is_named(billed):
    plant("UPDATE billing_standing SET unsettled = 5")
    assert_named("I3", "northwind: reserved 5, orders 0")


def test_number_without_a_fee_is_named(billed):
    plant(
        "DELETE FROM billing_charge WHERE kind = 'purchase_fee' AND phone_number_id = %s", billed.pk
    )
    assert_named("I6", f"{billed.public_id}: 0 fees")


def test_fee_without_a_number_is_named(billed):
    fee = Charge.objects.filter(kind="purchase_fee", phone_number=billed).get()
    plant("UPDATE billing_charge SET phone_number_id = NULL WHERE id = %s", fee.pk)
    assert_named("I6", f"charge {fee.pk}")


def test_number_free_for_a_reason_needs_no_fee(billed):
    plant("UPDATE numbers_phonenumber SET no_fee_reason = 'adopted' WHERE id = %s", billed.pk)
    assert_named("I6", f"{billed.public_id}: 1 fees")


def test_assignment_across_organizations_is_named(billed, rival_application):
    plant("UPDATE numbers_assignment SET application_id = %s", rival_application.pk)
    assert_named("I10", billed.public_id, rival_application.public_id)


def test_assignment_of_a_released_number_is_named(billed, owner):
    billed.release(when="now", by=owner, at=LATER)
    assignment = billed.assignments.get()
    plant("UPDATE numbers_assignment SET ended_at = NULL WHERE id = %s", assignment.pk)
    assert_named("I10", f"assignment {assignment.pk}", billed.public_id)


def test_period_off_its_anchor_is_named(billed):
    charge = Charge.objects.filter(kind="rental", period_start=DECEMBER).first()
    plant("UPDATE billing_charge SET period_end = '2026-12-31' WHERE id = %s", charge.pk)
    assert_named("I11", f"charge {charge.pk}", "2026-12-31")


def test_gap_between_periods_is_named(billed):
    charge = Charge.objects.filter(kind="rental", period_start=date(2026, 11, 23)).first()
    plant("UPDATE billing_charge SET period_end = '2026-11-30' WHERE id = %s", charge.pk)
    assert_named("I11", f"rental {charge.rental_id}: 2026-11-30, then 2026-12-01")


def test_overlapping_rentals_are_named(billed):
    drop(("billing_rental", "rental_open_once"))
    plant(
        "INSERT INTO billing_rental (organization_id, phone_number_id, amount, currency,"
        " interval_months, anchor, starts_on, created_at) SELECT organization_id, phone_number_id,"
        " amount, currency, interval_months, anchor, starts_on + 1, created_at FROM billing_rental"
        " WHERE phone_number_id = %s",
        billed.pk,
    )
    assert_named("I11", f"{billed.public_id}: open, then 2026-11-24")


@pytest.mark.parametrize(
    "change", ["rental_amount = 999", "interval_months = 3", "releases_on = '2027-01-01'"]
)
def test_number_that_disagrees_with_its_rental_is_named(billed, change):
    plant(f"UPDATE numbers_phonenumber SET {change} WHERE id = %s", billed.pk)
    assert_named("Kept twice", billed.public_id)


def test_miscounted_assignments_are_named(billed):
    plant("UPDATE numbers_phonenumber SET assignment_count = 4 WHERE id = %s", billed.pk)
    assert_named("Kept twice", f"{billed.public_id}: counts 4, has 1")


@pytest.mark.parametrize("change", ["numbers = 9", "monthly = 9"])
def test_wrong_totals_are_named(billed, change):
    plant(f"UPDATE numbers_totals SET {change}")
    assert_named("Kept twice", "northwind: counts", "has 2 and 200")


def test_invoice_that_is_not_its_lines_is_named(billed):
    plant("UPDATE billing_invoice SET total = 1000")
    assert_named("Invoices", Invoice.objects.get().public_id, "1000 on 6 lines, has 454 on 6")


def test_charge_of_an_order_on_an_invoice_is_named(billed):
    charge = Charge.objects.filter(kind="purchase_fee").first()
    plant(
        "UPDATE billing_charge SET order_id = (SELECT id FROM numbers_order) WHERE id = %s",
        charge.pk,
    )
    assert_named("Invoices", f"charge {charge.pk}")


def test_charge_that_no_invoice_asks_for_is_named(billed):
    charge = Charge.objects.filter(kind="purchase_fee").first()
    plant("DELETE FROM billing_invoiceline WHERE charge_id = %s", charge.pk)
    assert_named("Invoices", f"charge {charge.pk} of northwind")


def test_gap_between_invoice_numbers_is_named(billed):
    plant("UPDATE billing_invoice SET number = 3")
    assert_named("Invoices", "number 1 is missing")
    assert_named("Invoices", Invoice.objects.get().public_id, "number 3")


def test_overpaid_invoice_is_named(billed):
    plant("UPDATE billing_invoice SET paid = 455")
    assert_named("Invoices", Invoice.objects.get().public_id, "paid 455 of 454")
    assert_named("Invoices", "northwind: invoices paid 455, collected 200")


@pytest.mark.parametrize(
    "table",
    ["billing_charge", "billing_posting", "billing_entry", "billing_invoiceline",
     "organizations_activity"],
)  # fmt: skip
def test_table_that_lost_its_guard_is_named(billed, table):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert_named("I13", table, "switched off")


def test_guard_that_was_dropped_is_named(billed):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute("SELECT tgname FROM pg_trigger WHERE tgrelid = 'billing_charge'::regclass"
                       " AND tgname LIKE 'pgtrigger%'")  # fmt: skip
        (name,) = cursor.fetchone()
        cursor.execute(f"DROP TRIGGER {name} ON billing_charge")
    assert_named("I13", "billing_charge", "uninstalled")


def test_command_says_that_the_books_balance(billed, capsys):
    call_command("check_books")
    assert "The books balance" in capsys.readouterr().out


def test_command_names_what_is_broken_and_fails(billed, capsys, caplog):
    plant("UPDATE billing_standing SET balance = 0")
    with pytest.raises(CommandError, match="1 row") as failure:
        call_command("check_books")
    assert failure.value.returncode == 1
    assert "northwind: balance 0, posted 254" in capsys.readouterr().out
    assert "northwind: balance 0, posted 254" in caplog.text


def test_purchases_after_the_run_are_not_missed(billed, purchase, stock):
    purchase(stock[2], at=LATER)
    assert broken() == []


def test_noon_is_before_the_first_run(purchase, stock):
    purchase(stock[0], at=NOON)
    assert broken() == []
