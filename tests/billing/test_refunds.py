"""Money given back: never more than is free to be given, once, whatever the gateway answers."""

import threading
from datetime import timedelta

import pytest
from django.db import IntegrityError, connection

from chirp_dashboard.billing.gateways import GATEWAYS, Answer, Outcome, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import (
    Invoice,
    Payment,
    Refund,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.billing.models.attempts import SILENCE
from chirp_dashboard.billing.models.refunds import RefundMoved, RefundRefused
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Activity, Mail

from .conftest import DECEMBER, OPERATOR, noon, run

AT = noon(DECEMBER)


@pytest.fixture
def paid(organization, rental):
    """The December invoice of 2.27, collected by card."""
    organization.gateway = "test"
    organization.save()
    run(DECEMBER)
    Payment.objects.collect_due(at=AT)
    Payment.objects.advance_due(at=AT)
    return Payment.objects.get()


@pytest.fixture
def note(paid):
    """The whole December invoice is credited, and its money free to be given back."""
    invoice = paid.invoice
    charges = [line.charge for line in invoice.lines.select_related("charge")]
    return invoice.credit(charges, reason="Never worked", by=OPERATOR, at=AT, to_refund=True)


def refund(payment, amount=227, *, note=None, at=AT, reason="Never worked"):
    return Refund.objects.begin(
        payment, amount=amount, reason=reason, by=OPERATOR, at=at, credit_note=note
    )


def advance(at=AT):
    Refund.objects.advance_due(at=at)


def assert_given_back_once(amount=227):
    given = TestAuthorisation.objects.filter(state="refunded")
    assert [row.amount for row in given] == [amount]
    assert Payment.objects.get(gateway="test").refunded == amount
    assert Standing.objects.get().balance == 0
    assert check_books(at=AT) == []


def test_a_refund_counts_at_once_and_is_given_back_by_the_gateway(paid, note):
    begun = refund(paid, note=note)
    assert (begun.state, Payment.objects.get().refunded) == ("created", 227)
    assert Standing.objects.get().balance == -227, "credited and not given back yet"
    assert check_books(at=AT) == []
    advance()
    begun.refresh_from_db()
    assert (begun.state, begun.credit_note) == ("refunded", note)
    entry = begun.organization.entries.get(kind="refund")
    assert sorted(entry.postings.values_list("account", "amount")) == [
        ("cash", -227), ("receivable", 227),
    ]  # fmt: skip
    assert_given_back_once()
    assert [(e.from_state, e.to_state) for e in begun.events.order_by("id")] == [
        ("created", "unknown"), ("unknown", "refunded"),
    ]  # fmt: skip
    mail = Mail.objects.get(kind="payment_refunded")
    assert mail.subject == "$2.27 was given back"
    assert "Why: Never worked" in mail.text
    assert note.title in mail.text
    verbs = Activity.objects.filter(subject=begun.public_id).order_by("id")
    assert [row.verb for row in verbs] == ["refund_begun", "refunded"]


def test_parts_are_given_back_up_to_what_was_paid(paid, note):
    refund(paid, 100, note=note)
    refund(paid, 127, note=note)
    with pytest.raises(RefundRefused, match=r"\$0.00 of what was paid"):
        refund(paid, 1, note=note)
    advance()
    assert sorted(
        TestAuthorisation.objects.filter(state="refunded").values_list("amount", flat=True)
    ) == [100, 127]
    assert check_books(at=AT) == []


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"amount": 228}, r"\$2.27 of what was paid can still"),
        ({"amount": 0}, "more than zero"),
        ({"amount": -1}, "more than zero"),
        ({"amount": 1, "reason": "  "}, "Write why"),
        ({"amount": 1, "reason": "x" * 201}, "at most 200"),
    ],
)
def test_a_refund_that_makes_no_sense_is_refused(paid, note, asked, reason):
    with pytest.raises(RefundRefused, match=reason):
        refund(paid, **asked)
    assert not Refund.objects.exists()
    assert Payment.objects.get().refunded == 0


def test_money_that_pays_an_invoice_is_not_given_back(paid):
    with pytest.raises(RefundRefused, match=r"\$0.00 is free to be given back. Credit an invoice"):
        refund(paid)
    assert not Refund.objects.exists()


def test_what_was_not_collected_is_not_given_back(organization, rental):
    organization.gateway = "test"
    organization.save()
    run(DECEMBER)
    payment = Payment.objects.begin(Invoice.objects.get(), at=AT)
    with TestGateway.misbehaving(collect=[Fault.DECLINE]):
        payment.advance(at=AT)
    with pytest.raises(RefundRefused, match=r"\$0.00 of what was paid"):
        refund(payment, 1)


def test_a_credit_note_of_another_organization_is_refused(paid, note, rival):
    theirs = Payment.objects.record_transfer(
        rival, amount=500, received_on=DECEMBER, reference="T1", by=OPERATOR, at=AT
    )
    with pytest.raises(RefundRefused, match="another organization"):
        refund(theirs, note=note)


def test_overpaid_money_is_given_back_without_a_credit_note(organization):
    payment = Payment.objects.record_transfer(
        organization, amount=500, received_on=DECEMBER, reference="T1", by=OPERATOR, at=AT
    )
    given = refund(payment, 500, reason="Paid by mistake, transferred back with reference R1")
    assert given.state == "refunded", "the operator has transferred it back"
    assert Standing.objects.get().balance == 0
    assert check_books(at=AT) == []
    assert not TestAuthorisation.objects.exists()
    given.look_again(at=AT + timedelta(days=1))
    assert given.state == "refunded"


