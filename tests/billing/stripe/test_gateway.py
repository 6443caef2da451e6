"""The Stripe gateway against a stateful counterpart: every fault, every operation, one effect."""

import contextlib
import logging
from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from stripe import params

from chirp_dashboard.billing.gateways import GATEWAYS, Outcome, UnknownGateway, gateway_for
from chirp_dashboard.billing.gateways.stripe import StripeGateway
from chirp_dashboard.billing.models import Customer, Payment, Refund
from chirp_dashboard.billing.models.customers import GatewaySilent

from ..conftest import DECEMBER, noon, rent, run
from .conftest import SECRET_KEY, WEBHOOK_SECRET, change_card, slow
from .faults import Fault

pytestmark = pytest.mark.django_db

YES, NO, UNKNOWN = Outcome.YES, Outcome.NO, Outcome.UNKNOWN
INTENTS, INVOICES, REFUNDS = "/v1/payment_intents", "/v1/invoices", "/v1/refunds"
NEVER_HAPPENED = [
    Fault.TIME_OUT,
    Fault.CONFLICT,
    Fault.TOO_MANY,
    Fault.UNAVAILABLE,
    Fault.SERVER_ERROR,
]
HAPPENED = [Fault.ANSWER_LOST, Fault.GARBAGE, Fault.SERVER_ERROR_AFTER]
AUTHORISE, CAPTURE, CANCEL = (f"POST {INTENTS}{rest}" for rest in ("", "/*/capture", "/*/cancel"))
CREATE, FILL, FINALISE, PAY = (
    f"POST {INVOICES}{rest}" for rest in ("", "/*/add_lines", "/*/finalize", "/*/pay")
)
REFUND = f"POST {REFUNDS}"


SAMPLE = pytest.mark.parametrize(
    "fault",
    [
        Fault.TIME_OUT,
        slow(Fault.CONFLICT),
        slow(Fault.TOO_MANY),
        slow(Fault.UNAVAILABLE),
        Fault.SERVER_ERROR,
        Fault.ANSWER_LOST,
        slow(Fault.GARBAGE),
        slow(Fault.SERVER_ERROR_AFTER),
    ],
)
BOTH_KINDS = pytest.mark.parametrize(
    "fault", NEVER_HAPPENED + HAPPENED, ids=lambda fault: fault.name
)


def purchase(organization, amount=1000, **facts):
    """A payment of an order, as far as the gateway can see."""
    number = Payment.objects.count() + 1
    facts = {"gateway": "stripe", "currency": "USD", "reference": f"ord_{number}-1"} | facts
    return Payment.objects.create(organization=organization, amount=amount, **facts)


def bill(organization, **terms):
    """A payment for an invoice issued on 1 December."""
    rent(organization, on=date(2026, 11, 23), **terms)
    run(DECEMBER)
    invoice = organization.invoices.get(billing_date=DECEMBER)
    return collection_of(invoice)


def collection_of(invoice, amount=None):
    """Another attempt for `invoice`; earlier ones count as declined."""
    invoice.organization.payments.update(state=Payment.State.DECLINED)
    number = invoice.payments.count() + 1
    return Payment.objects.create(
        organization=invoice.organization, invoice=invoice, gateway="stripe", currency="USD",
        reference=f"{invoice.public_id}-{number}", created_at=noon(DECEMBER),
        amount=Payment.objects.amount_due(invoice) if amount is None else amount,
    )  # fmt: skip


def settled(gateway, payment, verb, *args):
    """The Answer once the gateway was asked as often as the machine does: again, and by reference."""
    for _ in range(20):
        answer = getattr(gateway, verb)(payment, *args)
        if answer.outcome is UNKNOWN:
            answer = gateway.look_up(payment)
        undone = answer.state == "missing" or (verb != "authorise" and answer.state == "authorised")
        if answer.outcome is not UNKNOWN and not undone:
            return answer
        payment.tries += answer.state == "missing"
    raise AssertionError(f"{verb} never came to an end")


# Set up -----------------------------------------------------------------------------------------


def test_without_a_key_it_is_not_there_and_the_reason_is_named(organization):
    assert "stripe" not in GATEWAYS
    organization.gateway = "stripe"
    with pytest.raises(UnknownGateway, match="STRIPE_SECRET_KEY is not set"):
        gateway_for(organization)


def test_it_collects_orders_and_invoices_at_once(payer, stripe_gateway):
    gateway = gateway_for(payer)
    assert gateway is stripe_gateway
    assert (gateway.collects_orders, gateway.collects_invoices, gateway.terms_days) == (
        True,
        True,
        0,
    )


