"""Every kind of difference between the books and Stripe is found; the safe ones are repaired, once."""

from datetime import UTC, datetime, timedelta
from io import StringIO

import pgtrigger
import pytest
from django.core.management import CommandError, call_command

from chirp_dashboard.billing import reconciling, tasks
from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.models import (
    Customer,
    Invoice,
    Payment,
    Reconciliation,
    Refund,
)
from chirp_dashboard.billing.reconciling import Comparison, reconcile
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import Mail

from ...numbers.conftest import prices  # noqa: F401 - a fixture
from ..conftest import DECEMBER, noon
from .conftest import pay_by_card
from .faults import Fault
from .trading import buy, collect, invoice_everybody, later, plant_answer, stock_up

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("prices")]

SINCE = datetime(2020, 1, 1, tzinfo=UTC)
INTENTS = "/v1/payment_intents"


@pytest.fixture
def traded(payer, owner):
    """A purchase of two numbers and a monthly invoice, both paid; and a refund of 0.10."""
    buy(payer, owner, *stock_up(2))
    invoice_everybody()
    collect()
    give_back(Payment.objects.get(order__isnull=False), 10)
    return payer


def give_back(payment, amount):
    """Give part of a payment back; its invoice gets poorer by that, so that the money is free."""
    Invoice.objects.filter(order=payment.order_id).update(paid=payment.captured - amount)
    refund = Refund.objects.begin(
        payment, amount=amount, reason="An outage", by=payment.organization.memberships.get().user,
        at=noon(DECEMBER),
    )  # fmt: skip
    refund.advance(at=noon(DECEMBER))
    return refund


def compare(gateway, *, repair=True):
    """`[(kind, repaired)]` of what a comparison finds; it is `record` afterwards."""
    compare.record = reconcile(gateway, at=later(), since=SINCE, repair=repair)
    return [(each["kind"], each["repaired"]) for each in compare.record.differences]


def payment_of_order():
    return Payment.objects.filter(order__isnull=False).latest("id")


def authorised(payer, world, *, amount=500, reference="", capture="manual"):
    """Money somebody took or reserved at Stripe; its id."""
    customer = Customer.objects.get(organization=payer)
    card = world.ask("GET", f"/v1/customers/{customer.gateway_id}")
    return world.ask(
        "POST", INTENTS, amount=amount, currency="usd", customer=customer.gateway_id,
        payment_method=card["invoice_settings"]["default_payment_method"],
        payment_method_types=["card"], capture_method=capture, confirm=True,
        metadata={"reference": reference} if reference else {},
    )["id"]  # fmt: skip


def a_payment(payer, **facts):
    facts = {
        "organization": payer, "gateway": "stripe", "currency": "USD", "amount": 500,
        "reference": f"ord_planted-{Payment.objects.count()}", "created_at": noon(DECEMBER),
    } | facts  # fmt: skip
    return Payment.objects.create(**facts)


# Nothing to find --------------------------------------------------------------------------------


def test_books_that_agree_show_no_difference(traded, stripe_gateway):
    assert compare(stripe_gateway) == []
    record = compare.record
    assert record.finished_at
    assert (record.compared, record.repaired) == (4, 0)  # two payments, a refund, a customer
    assert not Mail.objects.filter(kind="reconcile_alarm").exists()


def test_a_comparison_changes_nothing_at_stripe(traded, stripe_gateway, stripe_world):
    stripe_world.calls.clear()
    compare(stripe_gateway)
    assert {call.method for call in stripe_world.calls} == {"GET"}


def test_what_is_older_than_asked_for_is_not_compared(traded, stripe_gateway, stripe_world):
    with pgtrigger.ignore("billing.Payment:facts"):
        Payment.objects.filter(order=None).update(reference="renamed", gateway_id="in_gone")
        Payment.objects.update(created_at=datetime(2020, 5, 5, tzinfo=UTC))
    record = reconcile(stripe_gateway, at=later(), since=datetime(2020, 6, 6, tzinfo=UTC))
    assert [each["kind"] for each in record.differences] == [reconciling.ALONE_THERE]


