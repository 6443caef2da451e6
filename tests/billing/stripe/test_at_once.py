"""Several processes at once, and processes killed between two steps: Stripe still sees one effect."""

from concurrent.futures import ThreadPoolExecutor

import pytest
from django.db import connection

from chirp_dashboard.billing.models import Customer

from ...crashing import crashing
from .conftest import pay_by_card, slow
from .test_gateway import INTENTS, INVOICES, bill, paid_invoices, purchase

pytestmark = pytest.mark.django_db(transaction=True)


def at_once(work, times=8):
    def alone(_):
        try:
            return work()
        finally:
            connection.close()

    with ThreadPoolExecutor(times) as pool:
        return list(pool.map(alone, range(times)))


def test_an_organization_registered_by_many_is_one_customer(
    organization, stripe_world, stripe_gateway
):
    organization.gateway = "stripe"
    organization.save(update_fields=["gateway"])
    made = at_once(
        lambda: Customer.objects.ensure(organization, at=organization.created_at).gateway_id
    )
    assert {customer["id"] for customer in stripe_world.all("/v1/customers")} == set(made)
    assert len(set(made)) == 1


def test_a_purchase_sent_by_many_is_authorised_and_captured_once(
    payer, stripe_world, stripe_gateway
):
    payment = purchase(payer)
    answers = at_once(lambda: stripe_gateway.authorise(payment))
    assert {answer.state for answer in answers} == {"authorised"}
    payment.gateway_id = answers[0].gateway_id
    assert {
        answer.captured for answer in at_once(lambda: stripe_gateway.capture(payment, 600))
    } == {600}
    assert [intent["amount_received"] for intent in stripe_world.all(INTENTS)] == [600]


def test_an_invoice_collected_by_many_is_collected_once(payer, stripe_world, stripe_gateway):
    payment = bill(payer, numbers=3)
    answers = at_once(lambda: stripe_gateway.collect(payment))
    assert {(answer.state, answer.captured) for answer in answers} == {("captured", payment.amount)}
    assert paid_invoices(stripe_world) == [(payment.reference, payment.amount)]


@pytest.mark.django_db(transaction=False)
@pytest.mark.parametrize("tries", [slow(0), 1])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("step", ["_create_invoice", "_fill", "_finalise", "_pay"])
def test_a_process_killed_between_two_steps_leaves_an_invoice_that_is_finished(
    step, when, tries, organization, stripe_world, stripe_gateway
):
    payment = bill(pay_by_card(organization, stripe_world))
    with crashing(stripe_gateway, step, moment=when):
        stripe_gateway.collect(payment)
    known = stripe_gateway.look_up(payment)
    assert known.state == ("captured" if (step, when) == ("_pay", "after") else "missing")
    payment.tries = tries
    assert stripe_gateway.collect(payment).state == "captured"
    assert paid_invoices(stripe_world) == [(payment.reference, payment.amount)]
    assert len(stripe_world.all(INVOICES)) == 1