def test_the_version_of_the_api_is_pinned_and_every_call_is_signed_with_the_key(
    payer, stripe_world, stripe_gateway
):
    stripe_gateway.authorise(purchase(payer))
    versions = {call.headers["stripe-version"] for call in stripe_world.calls}
    keys = {call.headers["authorization"] for call in stripe_world.calls}
    assert (versions, keys) == ({"2026-10-28.endive"}, {f"Bearer {SECRET_KEY}"})


def test_nothing_is_sent_to_stripe_about_how_fast_it_was(payer, stripe_world, stripe_gateway):
    stripe_gateway.authorise(purchase(payer))
    stripe_gateway.look_up(purchase(payer))
    assert not [call for call in stripe_world.calls if "x-stripe-client-telemetry" in call.headers]


# Purchases --------------------------------------------------------------------------------------


def test_a_purchase_is_authorised_and_captured_for_less(payer, stripe_world, stripe_gateway):
    payment = purchase(payer)
    authorised = stripe_gateway.authorise(payment)
    assert (authorised.outcome, authorised.state) == (YES, "authorised")
    payment.gateway_id = authorised.gateway_id
    captured = stripe_gateway.capture(payment, 600)
    assert (captured.outcome, captured.state, captured.captured) == (YES, "captured", 600)
    [intent] = stripe_world.all(INTENTS)
    assert (intent["amount_received"], intent["metadata"]["reference"]) == (600, payment.reference)
    known = stripe_gateway.look_up(payment)
    assert (known.state, known.captured) == ("captured", 600)


def test_a_purchase_is_let_go_of(payer, stripe_world, stripe_gateway):
    payment = purchase(payer)
    stripe_gateway.authorise(payment)
    for _ in range(3):
        answer = stripe_gateway.void(payment)
        assert (answer.outcome, answer.state) == (YES, "voided")
    assert stripe_world.all(INTENTS)[0]["status"] == "canceled"


def test_a_purchase_nobody_confirms_is_let_go_of(payer, stripe_world, stripe_gateway):
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    payment = purchase(payer)
    payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    assert stripe_gateway.void(payment).state == "voided"
    assert stripe_gateway.look_up(payment).state == "voided"


def test_what_was_never_sent_is_missing(payer, stripe_gateway):
    payment = purchase(payer)
    assert stripe_gateway.look_up(payment).state == "missing"
    assert stripe_gateway.capture(payment, 1).outcome is NO
    assert stripe_gateway.void(payment).outcome is NO


def test_a_decline_is_a_no_in_the_words_of_the_bank(payer, stripe_world, stripe_gateway):
    change_card(payer.customers.get(), stripe_world, "declining")
    payment = purchase(payer)
    for answer in (stripe_gateway.authorise(payment), stripe_gateway.look_up(payment)):
        assert (answer.outcome, answer.state) == (NO, "declined")
        assert (answer.reason, answer.code) == ("Your card was declined.", "generic_decline")
        assert answer.gateway_id.startswith("pi_")


@pytest.mark.parametrize(("ok", "state"), [("1", "authorised"), ("0", "declined")])
def test_the_bank_asks_the_cardholder_and_the_page_leads_back(
    ok, state, payer, stripe_world, stripe_gateway, settings
):
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    payment = purchase(payer)
    asked = stripe_gateway.authorise(payment)
    assert (asked.outcome, asked.state) == (YES, "action_required")
    assert stripe_gateway.look_up(payment).state == "action_required"
    back = stripe_world.visit(asked.action_url, ok=ok)
    assert back == f"{settings.BASE_URL}/o/northwind/billing/payments/{payment.public_id}/"
    assert stripe_gateway.look_up(payment).state == state


def test_nothing_is_captured_beyond_what_was_authorised_or_twice(payer, stripe_gateway):
    payment = purchase(payer)
    stripe_gateway.authorise(payment)
    over = stripe_gateway.capture(payment, 1001)
    assert (over.outcome, over.state) == (NO, "authorised")
    stripe_gateway.capture(payment, 600)
    twice = stripe_gateway.capture(payment, 700)
    assert (twice.outcome, twice.state, twice.captured) == (NO, "captured", 600)
    assert stripe_gateway.capture(payment, 600).outcome is YES
    assert stripe_gateway.void(payment).state == "captured"


def test_an_authorisation_that_stripe_let_go_of_is_voided(payer, stripe_world, stripe_gateway):
    payment = purchase(payer)
    stripe_world.expire(stripe_gateway.authorise(payment).gateway_id)
    assert stripe_gateway.look_up(payment).state == "voided"
    answer = stripe_gateway.capture(payment, 600)
    assert (answer.outcome, answer.state) == (NO, "voided")


@pytest.mark.parametrize("amount", [1, 49])
def test_less_than_the_minimum_is_not_even_asked_for(amount, payer, stripe_world, stripe_gateway):
    answer = stripe_gateway.authorise(purchase(payer, amount=amount))
    assert (answer.outcome, answer.code) == (NO, "amount_too_small")
    assert stripe_world.count(AUTHORISE) == 0