def test_what_is_on_its_way_is_no_difference(traded, stripe_gateway, stripe_world):
    authorised(traded, stripe_world, capture="automatic")
    made = [intent["created"] for intent in stripe_world.all(INTENTS)]
    soon = datetime.fromtimestamp(max(made), UTC) + timedelta(minutes=14)
    record = reconcile(stripe_gateway, at=soon, since=SINCE)
    assert record.differences == []
    record = reconcile(stripe_gateway, at=soon + timedelta(minutes=2), since=SINCE)
    assert [each["kind"] for each in record.differences] == [reconciling.ALONE_THERE]


class Moves:
    """A gateway whose payment is voided while a comparison reads it page by page."""

    def __init__(self, gateway, payment):
        self.gateway, self.payment = gateway, payment

    def __getattr__(self, name):
        return getattr(self.gateway, name)

    def everything(self, *, since):
        yield from list(self.gateway.everything(since=since))
        self.gateway.void(self.payment)
        self.payment.move(Payment.State.VOIDED, at=later())


@pytest.mark.parametrize("guarded", [True, False])
def test_what_moves_during_a_comparison_is_no_difference(
    traded, stripe_gateway, stripe_world, monkeypatch, guarded
):
    payment = a_payment(traded, state=Payment.State.AUTHORISED)
    authorised(traded, stripe_world, reference=payment.reference)
    if not guarded:
        monkeypatch.setattr(Comparison, "read_again", lambda self, row, found: found)
    found = compare(Moves(stripe_gateway, payment), repair=False)
    assert found == ([] if guarded else [(reconciling.DANGLING, False)])


# Safe: what asking again would write ------------------------------------------------------------


def test_purchase_collected_there_and_unknown_here_is_written(
    payer, owner, stripe_gateway, stripe_world
):
    stripe_world.fault(f"GET {INTENTS}*", Fault.TIME_OUT, times=9)
    order = buy(payer, owner, *stock_up(1))
    stripe_world.faults.clear()
    assert order.is_open
    payment = payment_of_order()
    stripe_world.ask(
        "POST", f"{INTENTS}/{payment.gateway_id}/capture", amount_to_capture=payment.amount
    )
    assert compare(stripe_gateway) == [(reconciling.BEHIND, True)]
    order.refresh_from_db()
    assert order.state == Order.State.COMPLETED
    assert check_books(at=later()) == []
    assert compare(stripe_gateway) == []


def test_invoice_collected_there_and_unknown_here_is_written(traded_unheard, stripe_gateway):
    assert compare(stripe_gateway) == [(reconciling.BEHIND, True)]
    assert Payment.objects.get(order=None).state == Payment.State.CAPTURED
    assert all(invoice.is_paid for invoice in Invoice.objects.all())
    assert compare(stripe_gateway) == []


@pytest.fixture
def traded_unheard(payer, owner, stripe_world):
    """A paid invoice whose payment we never heard of."""
    buy(payer, owner, *stock_up(2))
    invoice_everybody()
    stripe_world.fault("POST /v1/invoices/*/pay", Fault.ANSWER_LOST, times=9)
    collect()
    stripe_world.faults.clear()
    assert Payment.objects.get(order=None).state == Payment.State.UNKNOWN


def test_without_being_told_to_nothing_is_repaired(traded_unheard, stripe_gateway):
    assert compare(stripe_gateway, repair=False) == [(reconciling.BEHIND, False)]
    assert Payment.objects.get(order=None).state == Payment.State.UNKNOWN
    assert compare.record.differences[0]["done"] == "It can be repaired."


