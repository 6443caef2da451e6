"""Invoices that a gateway collects: asked for once, whatever the gateway answers and however late."""

from datetime import date, timedelta

import pytest
from django.db import connection, transaction

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.gateways import GATEWAYS, Answer, Outcome, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Payment,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.billing.models.attempts import LEASE, SILENCE
from chirp_dashboard.billing.models.collecting import CONFIRM_WITHIN, PaymentRefused
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Activity, Mail

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

AT = noon(DECEMBER)
MINUTE = timedelta(minutes=1)


@pytest.fixture
def collecting(organization, rental):
    """Pays 2.27 for December by a gateway that collects; the invoice is due on the first."""
    organization.gateway = "test"
    organization.billing_email = "money@northwind.example"
    organization.save()
    run(DECEMBER)
    return organization


@pytest.fixture
def invoice(collecting):
    return Invoice.objects.get()


def collect(at=AT):
    """What the worker does every few minutes."""
    Payment.objects.collect_due(at=at)
    Payment.objects.advance_due(at=at)


def transfer(organization, amount, *, reference="T1", at=AT):
    return Payment.objects.record_transfer(
        organization, amount=amount, received_on=organization.local_date(at), reference=reference,
        by=OPERATOR, at=at,
    )  # fmt: skip


def mails():
    return list(
        Mail.objects.exclude(kind="invoice_issued").order_by("id").values_list("kind", flat=True)
    )


def assert_collected_once(amount):
    known = TestAuthorisation.objects.get(state="captured")
    assert known.captured == amount
    assert Payment.objects.get(state="captured").captured == amount
    assert sum(Payment.objects.values_list("captured", flat=True)) == amount
    assert Standing.objects.get().balance == 0
    assert check_books(at=AT) == []


def test_due_invoice_is_collected_by_itself(invoice):
    collect()
    payment = Payment.objects.get()
    assert (payment.state, payment.captured, payment.invoice) == ("captured", 227, invoice)
    invoice.refresh_from_db()
    assert invoice.is_paid
    assert_collected_once(227)
    assert [(e.from_state, e.to_state) for e in payment.events.order_by("id")] == [
        ("created", "unknown"), ("unknown", "captured"),
    ]  # fmt: skip
    assert mails() == ["payment_received"]
    assert Mail.objects.latest("id").to == ["money@northwind.example"]


def test_the_worker_collects(organization):
    organization.gateway = "test"
    organization.save()
    rent(organization, on=date(2026, 1, 15))
    run(date(2026, 2, 1))
    tasks.collect_due(timestamp=0)
    tasks.advance_payments(timestamp=0)
    tasks.advance_refunds(timestamp=0)
    assert Payment.objects.get().state == "captured"


def test_a_repeated_sweep_asks_once(invoice):
    for hour in range(5):
        collect(AT + timedelta(hours=hour))
    assert_collected_once(227)
    assert Payment.objects.count() == 1


def test_an_invoice_on_account_is_not_collected(organization, rental):
    run(DECEMBER)
    collect(noon(date(2027, 2, 1)))
    assert not Payment.objects.exists()
    assert Payment.objects.begin(Invoice.objects.get(), at=AT) is None


def test_an_invoice_is_not_collected_before_it_is_due(collecting, monkeypatch):
    monkeypatch.setattr(TestGateway, "terms_days", 5)
    run(JANUARY)
    newest = Invoice.objects.first()
    assert newest.due_on == date(2027, 1, 6)
    collect(noon(JANUARY))
    assert Payment.objects.get().amount == 227, "only what was due by then"


def test_older_invoices_are_collected_with_the_newest(collecting):
    run(JANUARY)
    collect(noon(JANUARY))
    payment = Payment.objects.get()
    assert (payment.amount, payment.invoice.number) == (327, 2)
    assert not Invoice.objects.unpaid().exists()
    assert_collected_once(327)


def test_what_is_left_because_the_money_paid_an_older_invoice_is_collected(collecting):
    """Paid before its day, while another became due before it."""
    ahead = Invoice.objects.get()
    collecting.invoices.update(paid=ahead.total)
    run(JANUARY)
    later = collecting.invoices.exclude(pk=ahead.pk).get()
    payment = Payment.objects.begin(later, at=noon(JANUARY))
    collecting.invoices.filter(pk=ahead.pk).update(paid=0)
    payment.advance(at=noon(JANUARY))
    later.refresh_from_db()
    assert (payment.state, later.is_paid) == ("captured", False)
    collect(noon(JANUARY) + MINUTE)
    assert not Invoice.objects.unpaid().exists()
    assert check_books(at=noon(JANUARY)) == []