# Answers -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [Fault.ANSWER_LOST, Fault.TIME_OUT])
@pytest.mark.parametrize("times", [1, 2])
def test_a_lost_answer_has_exactly_one_effect(paid, note, fault, times):
    begun = refund(paid, note=note)
    faults = {"refund": [fault], "look_up_refund": [Fault.TIME_OUT] * (times - 1)}
    with TestGateway.misbehaving(**faults):
        at = AT
        advance()
        for wait in SILENCE[:times]:
            at += wait
            advance(at)
    begun.refresh_from_db()
    assert begun.state == "refunded"
    assert begun.tries == (fault is Fault.TIME_OUT)
    assert_given_back_once()


def test_an_answer_lost_five_times_is_the_operators_and_then_found(paid, note):
    begun = refund(paid, note=note)
    faults = {"refund": [Fault.ANSWER_LOST], "look_up_refund": [Fault.TIME_OUT] * 4}
    with TestGateway.misbehaving(**faults):
        at = AT
        advance()
        for wait in SILENCE:
            at += wait
            advance(at)
        begun.refresh_from_db()
        assert (begun.state, begun.next_look_at) == ("unknown", None)
        assert Mail.objects.filter(kind="gateway_silent").exists()
        begun.look_again(at=at)
    begun.look_again(at=at)
    assert begun.state == "refunded"
    assert_given_back_once()


def test_a_failed_refund_is_the_customers_credit_again(paid, note):
    begun = refund(paid, note=note)
    with TestGateway.misbehaving(refund=[Fault.DECLINE]):
        advance()
    begun.refresh_from_db()
    assert begun.state == "failed"
    assert Payment.objects.get().refunded == 0
    assert Standing.objects.get().balance == -227
    assert Mail.objects.get(kind="refund_failed").organization is None
    assert not Mail.objects.filter(kind="payment_refunded").exists()
    assert check_books(at=AT) == []
    again = refund(paid, note=note)
    again.advance(at=AT)
    assert again.state == "refunded"
    assert_given_back_once()


def test_a_pending_refund_is_looked_at_until_it_is_settled(paid, note, monkeypatch):
    begun = refund(paid, note=note)
    pending = Answer(Outcome.YES, state="pending", gateway_id="re_1")
    monkeypatch.setattr(GATEWAYS["test"], "refund", lambda refund: pending)
    monkeypatch.setattr(GATEWAYS["test"], "look_up_refund", lambda refund: pending)
    for hour in range(30):
        advance(AT + timedelta(hours=hour))
    begun.refresh_from_db()
    assert (begun.state, begun.gateway_id) == ("unknown", "re_1")
    assert not Mail.objects.filter(kind="gateway_silent").exists()
    refunded = Answer(Outcome.YES, state="refunded", gateway_id="re_1")
    monkeypatch.setattr(GATEWAYS["test"], "look_up_refund", lambda refund: refunded)
    begun.look_again(at=AT + timedelta(days=2))
    assert begun.state == "refunded"
    assert check_books(at=AT) == []


def test_money_the_bank_sends_back_is_the_customers_credit_again(paid, note):
    begun = refund(paid, note=note)
    begun.advance(at=AT)
    TestAuthorisation.objects.filter(state="refunded").update(state="failed")
    begun.look_again(at=AT + timedelta(days=3))
    assert begun.state == "failed"
    assert Payment.objects.get().refunded == 0
    assert Standing.objects.get().balance == -227
    assert check_books(at=AT) == []


def test_a_settled_refund_does_not_move(paid, note):
    begun = refund(paid, note=note)
    begun.advance(at=AT)
    for state in set(Refund.State) - {Refund.State.FAILED}:
        with pytest.raises(RefundMoved):
            begun.move(state, at=AT)


# At once -----------------------------------------------------------------------------------------


@pytest.fixture
def overpaid(transactional_db, organization):
    """5.00 by transfer that pays nothing yet."""
    return Payment.objects.record_transfer(
        organization, amount=500, received_on=DECEMBER, reference="T1", by=OPERATOR, at=AT
    )


def refund_at_once(payment, *, times):
    """Begin a refund of 3.00 `times` at once; what became of each."""
    start, outcomes = threading.Barrier(times), []

    def work():
        try:
            start.wait()
            refund(Payment.objects.get(pk=payment.pk), 300)
            outcomes.append("begun")
        except RefundRefused:
            outcomes.append("refused")
        except IntegrityError:
            outcomes.append("stopped by the database")
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(times)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return sorted(outcomes)


def test_refunds_at_once_never_pass_what_was_paid(overpaid):
    assert refund_at_once(overpaid, times=5) == ["begun", *["refused"] * 4]
    assert Payment.objects.get().refunded == 300
    assert check_books(at=AT) == []


def test_without_the_lock_two_refunds_pass_the_check(overpaid, monkeypatch):
    """The negative control: what the lock is for, and what still stands behind it."""
    both_checked = threading.Barrier(2, timeout=10)
    queries = type(Refund.objects.all())
    check = queries._check

    def check_together(self, *args):
        check(self, *args)
        both_checked.wait()

    monkeypatch.setattr(queries, "_check", check_together)
    unlocked = Standing.objects.select_related("organization")
    monkeypatch.setattr(Standing, "lock", lambda organization: unlocked.get(pk=organization.pk))
    assert refund_at_once(overpaid, times=2) == ["begun", "stopped by the database"]