def test_refund_given_there_and_unknown_here_is_written(traded, stripe_gateway):
    Refund.objects.update(state="unknown")
    assert compare(stripe_gateway) == [(reconciling.BEHIND, True)]
    assert Refund.objects.get().state == Refund.State.REFUNDED


@pytest.mark.parametrize("state", ["declined", "voided"])
def test_authorisation_that_nobody_will_use_is_let_go(traded, stripe_gateway, stripe_world, state):
    payment = a_payment(traded, state=state)
    intent = authorised(traded, stripe_world, reference=payment.reference)
    assert compare(stripe_gateway) == [(reconciling.DANGLING, True)]
    assert stripe_world.ask("GET", f"{INTENTS}/{intent}")["status"] == "canceled"
    assert compare(stripe_gateway) == []


def test_authorisation_of_a_settled_order_is_let_go(traded, stripe_gateway, stripe_world):
    payment = a_payment(traded, state="authorised", order=Order.objects.get())
    authorised(traded, stripe_world, reference=payment.reference)
    assert compare(stripe_gateway) == [(reconciling.DANGLING, True)]
    payment.refresh_from_db()
    assert payment.state == Payment.State.VOIDED
    assert payment.events.get().detail == "its order is settled"


def test_authorisation_that_is_still_to_be_used_stays(traded, stripe_gateway, stripe_world):
    Order.objects.update(settled_at=None, state=Order.State.ORDERED)
    payment = a_payment(
        traded,
        state="authorised",
        order=Order.objects.get(),
        created_at=later() - timedelta(days=6),
    )
    intent = authorised(traded, stripe_world, reference=payment.reference)
    assert compare(stripe_gateway) == []
    assert stripe_world.ask("GET", f"{INTENTS}/{intent}")["status"] == "requires_capture"


def test_customer_who_is_gone_there_is_forgotten_here(traded, stripe_gateway, stripe_world):
    customer = Customer.objects.get()
    pay_somebody_else(traded, stripe_world)
    stripe_world.ask("DELETE", f"/v1/customers/{customer.gateway_id}")
    assert compare(stripe_gateway) == [(reconciling.CUSTOMER_GONE, True)]
    customer.refresh_from_db()
    assert (customer.gateway_id, customer.payment_method) == ("", "")
    assert compare(stripe_gateway) == []


def pay_somebody_else(organization, world):
    other = type(organization).objects.create(name="Other", slug="other")
    return pay_by_card(other, world)


# Not safe: an operator hears of it, and nothing is changed --------------------------------------


def plant_other_sum(payer, world):
    Payment.objects.filter(order__isnull=False).update(captured=253)


def plant_other_currency(payer, world):
    with pgtrigger.ignore("billing.Payment:facts"):
        Payment.objects.filter(order__isnull=False).update(currency="EUR")


def plant_money_without_a_payment(payer, world):
    authorised(payer, world, capture="automatic")


def plant_money_with_a_lost_reference(payer, world):
    authorised(payer, world, reference="ord_nobody-1", capture="automatic")


def plant_collected_only_here(payer, world):
    a_payment(payer, state="captured", captured=500)


def plant_collected_here_reserved_there(payer, world):
    payment = a_payment(payer, state="captured", captured=500)
    authorised(payer, world, reference=payment.reference)


def plant_two_for_one_reference(payer, world):
    known = payment_of_order()
    authorised(payer, world, amount=known.amount, reference=known.reference, capture="automatic")


def plant_refund_by_hand(payer, world):
    world.ask("POST", "/v1/refunds", payment_intent=payment_of_order().gateway_id, amount=7)


def a_refund(payer, **facts):
    payment = payment_of_order()
    return Refund.objects.create(
        organization=payer, payment=payment, currency="USD", reason="Planted", amount=20,
        reference=f"ref_planted_{Refund.objects.count()}", created_at=noon(DECEMBER), **facts,
    )  # fmt: skip


def plant_refund_only_here(payer, world):
    a_refund(payer, state="refunded")