@pytest.mark.parametrize(
    ("currency", "least"), [("USD", 50), ("GBP", 30), ("JPY", 50), ("HUF", 17500), ("KES", 100)]
)
def test_the_minimum_is_the_one_stripe_documents(currency, least):
    assert StripeGateway().minimum(currency) == least


def test_currencies_that_stripe_counts_in_another_unit_are_refused(payer, stripe_gateway):
    assert stripe_gateway.authorise(purchase(payer, currency="ISK")).code == "currency"


def test_without_a_card_nothing_is_asked(organization, stripe_world, stripe_gateway):
    assert not stripe_gateway.can_collect(organization)
    answer = stripe_gateway.authorise(purchase(organization))
    assert (answer.outcome, answer.code) == (NO, "no_card")
    assert stripe_world.calls == []


# What is sent ----------------------------------------------------------------------------------

PARAMETERS = {
    "POST /v1/payment_intents": params.PaymentIntentCreateParams,
    "GET /v1/payment_intents": params.PaymentIntentListParams,
    "POST /v1/payment_intents/*/capture": params.PaymentIntentCaptureParams,
    "POST /v1/payment_intents/*/cancel": params.PaymentIntentCancelParams,
    "POST /v1/invoices": params.InvoiceCreateParams,
    "GET /v1/invoices": params.InvoiceListParams,
    "POST /v1/invoices/*/add_lines": params.InvoiceAddLinesParams,
    "POST /v1/invoices/*/finalize": params.InvoiceFinalizeInvoiceParams,
    "POST /v1/invoices/*/pay": params.InvoicePayParams,
    "POST /v1/invoices/*/void": params.InvoiceVoidInvoiceParams,
    "GET /v1/invoice_payments": params.InvoicePaymentListParams,
    "POST /v1/refunds": params.RefundCreateParams,
    "GET /v1/refunds": params.RefundListParams,
    "POST /v1/customers": params.CustomerCreateParams,
    "GET /v1/customers": params.CustomerListParams,
    "POST /v1/customers/*": params.CustomerUpdateParams,
    "GET /v1/customers/*": params.CustomerRetrieveParams,
    "POST /v1/checkout/sessions": params.checkout.SessionCreateParams,
    "GET /v1/checkout/sessions": params.checkout.SessionListParams,
    "POST /v1/billing_portal/sessions": params.billing_portal.SessionCreateParams,
}


def test_every_parameter_is_one_of_the_pinned_version(payer, stripe_world, stripe_gateway):
    """The counterpart is of an older version; the SDK's types are of ours."""
    customer, bought, let_go = payer.customers.get(), purchase(payer), purchase(payer)
    page = stripe_gateway.set_up_url(customer, "https://here.example/").action_url
    stripe_world.visit(page, card="tok_visa")
    stripe_gateway.portal_url(customer, "https://here.example/")
    customer.refresh()
    for payment in (bought, let_go):
        payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    stripe_gateway.capture(bought, 600)
    stripe_gateway.void(let_go)
    billed = bill(payer)
    stripe_gateway.collect(billed)
    for payment in (bought, billed):
        stripe_gateway.refund(refund_of(payment, 60))
        stripe_gateway.look_up_refund(refund_of(payment, 60))
    change_card(customer, stripe_world, "declining")
    stripe_gateway.collect(collection_of(billed.invoice))
    stripe_gateway.look_up(purchase(payer))
    customer.created_at -= timedelta(days=2)
    stripe_gateway.register(customer)
    untold = set(PARAMETERS)
    for call in stripe_world.calls:
        patterns = [pattern for pattern in PARAMETERS if call.is_to(pattern)]
        if not patterns:
            assert call.form == {} or call.method == "GET", call
            continue
        pattern = max(patterns, key=len)
        untold.discard(pattern)
        sent = {name.partition("[")[0] for name in call.form}
        assert sent <= PARAMETERS[pattern].__annotations__.keys(), call
    assert untold == set()


# Faults -----------------------------------------------------------------------------------------


@BOTH_KINDS
@pytest.mark.parametrize("times", [slow(1), 2, slow(5)])
def test_an_authorisation_lost_on_the_way_has_one_effect(
    fault, times, payer, stripe_world, stripe_gateway
):
    stripe_world.fault(AUTHORISE, fault, times=times)
    payment = purchase(payer)
    answer = settled(stripe_gateway, payment, "authorise")
    assert (answer.outcome, answer.state) == (YES, "authorised")
    assert [intent["status"] for intent in stripe_world.all(INTENTS)] == ["requires_capture"]


