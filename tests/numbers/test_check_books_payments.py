"""The rules about gateways, tax, documents and secrets, each broken on purpose, have to be named."""

from datetime import timedelta

import pytest
from django.db import connection

from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    PriceChange,
    Reconciliation,
    Refund,
    RentalPrice,
)
from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import Activity, Mail

from .test_check_books import DECEMBER, LATER, assert_named, billed, broken, drop, plant

__all__ = ["billed"]  # the fixture


@pytest.fixture
def refund(billed, organization):
    payment = Payment.objects.get()
    return Refund.objects.create(
        organization=organization, payment=payment, reference="r1", amount=50, currency="USD",
        reason="Test", state="unknown",
    )  # fmt: skip


def test_refund_that_the_payment_does_not_count_is_named(refund):
    assert_named("Payments", refund.payment.public_id, "0 given back, refunds of 50")


def test_refund_given_back_and_not_posted_is_named(refund):
    plant("UPDATE billing_refund SET state = 'refunded'")
    assert_named("I3", f"{refund.public_id}: given back 50, posted 0")


def test_tax_that_is_not_posted_is_named(billed):
    plant("UPDATE billing_invoice SET tax_rate = 10, tax = 45, total = total + 45")
    assert_named("I3", "northwind: invoiced 45, posted 0")


def test_tax_that_is_not_its_rate_is_named(billed):
    plant("UPDATE billing_invoice SET tax_rate = 10, tax = 44, total = total + 44")
    assert_named("Invoices", Invoice.objects.get().public_id, "44 on 454 at 10.000")


def test_sums_that_are_not_the_lines_are_named(billed):
    plant(
        """UPDATE billing_invoice
        SET sums = '[{"type": "local", "kind": "rental", "count": 6, "amount": 453}]'"""
    )
    assert_named("Invoices", Invoice.objects.get().public_id, "453 on 6 lines, has 454 on 6")


def test_credit_notes_above_their_invoice_are_named(billed, organization):
    invoice = Invoice.objects.get()
    Invoice.objects.create(
        organization=organization, number=2, kind="credit_note", corrects=invoice,
        billing_date=DECEMBER, issued_on=DECEMBER, due_on=DECEMBER, currency="USD",
        total=-invoice.total - 1, paid=-invoice.total - 1, line_count=1, created_at=LATER,
    )  # fmt: skip
    assert_named("Invoices", f"{invoice.public_id}: 454, credited 455")


def test_charge_credited_twice_is_named(billed, organization, owner):
    fee = Charge.objects.filter(kind="purchase_fee").first()
    Charge.objects.issue_credit(
        organization, amount=60, reason="Half", corrects=fee, by=owner, at=LATER
    )
    assert broken() == []
    plant("UPDATE billing_charge SET amount = -101 WHERE kind = 'credit'")
    assert_named("Invoices", f"charge {fee.pk}: 100, credited 101")


def test_period_at_another_price_is_named(billed):
    charge = Charge.objects.filter(kind="rental", period_start=DECEMBER).first()
    plant("UPDATE billing_charge SET amount = 90 WHERE id = %s", charge.pk)
    assert_named("I2", f"charge {charge.pk}: 90 for rental {charge.rental_id}")


def test_period_at_the_old_price_after_a_change_is_named(billed, organization):
    rental = billed.rentals.get()
    change = PriceChange.objects.create(
        organization=organization, country="US", number_type="local", amount=120, currency="USD",
        applies_from=DECEMBER, reason="Test", rentals=1, before=100,
        announced_at=LATER - timedelta(days=60),
    )  # fmt: skip
    RentalPrice.objects.create(change=change, rental=rental, amount=120)
    assert_named("I2", f"100 for rental {rental.pk} from 2026-12-01")
    plant("UPDATE billing_pricechange SET withdrawn_at = now()")
    assert broken() == []