def plant_refund_failed_here(payer, world):
    refund = a_refund(payer, state="failed")
    world.ask(
        "POST", "/v1/refunds", payment_intent=refund.payment.gateway_id, amount=20,
        metadata={"reference": refund.reference},
    )  # fmt: skip


def plant_other_refund(payer, world):
    refund = a_refund(payer, state="refunded")
    world.ask(
        "POST", "/v1/refunds", payment_intent=refund.payment.gateway_id, amount=19,
        metadata={"reference": refund.reference},
    )  # fmt: skip


def plant_authorisation_past_its_window(payer, world):
    Order.objects.update(settled_at=None, state=Order.State.STUCK)
    payment = a_payment(
        payer, state="authorised", order=Order.objects.get(), created_at=later() - timedelta(days=8)
    )
    authorised(payer, world, reference=payment.reference)


def plant_customer(payer, world):
    world.ask("POST", "/v1/customers", metadata={"reference": "customer-99-1"})


PLANTED = {
    plant_other_sum: reconciling.DIFFERENT,
    plant_other_currency: reconciling.DIFFERENT,
    plant_money_without_a_payment: reconciling.ALONE_THERE,
    plant_money_with_a_lost_reference: reconciling.ALONE_THERE,
    plant_collected_only_here: reconciling.MISSING,
    plant_collected_here_reserved_there: reconciling.MISSING,
    plant_two_for_one_reference: reconciling.TWICE,
    plant_refund_by_hand: reconciling.BY_HAND,
    plant_refund_only_here: reconciling.NOT_GIVEN_BACK,
    plant_refund_failed_here: reconciling.GIVEN_BACK,
    plant_other_refund: reconciling.DIFFERENT,
    plant_authorisation_past_its_window: reconciling.OVERDUE,
    plant_customer: reconciling.CUSTOMER_UNKNOWN,
}


def both_sides(world):
    """Everything of ours and of Stripe's that a repair could touch."""
    return (
        sorted(Payment.objects.values_list("reference", "state", "captured", "refunded")),
        sorted(Refund.objects.values_list("reference", "state")),
        [(intent["id"], intent["status"]) for intent in world.all(INTENTS)],
        [(invoice["id"], invoice["status"]) for invoice in world.all("/v1/invoices")],
        [(refund["id"], refund["status"]) for refund in world.all("/v1/refunds")],
    )


def test_all_of_them_at_once_are_told_apart_and_never_repaired(
    traded, stripe_gateway, stripe_world
):
    dangling = a_payment(traded, state="declined")
    authorised(traded, stripe_world, reference=dangling.reference)
    planted = [plant for plant in PLANTED if plant is not plant_other_currency]
    for plant in planted:
        plant(traded, stripe_world)
    before = both_sides(stripe_world)
    left = sorted((PLANTED[plant], False) for plant in planted)
    assert sorted(compare(stripe_gateway, repair=False)) == sorted(
        [*left, (reconciling.DANGLING, False)]
    )
    assert both_sides(stripe_world) == before
    assert sorted(compare(stripe_gateway)) == sorted([*left, (reconciling.DANGLING, True)])
    assert compare.record.repaired == 1
    assert len(set(both_sides(stripe_world)[2]) ^ set(before[2])) == 2, "one was let go, no more"
    assert sorted(compare(stripe_gateway)) == left


@pytest.mark.slow
@pytest.mark.parametrize("plant", PLANTED, ids=lambda plant: plant.__name__)
def test_difference_is_told_and_never_repaired(traded, stripe_gateway, stripe_world, plant):
    plant(traded, stripe_world)
    before = both_sides(stripe_world)
    assert compare(stripe_gateway) == [(PLANTED[plant], False)]
    assert both_sides(stripe_world) == before
    [difference] = compare.record.differences
    assert difference["done"] == reconciling.TO_LOOK_AT
    assert difference["reference"]
    alarm = Mail.objects.get(kind="reconcile_alarm")
    assert PLANTED[plant] in alarm.text
    assert difference["reference"] in alarm.text

    assert compare(stripe_gateway) == [(PLANTED[plant], False)]  # it is still so,
    assert Mail.objects.filter(kind="reconcile_alarm").count() == 1  # and nobody is told again