@BOTH_KINDS
@pytest.mark.parametrize(
    ("verb", "args", "pattern", "state", "status"),
    [
        ("capture", [600], CAPTURE, "captured", "succeeded"),
        ("void", [], CANCEL, "voided", "canceled"),
    ],
)
def test_a_capture_or_void_lost_on_the_way_has_one_effect(
    fault, verb, args, pattern, state, status, payer, stripe_world, stripe_gateway
):
    payment = purchase(payer)
    payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    stripe_world.fault(pattern, fault, times=2)
    answer = settled(stripe_gateway, payment, verb, *args)
    assert (answer.outcome, answer.state) == (YES, state)
    [intent] = stripe_world.all(INTENTS)
    assert (intent["status"], intent["amount_received"]) == (status, 600 if args else 0)


@SAMPLE
@pytest.mark.parametrize(
    "step", [CREATE, FILL, FINALISE, PAY], ids=["create", "fill", "finalise", "pay"]
)
def test_an_invoice_interrupted_at_any_step_is_collected_once(
    fault, step, payer, stripe_world, stripe_gateway
):
    payment = bill(payer)
    stripe_world.fault(step, fault, times=2)
    answer = settled(stripe_gateway, payment, "collect")
    assert (answer.outcome, answer.state, answer.captured) == (YES, "captured", payment.amount)
    assert paid_invoices(stripe_world) == [(payment.reference, payment.amount)]
    assert stripe_world.faults_left < 2


@pytest.mark.parametrize("times", [slow(1), slow(2), 5])
@pytest.mark.parametrize(
    "step", [CREATE, FILL, FINALISE, PAY], ids=["create", "fill", "finalise", "pay"]
)
def test_answers_lost_several_times_running_still_make_one_invoice(
    step, times, payer, stripe_world, stripe_gateway
):
    payment = bill(payer)
    stripe_world.fault(step, Fault.ANSWER_LOST, times=times)
    assert settled(stripe_gateway, payment, "collect").state == "captured"
    assert paid_invoices(stripe_world) == [(payment.reference, payment.amount)]


@BOTH_KINDS
def test_a_refund_lost_on_the_way_has_one_effect(fault, payer, stripe_world, stripe_gateway):
    payment = purchase(payer)
    payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    stripe_gateway.capture(payment, 1000)
    refund = refund_of(payment, 400)
    stripe_world.fault(REFUND, fault, times=2)
    answer = stripe_gateway.refund(refund)
    for _ in range(9):
        if answer.outcome is UNKNOWN:
            answer = stripe_gateway.look_up_refund(refund)
        if answer.state == "missing":
            refund.tries += 1
            answer = stripe_gateway.refund(refund)
    assert (answer.outcome, answer.state) == (YES, "refunded")
    assert [made["amount"] for made in stripe_world.all(REFUNDS)] == [400]


def paid_invoices(world):
    """`(reference, amount)` of every invoice, and the charges must be just those."""
    invoices = [found for found in world.all(INVOICES) if found["status"] != "void"]
    assert {found["status"] for found in invoices} <= {"paid"}
    charged = [found["amount"] for found in world.all("/v1/charges") if found["paid"]]
    assert sorted(charged) == sorted(found["amount_paid"] for found in invoices)
    return [(found["metadata"]["reference"], found["amount_paid"]) for found in invoices]


def refund_of(payment, amount):
    return Refund(
        payment=payment,
        reference=f"{payment.reference}-back",
        amount=amount,
        currency="USD",
        tries=0,
    )


@pytest.mark.parametrize("keys_forgotten", [False, True])
def test_after_a_day_the_reference_still_prevents_a_second_effect(
    keys_forgotten, payer, stripe_world, stripe_gateway
):
    """Negative control of the keys: with them forgotten, only the look-up by reference is left."""
    payment, invoice = purchase(payer), bill(payer)
    stripe_world.fault(AUTHORISE, Fault.ANSWER_LOST, times=3)
    stripe_world.fault(PAY, Fault.ANSWER_LOST, times=3)
    assert stripe_gateway.authorise(payment).outcome is UNKNOWN
    assert stripe_gateway.collect(invoice).outcome is UNKNOWN
    if keys_forgotten:
        stripe_world.forget_keys()
    assert stripe_gateway.look_up(payment).state == "authorised"
    assert stripe_gateway.look_up(invoice).state == "captured"
    assert stripe_gateway.collect(invoice).state == "captured"
    assert len(stripe_world.all(INTENTS)) == len(stripe_world.all(INVOICES)) == 1


def test_without_the_same_key_an_answer_lost_would_authorise_twice(
    payer, stripe_world, stripe_gateway, monkeypatch
):
    """Negative control: the counterpart does make two when the key changes with every try."""
    monkeypatch.setattr(
        "chirp_dashboard.billing.gateways.stripe.key_of", lambda *_: f"k{len(stripe_world.calls)}"
    )
    payment = purchase(payer)
    for _ in range(2):
        stripe_gateway.authorise(payment)
    assert len(stripe_world.all(INTENTS)) == 2