def test_a_declined_payment_is_not_tried_again_by_itself(invoice):
    with TestGateway.misbehaving(collect=[Fault.DECLINE]):
        collect()
    payment = Payment.objects.get()
    assert (payment.state, payment.decline_code) == ("declined", "card_declined")
    collect(AT + timedelta(days=3))
    assert Payment.objects.count() == 1
    assert mails() == ["payment_failed"]
    mail = Mail.objects.get(kind="payment_failed")
    assert "$2.27" in mail.subject
    assert "The card was declined." in mail.text
    assert "Your numbers keep working" in mail.text
    assert f"/invoices/{invoice.public_id}/" in mail.text
    assert Activity.objects.get(verb="payment_declined").after["reason"] == "The card was declined."


def test_another_attempt_has_a_reference_of_its_own(invoice):
    with TestGateway.misbehaving(collect=[Fault.DECLINE]):
        collect()
    again = Payment.objects.begin(invoice, at=AT + MINUTE)
    again.advance(at=AT + MINUTE)
    assert again.state == "captured"
    assert again.reference != Payment.objects.exclude(pk=again.pk).get().reference
    assert_collected_once(227)


def test_one_payment_is_in_flight_at_a_time(invoice):
    first = Payment.objects.begin(invoice, at=AT)
    assert Payment.objects.begin(invoice, at=AT) is None
    first.advance(at=AT)
    assert Payment.objects.begin(invoice, at=AT) is None, "nothing is due any more"


def test_less_than_the_minimum_waits_for_the_next_invoice(collecting, monkeypatch):
    monkeypatch.setattr(TestGateway, "minimum", lambda self, currency: 300)
    collect()
    assert not Payment.objects.exists()
    run(JANUARY)
    collect(noon(JANUARY))
    assert Payment.objects.get().amount == 327


def test_without_a_card_the_organization_is_told_once(collecting, monkeypatch):
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    collect()
    collect(AT + timedelta(hours=1))
    assert not Payment.objects.exists()
    assert mails() == ["card_missing"]
    monkeypatch.undo()
    collect(AT + timedelta(hours=2))
    assert_collected_once(227)


# Answers that never come -------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT])
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_answer_has_exactly_one_effect(invoice, fault, times):
    faults = {"collect": [fault], "look_up": [Fault.TIME_OUT] * (times - 1)}
    with TestGateway.misbehaving(**faults):
        collect()
        payment = Payment.objects.get()
        assert payment.state == "unknown"
        at = AT
        for wait in SILENCE[:times]:
            payment.advance(at=at + wait - timedelta(seconds=1))
            assert payment.state == "unknown", "it is not time to look yet"
            at += wait
            payment.advance(at=at)
    assert payment.state == "captured"
    assert_collected_once(227)


def test_an_answer_lost_five_times_is_the_operators_and_then_found(invoice):
    with TestGateway.misbehaving(collect=[Fault.ANSWER_LOST], look_up=[Fault.TIME_OUT] * 4):
        collect()
        at = AT
        for wait in SILENCE:
            at += wait
            collect(at)
        payment = Payment.objects.get()
        assert (payment.state, payment.next_look_at) == ("unknown", None)
        assert mails() == ["gateway_silent"]
        collect(at + timedelta(days=30))
        assert Payment.objects.get().state == "unknown"
        payment.look_again(at=at)
        assert payment.state == "unknown"
    payment.look_again(at=at)
    assert payment.state == "captured"
    assert_collected_once(227)


def test_what_never_arrived_is_sent_again_under_the_same_reference(invoice, monkeypatch):
    keys = []
    gateway, collect_from = GATEWAYS["test"], GATEWAYS["test"].collect

    def watched(payment):
        keys.append((payment.reference, payment.tries))
        return collect_from(payment)

    monkeypatch.setattr(gateway, "collect", watched)
    with TestGateway.misbehaving(collect=[Fault.TIME_OUT] * 2):
        collect()
        at = AT + SILENCE[0]
        collect(at)
        collect(at + SILENCE[1])
    reference = Payment.objects.get().reference
    assert keys == [(reference, 0), (reference, 1), (reference, 2)]
    assert_collected_once(227)


def test_a_gateway_that_never_hears_us_is_given_up_for_the_operator(invoice):
    with TestGateway.misbehaving(collect=[Fault.TIME_OUT] * 9):
        at = AT
        collect()
        for wait in SILENCE:
            at += wait
            collect(at)
    assert Payment.objects.get().next_look_at is None
    assert mails() == ["gateway_silent"]


def test_nonsense_from_the_gateway_settles_nothing(invoice, monkeypatch):
    monkeypatch.setattr(
        GATEWAYS["test"], "collect", lambda payment: Answer(Outcome.YES, state="what?")
    )
    collect()
    assert Payment.objects.get().state == "unknown"
    monkeypatch.undo()
    collect(AT + SILENCE[0])
    assert_collected_once(227)