def test_same_difference_is_told_again_next_month(traded, stripe_gateway, stripe_world):
    plant_customer(traded, stripe_world)
    for days in (0, 1, 31):
        reconcile(stripe_gateway, at=later() + timedelta(days=days), since=SINCE)
    assert Mail.objects.filter(kind="reconcile_alarm").count() == 2


def test_silence_is_told_once_a_day(traded, stripe_gateway, stripe_world):
    stripe_world.fault("GET /v1/customers", Fault.UNAVAILABLE, times=99)
    for hours in (0, 1, 24):
        reconcile(stripe_gateway, at=noon(DECEMBER) + timedelta(hours=hours), since=SINCE)
    assert Mail.objects.filter(kind="reconcile_alarm").count() == 2


def test_difference_left_is_a_finding_of_the_books(traded, stripe_gateway, stripe_world):
    compare(stripe_gateway)
    assert not [row for row in check_books(at=later()) if "I4" in str(row)]
    plant_money_with_a_lost_reference(traded, stripe_world)
    compare(stripe_gateway)
    findings = [str(row) for row in check_books(at=later()) if "I4" in str(row)]
    assert len(findings) == 1
    assert "ord_nobody-1" in findings[0]


def test_difference_is_told_once(traded, stripe_gateway, stripe_world):
    plant_money_with_a_lost_reference(traded, stripe_world)
    for _ in range(2):
        assert compare(stripe_gateway) == [(reconciling.ALONE_THERE, False)]
    alarm = Mail.objects.get(kind="reconcile_alarm")
    assert "ord_nobody-1" in alarm.text
    assert reconciling.ALONE_THERE in alarm.text


@pytest.mark.parametrize("of_an_invoice", [True, False])
def test_intent_that_paid_an_invoice_is_not_counted_twice(
    traded, stripe_gateway, stripe_world, of_an_invoice
):
    intent = authorised(traded, stripe_world, capture="automatic")
    paid = {
        "object": "invoice_payment", "id": "inpay_1", "invoice": "in_1",
        "payment": {"type": "payment_intent", "payment_intent": intent},
    }  # fmt: skip
    listed = {"object": "list", "data": [paid] if of_an_invoice else [], "has_more": False}
    plant_answer(stripe_world, "GET /v1/invoice_payments", listed | {"url": "/v1/invoice_payments"})
    assert compare(stripe_gateway) == ([] if of_an_invoice else [(reconciling.ALONE_THERE, False)])


# A gateway that cannot be believed --------------------------------------------------------------


def test_empty_answer_changes_nothing_and_alarms(traded, stripe_gateway, stripe_edge, settings):
    Refund.objects.update(state="unknown")  # something that could be repaired
    empty = stripe_edge.open()
    settings.STRIPE_API_BASE = empty.url
    before = sorted(Payment.objects.values_list("state", "captured"))
    assert compare(stripe_gateway) == [(reconciling.EMPTY, False), (reconciling.EMPTY, False)]
    assert sorted(Payment.objects.values_list("state", "captured")) == before
    assert Customer.objects.get().has_card
    assert Mail.objects.filter(kind="reconcile_alarm").count() == 1
    stripe_edge.shut(empty)


LISTS = ["invoice_payments", "payment_intents", "invoices", "refunds", "customers"]