def test_a_failure_kept_for_the_key_is_passed_with_another(payer, stripe_world, stripe_gateway):
    stripe_world.fault(AUTHORISE, Fault.SERVER_ERROR)
    payment = purchase(payer)
    assert stripe_gateway.authorise(payment).outcome is UNKNOWN
    assert stripe_gateway.authorise(payment).state == "authorised"
    keys = [call.key for call in stripe_world.calls if call.is_to(AUTHORISE)]
    assert keys == [f"{payment.reference}-authorise"] * 2 + [f"{payment.reference}-authorise-1"]


def test_a_rate_limit_is_waited_out_as_long_as_stripe_says(payer, stripe_world, stripe_gateway):
    stripe_world.fault(AUTHORISE, Fault.TOO_MANY, times=2, retry_after=1)
    assert stripe_gateway.authorise(purchase(payer)).state == "authorised"
    assert len(stripe_gateway.waits) == 2
    assert all(1 <= wait <= 2 for wait in stripe_gateway.waits)


def test_a_wait_too_long_for_one_run_is_left_to_the_next(payer, stripe_world, stripe_gateway):
    stripe_world.fault(AUTHORISE, Fault.TOO_MANY, retry_after=60)
    answer = stripe_gateway.authorise(purchase(payer))
    assert (answer.outcome, stripe_gateway.waits) == (UNKNOWN, [])


def test_no_call_is_tried_more_than_three_times(payer, stripe_world, stripe_gateway):
    stripe_world.fault(AUTHORISE, Fault.TIME_OUT, times=9)
    assert stripe_gateway.authorise(purchase(payer)).outcome is UNKNOWN
    assert (stripe_world.count(AUTHORISE), len(stripe_gateway.waits)) == (3, 2)


def test_silence_ends_with_the_time_out(payer, stripe_world, stripe_gateway):
    payment = purchase(payer)
    stripe_world.silence, stripe_gateway.timeout = 2, (3, 0.2)
    stripe_world.fault(AUTHORISE, Fault.SILENCE, times=3)
    assert stripe_gateway.authorise(payment).outcome is UNKNOWN