@pytest.mark.parametrize("captured", [0, -5, 228])
def test_a_sum_that_makes_no_sense_is_for_the_operator(invoice, monkeypatch, captured):
    answer = Answer(Outcome.YES, state="captured", captured=captured)
    monkeypatch.setattr(GATEWAYS["test"], "collect", lambda payment: answer)
    collect()
    payment = Payment.objects.get()
    assert (payment.state, payment.next_look_at, payment.captured) == ("unknown", None, 0)
    assert mails() == ["payment_differs"]
    assert Standing.objects.get().balance == 227


# Transfers beside cards --------------------------------------------------------------------------


def test_a_payment_whose_invoice_was_paid_meanwhile_is_not_sent(invoice):
    payment = Payment.objects.begin(invoice, at=AT)
    transfer(invoice.organization, 227)
    payment.advance(at=AT)
    assert payment.state == "voided"
    assert not TestAuthorisation.objects.exists()
    assert check_books(at=AT) == []


def test_what_a_part_payment_left_is_asked_for_anew(invoice):
    Payment.objects.begin(invoice, at=AT)
    transfer(invoice.organization, 100)
    collect()
    collect()
    assert sorted(Payment.objects.values_list("state", "amount")) == [
        ("captured", 100), ("captured", 127), ("voided", 227),
    ]  # fmt: skip
    assert Standing.objects.get().balance == 0


def test_what_was_paid_twice_stays_as_credit_and_pays_the_next(invoice):
    with TestGateway.misbehaving(collect=[Fault.ANSWER_LOST]):
        collect()
    transfer(invoice.organization, 227)
    collect(AT + SILENCE[0])
    assert Standing.objects.get().balance == -227
    assert Invoice.objects.unused_money(invoice.organization) == 227
    run(JANUARY)
    assert Invoice.objects.get(number=2).is_paid
    collect(noon(JANUARY))
    assert Payment.objects.count() == 2
    assert check_books(at=noon(JANUARY)) == []


def test_a_transfer_is_acknowledged_by_mail(invoice):
    transfer(invoice.organization, 27)
    mail = Mail.objects.get(kind="payment_received")
    assert mail.subject == "We received $0.27"
    assert "Invoice 000001: $2.00 still to pay" in mail.text
    assert "with the reference T1" in mail.text


# The customer's bank asks ------------------------------------------------------------------------


@pytest.fixture
def asked(invoice):
    """A payment that waits for the customer."""
    with TestGateway.misbehaving(collect=[Fault.ACTION]):
        collect()
    return Payment.objects.get()


def test_the_customer_is_asked_once_to_confirm(asked):
    assert asked.state == "action_required"
    assert asked.action_url.startswith("https://")
    for hour in range(1, 4):
        collect(AT + timedelta(hours=hour))
    assert mails() == ["payment_action"]
    assert f"/payments/{asked.public_id}/" in Mail.objects.get(kind="payment_action").text


def test_a_confirmed_payment_is_collected(asked):
    GATEWAYS["test"].confirm(asked)
    collect(AT + timedelta(hours=1))
    assert_collected_once(227)


def test_coming_back_from_the_bank_need_not_wait_for_the_sweep(asked):
    GATEWAYS["test"].confirm(asked)
    asked.look_again(at=AT + timedelta(minutes=2))
    assert_collected_once(227)


def test_a_payment_that_nobody_confirms_is_given_up(asked):
    at = AT + CONFIRM_WITHIN
    collect(at - MINUTE)
    assert Payment.objects.get().state == "action_required"
    collect(at + timedelta(hours=1))
    assert Payment.objects.get().state == "declined"
    assert TestAuthorisation.objects.get().state == "voided"
    assert mails() == ["payment_action", "payment_failed"]
    again = Payment.objects.begin(asked.invoice, at=at + timedelta(hours=1))
    again.advance(at=at + timedelta(hours=1))
    assert_collected_once(227)


def test_a_payment_is_not_confirmed_any_more_once_a_transfer_paid(asked):
    transfer(asked.organization, 227)
    collect(AT + timedelta(hours=1))
    assert Payment.objects.get(pk=asked.pk).state == "voided"
    assert TestAuthorisation.objects.get().state == "voided"
    assert Standing.objects.get().balance == 0


def test_a_confirmation_in_the_last_second_is_ours(asked, monkeypatch):
    gateway, void = GATEWAYS["test"], GATEWAYS["test"].void

    def too_late(payment):
        gateway.confirm(payment)
        return void(payment)

    monkeypatch.setattr(gateway, "void", too_late)
    collect(AT + CONFIRM_WITHIN + timedelta(hours=1))
    assert_collected_once(227)