@pytest.mark.parametrize(
    ("listed", "fault"),
    [("payment_intents", Fault.TIME_OUT), ("customers", Fault.GARBAGE)]
    + [
        pytest.param(listed, fault, marks=pytest.mark.slow)
        for listed in LISTS
        for fault in (Fault.TIME_OUT, Fault.SERVER_ERROR)
    ],
)
def test_silence_in_the_middle_repairs_nothing(traded, stripe_gateway, stripe_world, listed, fault):
    payment = a_payment(traded, state="declined")
    intent = authorised(traded, stripe_world, reference=payment.reference)
    stripe_world.fault(f"GET /v1/{listed}", fault, times=9)
    assert compare(stripe_gateway) == [(reconciling.UNFINISHED, False)]
    assert compare.record.finished_at is None
    assert stripe_world.ask("GET", f"{INTENTS}/{intent}")["status"] == "requires_capture"
    assert "not finished" in Mail.objects.get(kind="reconcile_alarm").text
    stripe_world.faults.clear()
    assert compare(stripe_gateway) == [(reconciling.DANGLING, True)]


def test_silence_during_the_repairs_keeps_what_was_repaired(traded, stripe_gateway, stripe_world):
    first = a_payment(traded, state="declined")
    second = a_payment(traded, state="declined")
    for payment in (first, second):
        authorised(traded, stripe_world, reference=payment.reference)
    last = stripe_world.all(INTENTS)[0]["id"]
    stripe_world.fault(f"POST {INTENTS}/{last}/cancel", Fault.TIME_OUT, times=9)
    assert compare(stripe_gateway) == [(reconciling.DANGLING, True), (reconciling.DANGLING, False)]
    stripe_world.faults.clear()
    assert compare(stripe_gateway) == [(reconciling.DANGLING, True)]


def test_many_pages_are_read_to_the_end(traded, stripe_gateway, stripe_world, monkeypatch):
    monkeypatch.setattr("chirp_dashboard.billing.gateways.stripe_listing.PAGE", 2)
    for number in range(5):
        authorised(traded, stripe_world, amount=500 + number, capture="automatic")
    assert compare(stripe_gateway) == [(reconciling.ALONE_THERE, False)] * 5


# The command and the task -----------------------------------------------------------------------


def command(*args):
    said = StringIO()
    call_command("reconcile_stripe", *args, stdout=said)
    return said.getvalue()


def test_command_says_what_it_compared(traded, stripe_gateway):
    assert "4 compared, 0 repaired, 0 left." in command("--since", "2020-01-01")


def test_command_names_every_difference_and_fails(
    traded, stripe_gateway, stripe_world, monkeypatch
):
    monkeypatch.setattr("django.utils.timezone.now", later)
    plant_money_with_a_lost_reference(traded, stripe_world)
    with pytest.raises(CommandError, match="differ"):
        command("--since", "2020-01-01", "--repair")
    assert Reconciliation.objects.get().differences[0]["reference"] == "ord_nobody-1"


def test_command_fails_when_stripe_is_silent(traded, stripe_gateway, stripe_world):
    stripe_world.fault("GET /v1/*", Fault.UNAVAILABLE, times=9)
    with pytest.raises(CommandError, match="Not finished"):
        command()


def test_command_refuses_the_future_and_where_stripe_is_not_set_up(stripe_gateway, monkeypatch):
    with pytest.raises(CommandError, match="has not begun"):
        command("--since", "2999-01-01")
    monkeypatch.delitem(GATEWAYS, "stripe")
    with pytest.raises(CommandError, match="not set up"):
        command()
    assert not Reconciliation.objects.exists()


def test_the_worker_compares_and_repairs_every_day(traded_unheard, stripe_gateway, monkeypatch):
    monkeypatch.setattr(reconciling, "GRACE", timedelta(days=-3650))  # whatever day it is here
    tasks.reconcile_stripe(timestamp=0)
    assert Reconciliation.objects.get().repaired == 1


def test_the_worker_leaves_a_deployment_without_stripe_alone(db):
    tasks.reconcile_stripe(timestamp=0)
    assert not Reconciliation.objects.exists()