@pytest.mark.parametrize("verb", ["authorise", "look_up", "void"])
def test_a_gateway_that_is_down_is_unknown_and_nothing_else(verb, payer, stripe_gateway, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    assert getattr(stripe_gateway, verb)(purchase(payer)).outcome is UNKNOWN


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_stripe_refuses_says_nothing_about_the_payment(
    status, payer, stripe_world, stripe_gateway, caplog
):
    stripe_world.answer = lambda call: stripe_refuses(status)
    assert stripe_gateway.authorise(purchase(payer)).outcome is UNKNOWN
    assert "Stripe refuses our key" in caplog.text


def stripe_refuses(status):
    from .faults import refusal

    return refusal(status, "Invalid API Key provided: sk_test_****000", code="api_key")


@pytest.mark.parametrize("body", [[], {}, "", None, {"error": "words"}, 7])
@pytest.mark.parametrize("status", [200, 500])
def test_whatever_makes_no_sense_is_unknown(status, body, payer, stripe_world, stripe_gateway):
    from .faults import Answer

    payment = purchase(payer)
    stripe_world.answer = lambda call: Answer(status, body)
    assert stripe_gateway.authorise(payment).outcome is UNKNOWN
    assert stripe_gateway.look_up(payment).outcome is UNKNOWN


# Invoices ---------------------------------------------------------------------------------------


def test_an_invoice_is_collected_in_a_handful_of_calls(payer, stripe_world, stripe_gateway):
    payment = bill(payer, numbers=3)
    before = len(stripe_world.calls)
    answer = stripe_gateway.collect(payment)
    assert (answer.state, answer.captured) == ("captured", payment.amount)
    assert len(stripe_world.calls) - before == 5
    [invoice] = stripe_world.all(INVOICES)
    assert (invoice["auto_advance"], invoice["collection_method"]) == (
        False,
        "charge_automatically",
    )
    assert invoice["metadata"]["invoice"] == payment.invoice.public_id
    lines = stripe_world.all(f"{INVOICES}/{invoice['id']}/lines")
    assert len(lines) == payment.invoice.line_count
    assert sum(line["amount"] for line in lines) == payment.amount


def test_collecting_again_collects_nothing_more(payer, stripe_world, stripe_gateway):
    payment = bill(payer)
    for tries in (0, 0, 1, 2):
        payment.tries = tries
        assert stripe_gateway.collect(payment).state == "captured"
    assert len(stripe_world.all(INVOICES)) == 1


def test_tax_is_a_line_of_its_own_and_older_invoices_are_too(payer, stripe_world, stripe_gateway):
    payer.tax_rate = 20
    payer.save(update_fields=["tax_rate"])
    first = bill(payer)
    run(date(2027, 1, 1))
    second = collection_of(payer.invoices.get(billing_date=date(2027, 1, 1)))
    assert stripe_gateway.collect(second).captured == second.amount
    [invoice] = stripe_world.all(INVOICES)
    lines = {
        line["description"]: line["amount"]
        for line in stripe_world.all(f"{INVOICES}/{invoice['id']}/lines")
    }
    assert lines["Tax 20 %"] == second.invoice.tax
    assert lines[f"Still due on {first.invoice.title}"] == first.invoice.total
    assert sum(lines.values()) == second.amount


def test_what_was_paid_before_is_taken_off(payer, stripe_world, stripe_gateway):
    invoice = bill(payer, numbers=3).invoice
    invoice.paid = 100
    invoice.save(update_fields=["paid"])
    payment = collection_of(invoice)
    assert stripe_gateway.collect(payment).captured == invoice.total - 100


@pytest.mark.parametrize(("numbers", "lines"), [(124, 249), (126, 3)])
def test_at_most_250_lines_are_sent(numbers, lines, payer, stripe_world, stripe_gateway):
    payer.tax_rate = 10
    payer.save(update_fields=["tax_rate"])
    payment = bill(payer, numbers=numbers)
    if numbers == 124:
        assert payment.invoice.line_count + 1 == 124 * 3 + 1
    assert stripe_gateway.collect(payment).captured == payment.amount
    [invoice] = stripe_world.all(INVOICES)
    assert len(stripe_world.all(f"{INVOICES}/{invoice['id']}/lines")) <= 250


def test_a_total_that_differs_is_not_collected_and_the_draft_goes(
    payer, stripe_world, stripe_gateway
):
    payment = bill(payer)
    payment.amount += 1
    answer = stripe_gateway.collect(payment)
    assert (answer.outcome, answer.state) == (NO, "declined")
    assert "it was not collected" in answer.reason
    assert (stripe_world.all(INVOICES), stripe_world.all("/v1/charges")) == ([], [])


def test_a_balance_at_stripe_does_not_change_what_is_collected(payer, stripe_world, stripe_gateway):
    payment = bill(payer)
    customer = payer.customers.get().gateway_id
    stripe_world.ask(
        "POST", f"/v1/customers/{customer}/balance_transactions", amount=-60, currency="usd"
    )
    answer = stripe_gateway.collect(payment)
    assert answer.outcome is NO
    assert answer.reason.endswith(f"instead of {payment.amount}; it was not collected.")
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]
    assert stripe_world.all("/v1/charges") == []


def test_pending_items_at_stripe_are_left_alone(payer, stripe_world, stripe_gateway):
    payment = bill(payer)
    customer = payer.customers.get().gateway_id
    stripe_world.ask("POST", "/v1/invoiceitems", customer=customer, amount=500, currency="usd")
    assert stripe_gateway.collect(payment).captured == payment.amount


def test_a_declined_invoice_is_voided_so_that_nobody_pays_it_later(
    payer, stripe_world, stripe_gateway
):
    change_card(payer.customers.get(), stripe_world, "declining")
    payment = bill(payer)
    answer = stripe_gateway.collect(payment)
    assert (answer.outcome, answer.state, answer.code) == (NO, "declined", "generic_decline")
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]
    change_card(payer.customers.get(), stripe_world, "tok_visa")
    again = collection_of(payment.invoice)
    assert stripe_gateway.collect(again).state == "captured"
    assert paid_invoices(stripe_world) == [(again.reference, again.amount)]


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT, Fault.SERVER_ERROR])
def test_a_decline_whose_voiding_is_lost_ends_declined(fault, payer, stripe_world, stripe_gateway):
    change_card(payer.customers.get(), stripe_world, "declining")
    payment = bill(payer)
    stripe_world.fault(f"POST {INVOICES}/*/void", fault, times=4)
    answer = settled_unless_voided(stripe_gateway, payment)
    assert answer.state in {"declined", "voided"}
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]


def settled_unless_voided(gateway, payment):
    answer = gateway.collect(payment)
    for _ in range(9):
        if answer.outcome is not UNKNOWN:
            break
        answer = gateway.look_up(payment)
    return answer


def test_an_invoice_that_needs_the_cardholder_leads_to_stripes_page(
    payer, stripe_world, stripe_gateway
):
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    payment = bill(payer)
    for answer in (
        stripe_gateway.collect(payment),
        stripe_gateway.look_up(payment),
        stripe_gateway.collect(payment),
    ):
        assert (answer.outcome, answer.state) == (YES, "action_required")
        assert "/hosted/invoice/in_" in answer.action_url
    stripe_world.visit(answer.action_url, ok="1")
    assert stripe_gateway.look_up(payment).captured == payment.amount