def test_difference_with_the_gateway_is_named(billed):
    found = {"kind": "captured there, not here", "reference": "ord_1-1", "repaired": False}
    Reconciliation.objects.create(
        gateway="stripe", started_at=LATER, finished_at=LATER, differences=[found]
    )
    assert_named("I4", "stripe", "captured there, not here ord_1-1")
    Reconciliation.objects.create(
        gateway="stripe", started_at=LATER, finished_at=LATER,
        differences=[found | {"repaired": True}],
    )  # fmt: skip
    assert broken() == []


def test_authorisation_past_its_window_is_named(billed, organization):
    payment = Payment.objects.create(
        organization=organization, gateway="test", reference="a1", amount=100, currency="USD",
        state="authorised", created_at=LATER - timedelta(days=8),
    )  # fmt: skip
    assert_named("I7", payment.public_id)


def test_payments_of_one_thing_at_the_gateway_are_named(billed, organization):
    for reference in ("a1", "a2"):
        Payment.objects.create(
            organization=organization, gateway="stripe", reference=reference, amount=100,
            currency="USD", state="declined", gateway_id="pi_1",
        )  # fmt: skip
    assert_named("I8", "stripe pi_1: 2")


def test_orders_with_one_idempotency_key_are_named(billed):
    drop(("numbers_order", "order_idempotency_key"))
    plant(
        "INSERT INTO numbers_order (public_id, organization_id, placed_by_id, placed_at, placed_on,"
        " gateway, total, tax_rate, currency, idempotency_key, state, reason, attempts)"
        " SELECT public_id || 'x', organization_id, placed_by_id, placed_at, placed_on, gateway, 0,"
        " 0, currency, idempotency_key, 'failed', '', 0 FROM numbers_order"
    )
    assert_named("I8", f"order {Order.objects.first().idempotency_key}: 2")


@pytest.mark.parametrize("look", ["NULL", "'2026-11-20'"])
def test_open_order_that_nobody_looks_at_is_named(billed, look):
    plant(f"UPDATE numbers_order SET state = 'ordered', next_look_at = {look}")
    plant("UPDATE billing_standing SET unsettled = (SELECT total FROM numbers_order)")
    assert_named("I9", Order.objects.get().public_id)


def test_spending_above_the_cap_is_named(billed, organization, owner):
    plant("UPDATE organizations_organization SET daily_spend_cap = 500")
    assert broken() == []
    plant("UPDATE billing_standing SET spent = 501")
    assert_named("I12", "northwind", "501 of 500")


def test_cap_lowered_after_the_spending_is_no_violation(billed, organization, owner):
    organization.refresh_from_db()
    organization.change_settings({"daily_spend_cap": 1}, by=owner, at=LATER)
    assert broken() == []


@pytest.mark.parametrize(
    "secret", ["sk_live_4eC39HqLyjWDarjtT1zdp7dc", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"]
)
def test_secret_in_activity_or_mail_is_named(billed, organization, owner, secret):
    Activity.objects.record(
        organization, "settings_changed", subject="northwind", by=owner, at=LATER,
        after={"key": secret},
    )  # fmt: skip
    assert_named("I15", "activity")
    Mail.objects.create(key="m", kind="test", subject="x", text=f"Key {secret}", created_at=LATER)
    assert_named("I15", "mail")


def test_things_of_two_organizations_joined_are_named(billed, rival):
    rental = billed.rentals.get()
    plant("UPDATE billing_rental SET organization_id = %s WHERE id = %s", rival.pk, rental.pk)
    assert_named("I16", f"rental {rental.pk}")
    assert_named("I16", "charge")


def test_standing_without_its_ladder_is_named(billed):
    plant("UPDATE billing_standing SET suspended_at = now()")
    assert_named("Payments", "northwind")


@pytest.mark.parametrize("table", ["billing_inboxevent", "billing_refund", "organizations_mail"])
def test_other_tables_that_lost_their_guard_are_named(billed, table):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(f"ALTER TABLE {table} DISABLE TRIGGER USER")
    assert_named("I13", table, "switched off")
