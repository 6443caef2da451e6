"""Killed, doubled or late while money is collected and given back: one effect, and books that balance."""

import random
import threading
from datetime import date, timedelta

import pytest
from django.db import IntegrityError, connection, transaction

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.models import (
    Invoice,
    Payment,
    Refund,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.billing.models.collecting import PaymentRefused
from chirp_dashboard.billing.models.payments import PaymentMoved
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Mail

from .conftest import DECEMBER, OPERATOR, noon, rent, run

AT = noon(DECEMBER)
WAITS = [timedelta(0), timedelta(minutes=2), timedelta(minutes=10), timedelta(hours=2)]
pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What a kill is to the database: the connection goes away and its transaction with it."""


class KillAt:
    """Kills the connection's work before statement `number`; never for 0."""

    def __init__(self, number):
        self.number, self.seen = number, 0

    def __call__(self, execute, sql, parameters, many, context):
        self.seen += 1
        if self.seen == self.number:
            connection.close()
            raise Killed
        return execute(sql, parameters, many, context)


@pytest.fixture
def collecting(organization):
    """Rents one number since November at 1.00 a month and pays through a gateway that collects."""
    organization.gateway = "test"
    organization.save()
    rent(organization, on=date(2026, 11, 23))
    return organization


def collect(at):
    Payment.objects.collect_due(at=at)
    Payment.objects.advance_due(at=at)


def give_back(invoice, at):
    """Credit the whole invoice and give its money back, as an operator does."""
    with transaction.atomic():
        Standing.lock(invoice.organization)
        if not invoice.credit_notes.exists():
            charges = [line.charge for line in invoice.lines.select_related("charge")]
            note = invoice.credit(charges, reason="No use", by=OPERATOR, at=at, to_refund=True)
            Refund.objects.begin(
                invoice.payments.get(state="captured"), amount=invoice.total, reason="No use",
                by=OPERATOR, at=at, credit_note=note,
            )  # fmt: skip
    Refund.objects.advance_due(at=at)


def month_after(day):
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def interrupted(work, number, *, day):
    """Do `work` killed at statement `number`, then what sweeps do afterwards; was it killed at all?"""
    killing = KillAt(number)
    try:
        with connection.execute_wrapper(killing):
            work(noon(day))
    except Killed:
        pass
    for wait in WAITS:
        work(noon(day) + wait)
    return killing.seen >= number


def kills(count, *, sample):
    """Which statements to kill at: the first, and a sample of the others."""
    chance = random.Random(20261201)
    return sorted({1, *chance.sample(range(1, count + 1), min(sample, count))})


def collect_killed_at(numbers):
    """One month's invoice for each number, collected by a process that is killed at that statement."""
    day = DECEMBER
    for number in numbers:
        run(day)
        killed = interrupted(collect, number, day=day)
        captured = Payment.objects.filter(state="captured")
        assert captured.count() == Invoice.objects.filter(kind="monthly").count()
        assert not Payment.objects.in_flight().exists()
        assert Mail.objects.filter(kind="payment_received").count() == captured.count()
        assert Standing.objects.get().balance == 0
        day = month_after(day)
        yield killed
    assert_the_gateway_agrees()
    assert check_books(at=noon(day)) == []


def assert_the_gateway_agrees():
    known = TestAuthorisation.objects.all()
    ours = Payment.objects.filter(state="captured")
    assert sum(row.captured for row in known.filter(state="captured")) == sum(
        payment.captured for payment in ours
    )
    given = Refund.objects.filter(state="refunded")
    assert sum(row.amount for row in known.filter(state="refunded")) == sum(
        refund.amount for refund in given
    )


def test_collecting_killed_at_some_statements_collects_once(collecting):
    assert all(collect_killed_at(kills(30, sample=6)))


@pytest.mark.slow
def test_collecting_killed_at_every_statement_collects_once(collecting):
    assert not all(collect_killed_at(range(1, 70)))


def refund_killed_at(numbers):
    """One month's payment for each number, given back by processes killed at that statement."""
    day = DECEMBER
    for number in numbers:
        run(day)
        collect(noon(day))
        invoice = Invoice.objects.filter(kind="monthly").first()
        killed = interrupted(lambda at, invoice=invoice: give_back(invoice, at), number, day=day)
        refunds = Refund.objects.filter(credit_note__corrects=invoice)
        assert [refund.state for refund in refunds] == ["refunded"]
        assert Standing.objects.get().balance == 0
        day = month_after(day)
        yield killed
    assert_the_gateway_agrees()
    assert check_books(at=noon(day)) == []


def test_giving_back_killed_at_some_statements_gives_back_once(collecting):
    assert all(refund_killed_at(kills(70, sample=6)))


@pytest.mark.slow
def test_giving_back_killed_at_every_statement_gives_back_once(collecting):
    assert not all(refund_killed_at(range(1, 120)))


# At once -----------------------------------------------------------------------------------------


def at_once(work, *, times=4):
    """Do `work` in `times` threads at once; what each returned or raised, as words."""
    start, outcomes = threading.Barrier(times, timeout=20), []

    def thread():
        try:
            start.wait()
            outcomes.append(str(work()))
        except (PaymentMoved, PaymentRefused, IntegrityError) as error:
            outcomes.append(type(error).__name__)
        finally:
            connection.close()

    threads = [threading.Thread(target=thread) for _ in range(times)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    return outcomes


@pytest.fixture
def invoice(collecting):
    run(DECEMBER)
    return Invoice.objects.get()


@pytest.fixture
def calls(monkeypatch):
    """The payments that the gateway was asked to collect."""
    asked, collect_from = [], GATEWAYS["test"].collect

    def watched(payment):
        asked.append(payment.reference)
        return collect_from(payment)

    monkeypatch.setattr(GATEWAYS["test"], "collect", watched)
    return asked


def advance():
    Payment.objects.in_flight().get().advance(at=AT)


def test_two_workers_on_one_payment_send_it_once(invoice, calls):
    Payment.objects.begin(invoice, at=AT)
    at_once(advance)
    assert len(calls) == 1
    assert Payment.objects.get().state == "captured"
    assert_the_gateway_agrees()
    assert check_books(at=AT) == []


def test_without_the_lease_two_workers_send_it_twice(invoice, calls, monkeypatch):
    """The negative control: what the lease is for. The state is guarded too, so the books stay right."""
    together = threading.Barrier(2, timeout=10)

    def take_turn(self, free, *, at):
        self.refresh_from_db()
        together.wait()
        return True

    monkeypatch.setattr(Payment, "_take_turn", take_turn)
    monkeypatch.setattr(Payment, "_keep_turn", lambda self: None)
    monkeypatch.setattr(
        Payment, "_send", lambda self, *, at: self._write(GATEWAYS["test"].collect(self), at=at)
    )
    Payment.objects.begin(invoice, at=AT)
    outcomes = at_once(advance, times=2)
    assert len(calls) == 2
    assert sorted(outcomes) == ["None", "PaymentMoved"]
    assert Payment.objects.get().captured == 227


def click(invoice):
    payment = Payment.objects.pay_now(invoice, amount=227, after="", by=OPERATOR, at=AT)
    payment.advance(at=AT)
    return payment.public_id


def test_a_button_clicked_many_times_at_once_pays_once(invoice, calls):
    assert len(set(at_once(lambda: click(invoice), times=6))) == 1
    assert len(calls) == 1
    assert Payment.objects.get().captured == 227
    assert check_books(at=AT) == []


def test_without_the_lock_only_the_database_stops_a_second_payment(invoice, monkeypatch):
    """The negative control: both clicks find nothing in flight, and the constraint refuses one."""
    together = threading.Barrier(2, timeout=10)
    queries = type(Payment.objects.all())
    check = queries._check_collectable

    def check_together(self, *args):
        check(self, *args)
        together.wait()

    monkeypatch.setattr(queries, "_check_collectable", check_together)
    unlocked = Standing.objects.select_related("organization")
    monkeypatch.setattr(Standing, "lock", lambda organization: unlocked.get(pk=organization.pk))
    outcomes = at_once(
        lambda: Payment.objects.pay_now(invoice, amount=227, after="", by=OPERATOR, at=AT), times=2
    )
    assert sorted(outcomes)[0] == "IntegrityError"
    assert Payment.objects.count() == 1


def test_a_transfer_and_a_card_at_once_leave_credit_and_no_mistake(invoice):
    def transfer():
        Payment.objects.record_transfer(
            invoice.organization,
            amount=227,
            received_on=DECEMBER,
            reference="T1",
            by=OPERATOR,
            at=AT,
        )

    ways = [transfer, lambda: click(invoice)] * 2
    at_once(lambda: ways.pop()(), times=4)
    invoice.refresh_from_db()
    assert invoice.is_paid
    captured = sum(Payment.objects.values_list("captured", flat=True))
    assert captured in {227, 454}
    assert Standing.objects.get().balance == 227 - captured
    assert check_books(at=AT) == []