def test_an_invoice_nobody_confirms_is_let_go_of(payer, stripe_world, stripe_gateway):
    change_card(payer.customers.get(), stripe_world, "tok_threeDSecure2Required")
    payment = bill(payer)
    stripe_gateway.collect(payment)
    for _ in range(2):
        assert stripe_gateway.void(payment).state == "voided"
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]


def test_a_collected_invoice_is_not_voided(payer, stripe_gateway):
    payment = bill(payer)
    stripe_gateway.collect(payment)
    answer = stripe_gateway.void(payment)
    assert (answer.outcome, answer.state, answer.captured) == (NO, "captured", payment.amount)


def test_an_invoice_left_as_a_draft_is_missing_and_then_finished(
    payer, stripe_world, stripe_gateway
):
    payment = bill(payer)
    stripe_world.fault(FINALISE, Fault.TIME_OUT, times=3)
    assert stripe_gateway.collect(payment).outcome is UNKNOWN
    assert stripe_gateway.look_up(payment).state == "missing"
    payment.tries = 1
    assert stripe_gateway.collect(payment).state == "captured"
    assert len(stripe_world.all(INVOICES)) == 1


def test_an_invoice_begun_before_the_card_went_cannot_be_paid_at_stripe(
    payer, stripe_world, stripe_gateway
):
    payment = bill(payer)
    stripe_world.fault(PAY, Fault.TIME_OUT, times=3)
    assert stripe_gateway.collect(payment).outcome is UNKNOWN
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["open"]
    payer.customers.get().keep_card(payment_method="", at=noon(DECEMBER))
    payment.tries = 1
    answer = stripe_gateway.collect(payment)
    assert (answer.outcome, answer.code) == (NO, "no_card")
    assert [found["status"] for found in stripe_world.all(INVOICES)] == ["void"]


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_money_of_a_customer_who_is_gone_since_is_found(again, payer, stripe_world, stripe_gateway):
    payment, customer = bill(payer), payer.customers.get()
    stripe_world.fault(PAY, Fault.ANSWER_LOST, times=3)
    assert stripe_gateway.collect(payment).outcome is UNKNOWN
    stripe_world.ask("DELETE", f"/v1/customers/{customer.gateway_id}")
    customer.forget(at=noon(DECEMBER) + timedelta(minutes=1))
    if again:
        Customer.objects.ensure(payer, at=noon(DECEMBER))
    answer = stripe_gateway.look_up(payment)
    assert (answer.state, answer.captured) == ("captured", payment.amount)


def test_an_invoice_below_the_minimum_is_not_sent(payer, stripe_world, stripe_gateway):
    """Stripe would call it paid and add it to the customer's balance there."""
    payment = bill(payer, amount=10, fee=10)
    assert (payment.amount, stripe_gateway.collect(payment).code) == (
        payment.amount,
        "amount_too_small",
    )
    assert stripe_world.all(INVOICES) == []


# Refunds ----------------------------------------------------------------------------------------


def test_an_invoice_is_refunded_through_what_paid_it(payer, stripe_world, stripe_gateway):
    payment = bill(payer)
    payment.gateway_id = stripe_gateway.collect(payment).gateway_id
    answer = stripe_gateway.refund(refund_of(payment, 60))
    assert (answer.outcome, answer.state, answer.captured) == (YES, "refunded", 60)
    [charge] = stripe_world.all("/v1/charges")
    assert charge["amount_refunded"] == 60


def test_more_than_was_collected_is_not_refunded(payer, stripe_gateway):
    payment = purchase(payer)
    payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    stripe_gateway.capture(payment, 600)
    answer = stripe_gateway.refund(refund_of(payment, 601))
    assert (answer.outcome, answer.state) == (NO, "failed")


def test_a_refund_that_was_never_sent_is_missing(payer, stripe_gateway):
    payment = purchase(payer)
    payment.gateway_id = stripe_gateway.authorise(payment).gateway_id
    stripe_gateway.capture(payment, 600)
    assert stripe_gateway.look_up_refund(refund_of(payment, 60)).state == "missing"


# Cards ------------------------------------------------------------------------------------------


def test_a_saved_card_is_known_by_its_last_digits(payer):
    customer = payer.customers.get()
    assert (customer.card, customer.expires_on) == ("Visa •••• 4242", date(2027, 9, 30))
    assert payer.activity.get(verb="card_changed").after == {"card": "Visa •••• 4242"}


@pytest.mark.parametrize(
    ("on", "expiry"),
    [
        (date(2027, 8, 30), ""),
        (date(2027, 8, 31), "soon"),
        (date(2027, 9, 30), "soon"),
        (date(2027, 10, 1), "expired"),
    ],
)
def test_a_card_warns_for_a_month_before_it_expires(on, expiry, payer):
    assert payer.customers.get().expiry(on) == expiry