def test_money_that_came_in_after_we_gave_up_is_booked(asked):
    collect(AT + CONFIRM_WITHIN + timedelta(hours=1))
    assert Payment.objects.get().state == "declined"
    TestAuthorisation.objects.update(state="captured", captured=227)
    asked.look_again(at=AT + timedelta(days=2))
    assert asked.state == "captured"
    assert_collected_once(227)
    asked.look_again(at=AT + timedelta(days=3))
    assert_collected_once(227)


# Paying now --------------------------------------------------------------------------------------


def pay(invoice, *, amount=227, after="", by=OPERATOR, at=AT):
    payment = Payment.objects.pay_now(invoice, amount=amount, after=after, by=by, at=at)
    payment.advance(at=at)
    return payment


def test_a_second_click_finds_the_first_payment(invoice):
    first = pay(invoice)
    assert pay(invoice) == first
    assert_collected_once(227)


def test_a_second_click_after_a_decline_tries_nothing(invoice):
    with TestGateway.misbehaving(collect=[Fault.DECLINE]):
        first = pay(invoice)
    assert pay(invoice) == first
    assert Payment.objects.count() == 1
    assert pay(invoice, after=first.public_id).state == "captured"


def test_what_is_due_has_to_be_what_was_shown(invoice):
    transfer(invoice.organization, 27)
    with pytest.raises(PaymentRefused, match=r"changed since you looked: it is \$2.00 now"):
        pay(invoice)
    assert Payment.objects.filter(gateway="test").count() == 0


@pytest.mark.parametrize(
    ("faulty", "value", "reason"),
    [
        ("minimum", lambda self, currency: 300, r"\$2.27 is less than can be collected, \$3.00"),
        ("can_collect", lambda self, organization: False, "no card"),
        ("collects_invoices", False, "paid by transfer"),
    ],
)
def test_what_cannot_be_collected_says_why(invoice, monkeypatch, faulty, value, reason):
    monkeypatch.setattr(TestGateway, faulty, value)
    with pytest.raises(PaymentRefused, match=reason):
        pay(invoice)
    assert not Payment.objects.exists()
    assert mails() == []


def test_a_paid_invoice_is_not_paid_again(invoice):
    first = pay(invoice)
    with pytest.raises(PaymentRefused, match="Nothing is due"):
        pay(invoice, amount=0, after=first.public_id)


# At once -----------------------------------------------------------------------------------------


def test_no_call_is_made_inside_a_transaction(transactional_db, request, monkeypatch):
    invoice = request.getfixturevalue("invoice")
    inside = []

    def watch(name):
        call = getattr(GATEWAYS["test"], name)

        def watched(payment):
            inside.append((name, connection.in_atomic_block))
            return call(payment)

        monkeypatch.setattr(GATEWAYS["test"], name, watched)

    watch("collect")
    watch("look_up")
    with TestGateway.misbehaving(collect=[Fault.ANSWER_LOST]):
        collect()
        collect(AT + SILENCE[0])
    assert inside == [("collect", False), ("look_up", False)]
    invoice.refresh_from_db()
    assert invoice.is_paid


def test_another_worker_leaves_a_payment_in_hand_alone(invoice, monkeypatch):
    gateway, calls = GATEWAYS["test"], []
    send = gateway.collect

    def meanwhile(payment):
        calls.append(payment)
        Payment.objects.get().advance(at=AT)
        Payment.objects.get().look_again(at=AT)
        return send(payment)

    monkeypatch.setattr(gateway, "collect", meanwhile)
    collect()
    assert len(calls) == 1
    assert_collected_once(227)


@pytest.mark.parametrize("call", ["collect", "look_up"])
def test_an_answer_after_the_lease_changes_nothing(invoice, monkeypatch, call):
    gateway, calls = GATEWAYS["test"], []
    answer = getattr(gateway, call)

    def late(payment):
        answered = answer(payment)
        calls.append(call)
        if len(calls) == 1:
            Payment.objects.get().advance(at=AT + LEASE + SILENCE[0])
        return answered

    monkeypatch.setattr(gateway, call, late)
    with TestGateway.misbehaving(collect=[Fault.ANSWER_LOST] if call == "look_up" else []):
        collect()
        collect(AT + SILENCE[0])
    assert_collected_once(227)
    assert Payment.objects.get().events.filter(to_state="captured").count() == 1


def test_charges_are_never_collected_twice_over_months(collecting):
    for month in range(1, 7):
        day = date(2027, month, 1)
        run(day)
        collect(noon(day))
    with transaction.atomic():
        assert sum(Payment.objects.values_list("captured", flat=True)) == Charge.objects.total()
    assert check_books(at=noon(date(2027, 6, 1))) == []