@pytest.mark.parametrize("fault", [*NEVER_HAPPENED, *HAPPENED])
def test_an_organization_is_one_customer_at_stripe(
    fault, organization, stripe_world, stripe_gateway
):
    organization.gateway = "stripe"
    stripe_world.fault("POST /v1/customers", fault, times=2)
    for _ in range(4):
        with contextlib.suppress(GatewaySilent):
            Customer.objects.ensure(organization, at=organization.created_at)
    [customer] = stripe_world.all("/v1/customers")
    assert Customer.objects.get().gateway_id == customer["id"]


def test_a_card_saved_at_checkout_is_the_one_that_pays(payer, stripe_world, stripe_gateway):
    customer = payer.customers.get()
    session = stripe_gateway.set_up_url(customer, "https://here.example/back")
    back = stripe_world.visit(session.action_url, card="tok_mastercard")
    assert back == "https://here.example/back"
    assert customer.card == "Visa •••• 4242"
    stripe_gateway.refresh(customer)
    assert customer.card == "Mastercard •••• 4444"
    stripe_gateway.authorise(purchase(payer))
    assert stripe_world.all(INTENTS)[0]["payment_method"] == customer.payment_method


def test_what_is_chosen_in_the_portal_later_stays(payer, stripe_world, stripe_gateway):
    customer = payer.customers.get()
    stripe_world.visit(
        stripe_gateway.set_up_url(customer, "https://here.example/").action_url,
        card="tok_mastercard",
    )
    stripe_gateway.refresh(customer)
    portal = stripe_gateway.portal_url(customer, "https://here.example/").action_url
    stripe_world.visit(portal, card="tok_amex")
    stripe_gateway.refresh(customer)
    assert customer.card == "Amex •••• 0005"
    stripe_world.visit(portal, remove="1")
    stripe_gateway.refresh(customer)
    assert (customer.has_card, stripe_gateway.can_collect(payer)) == (False, False)
    assert payer.activity.get(verb="card_removed").before == {"card": "Amex •••• 0005"}


def test_a_customer_deleted_at_stripe_is_made_anew(payer, stripe_world, stripe_gateway):
    customer = payer.customers.get()
    before = customer.gateway_id
    stripe_world.ask("DELETE", f"/v1/customers/{before}")
    customer.refresh()
    assert (customer.gateway_id, customer.has_card) == ("", False)
    again = Customer.objects.ensure(payer, at=customer.created_at)
    assert again.gateway_id not in {"", before}


@pytest.mark.parametrize("verb", ["set_up_url", "portal_url"])
def test_pages_of_a_gateway_that_is_down_are_unknown(verb, payer, stripe_gateway, settings):
    settings.STRIPE_API_BASE = "http://127.0.0.1:9"
    answer = getattr(stripe_gateway, verb)(payer.customers.get(), "https://here.example/")
    assert (answer.outcome, answer.action_url) == (UNKNOWN, "")


def test_disputes_are_looked_up(payer, stripe_world, stripe_gateway):
    change_card(payer.customers.get(), stripe_world, "tok_visa_createDispute")
    payment = purchase(payer)
    stripe_gateway.authorise(payment)
    stripe_gateway.capture(payment, 1000)
    [dispute] = stripe_world.all("/v1/disputes")
    answer = stripe_gateway.look_up_dispute(dispute["id"])
    assert (answer.state, answer.reason, answer.captured) == ("needs_response", "fraudulent", 1000)


# Secrets ----------------------------------------------------------------------------------------


def test_no_secret_is_ever_logged_or_shown(payer, stripe_world, stripe_gateway, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    payment = purchase(payer)
    for pattern, fault in [
        (AUTHORISE, Fault.GARBAGE),
        (CAPTURE, Fault.TOO_MANY),
        (CANCEL, Fault.SERVER_ERROR),
    ]:
        stripe_world.fault(pattern, fault)
    answers = [stripe_gateway.authorise(payment), stripe_gateway.look_up(payment)]
    answers += [stripe_gateway.capture(payment, 5000), stripe_gateway.void(payment)]
    stripe_world.answer = lambda call: stripe_refuses(401)
    answers.append(stripe_gateway.look_up(payment))
    shown = [
        repr(each) for each in (*answers, stripe_gateway, vars(stripe_gateway), stripe_gateway.api)
    ]
    said = "".join(
        [
            caplog.text,
            *capfd.readouterr(),
            *shown,
            *(str(SimpleNamespace(a=answer)) for answer in answers),
        ]
    )
    assert caplog.text
    for secret in (SECRET_KEY, WEBHOOK_SECRET):
        assert secret not in said
