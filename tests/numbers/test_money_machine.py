"""Everything that moves money, in any order, through a gateway that lies, loses answers and dies."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from django.db.models import Sum
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chirp_dashboard.billing.gateways import GATEWAYS, TestGateway
from chirp_dashboard.billing.gateways.test import CONFIRMING, Fault
from chirp_dashboard.billing.models import (
    Invoice,
    Payment,
    Refund,
    Rental,
    Standing,
    TestAuthorisation,
)
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Order, OrderLine
from chirp_dashboard.organizations.models import Actor, Membership, Organization, User
from chirp_dashboard.organizations.refusals import Refused

from .conftest import NOON, in_stock, quoted

NUMBERS = 3
OPERATOR = Actor.system("tests")
CALLS = ("authorise", "collect", "capture", "void", "look_up", "refund", "look_up_refund")
faults = st.fixed_dictionaries(
    {}, optional={call: st.lists(st.sampled_from([None, *Fault]), max_size=3) for call in CALLS}
)


class Killed(BaseException):
    """The process died here."""


class Money(RuleBasedStateMachine):
    """One organization that pays by a gateway, over a year or two."""

    def __init__(self):
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.at = NOON
        self.keys = 0

    def teardown(self):
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize(rate=st.sampled_from([0, 19]), minimum=st.sampled_from([0, 130]))
    def start(self, rate, minimum):
        self.stock = [in_stock(f"+1212555014{n}") for n in range(NUMBERS)]
        self.organization = Organization.objects.create(
            name="Ours", slug="ours", gateway="test", tax_rate=rate, daily_spend_cap=1000
        )
        self.person = User.objects.create_user("owner@ours.example")
        Membership.objects.create(organization=self.organization, user=self.person, role="owner")
        TestGateway.minimum = lambda gateway, currency: minimum

    def attempt(self, verb, *args, faults=None, killed_at=0, **kwargs):
        """Do it with a gateway that misbehaves, perhaps in a process that dies; rules may say no."""
        dying = KillAt(killed_at)
        try:
            with TestGateway.misbehaving(**faults or {}), connection.execute_wrapper(dying):
                return verb(*args, **kwargs)
        except (Refused, Killed):
            return None

    def key(self):
        self.keys += 1
        return f"key-{self.keys}"

    @rule(
        which=st.sets(st.integers(0, NUMBERS - 1), min_size=1),
        faults=faults,
        killed_at=st.integers(0, 60),
    )
    def purchase(self, which, faults, killed_at):
        rows = [self.stock[n] for n in which]
        net = sum(quoted(self.organization, rows, at=self.at))
        self.attempt(
            Order.objects.place,
            self.organization,
            person=self.person,
            numbers=[row.key for row in rows],
            expected_total=Order(tax_rate=self.organization.tax_rate).with_tax(net),
            idempotency_key=self.key(),
            at=self.at,
            faults=faults,
            killed_at=killed_at,
        )

    @rule()
    def run_billing(self):
        assert Rental.objects.charge_due(at=self.at).failures == []

    @rule(faults=faults, killed_at=st.integers(0, 60))
    def sweep(self, faults, killed_at):
        self.attempt(self._sweep, faults=faults, killed_at=killed_at)

    def _sweep(self):
        Payment.objects.collect_due(at=self.at)
        Payment.objects.advance_due(at=self.at)
        Refund.objects.advance_due(at=self.at)
        Order.objects.advance_due(at=self.at)

    @rule(faults=faults)
    def pay_now(self, faults):
        if newest := self.organization.invoices.unpaid().last():
            latest = Payment.objects.latest_attempt(self.organization)
            payment = self.attempt(
                Payment.objects.pay_now,
                newest,
                amount=Payment.objects.amount_due(newest),
                after=latest.public_id if latest else "",
                by=self.person,
                at=self.at,
            )
            if payment:
                self.attempt(payment.advance, at=self.at, faults=faults)

    @rule(amount=st.integers(1, 600))
    def transfer(self, amount):
        Payment.objects.record_transfer(
            self.organization,
            amount=amount,
            received_on=self.organization.local_date(self.at),
            reference=self.key(),
            by=OPERATOR,
            at=self.at,
        )

    @rule(which=st.integers(0, 9), amount=st.integers(1, 600), faults=faults)
    def give_back(self, which, amount, faults):
        payments = list(Payment.objects.filter(state="captured").order_by("id"))
        if payments:
            payment = payments[which % len(payments)]
            refund = self.attempt(
                Refund.objects.begin,
                payment,
                amount=amount,
                reason="Asked for it",
                by=OPERATOR,
                at=self.at,
            )
            if refund:
                self.attempt(refund.advance, at=self.at, faults=faults)

    @rule(which=st.integers(0, 9))
    def credit(self, which):
        invoices = list(Invoice.objects.exclude(kind="credit_note").order_by("number"))
        if invoices:
            invoice = invoices[which % len(invoices)]
            charges = [line.charge for line in invoice.lines.select_related("charge")]
            self.attempt(invoice.credit, charges, reason="Sorry", by=OPERATOR, at=self.at)

    @rule(which=st.integers(0, 9), faults=faults)
    def refund_line(self, which, faults):
        lines = list(OrderLine.objects.filter(state="delivered").order_by("id"))
        if lines:
            line = lines[which % len(lines)]
            self.attempt(line.refund, reason="Never worked", by=OPERATOR, at=self.at, faults=faults)

    @rule()
    def confirm(self):
        for payment in Payment.objects.filter(state="action_required"):
            if TestAuthorisation.objects.filter(reference=payment.reference, state=CONFIRMING):
                GATEWAYS["test"].confirm(payment)

    @rule(which=st.integers(0, 9), faults=faults)
    def hear_from_the_gateway(self, which, faults):
        payments = list(Payment.objects.order_by("id"))
        if payments:
            payment = payments[which % len(payments)]
            self.attempt(payment.look_again, at=self.at, faults=faults)

    @rule(hours=st.sampled_from([0.1, 1, 5, 24, 24 * 8, 24 * 31]))
    def wait(self, hours):
        self.at += timedelta(hours=hours)

    @rule()
    def settle(self):
        """Days of a gateway that answers: nothing is left open, and it says what our books say."""
        for order in Order.objects.filter(state=Order.State.STUCK):
            order.resume(by=OPERATOR, at=self.at)
        for row in [*Payment.objects.filter(order=None), *Refund.objects.all()]:
            if row.is_waiting and row.next_look_at is None:
                row.look_again(at=self.at)
        for _ in range(4):
            self.at += timedelta(hours=25)
            self._sweep()
        assert not Order.objects.open().exists()
        assert not Payment.objects.filter(state__in=Payment.IN_FLIGHT).exists()
        assert not Refund.objects.filter(state__in=Refund.WAITING).exists()
        known = TestAuthorisation.objects
        assert self.sum_of(known.filter(state="captured"), "captured") == self.sum_of(
            Payment.objects.filter(gateway="test"), "captured"
        )
        assert self.sum_of(known.filter(state="refunded"), "amount") == self.sum_of(
            Refund.objects.filter(payment__gateway="test", state="refunded"), "amount"
        )

    def sum_of(self, rows, field):
        return rows.aggregate(sum=Sum(field, default=0))["sum"]

    @invariant()
    def the_books_balance(self):
        late = {"I7", "I9"}  # of work that no sweep has had the time for
        broken = [row for row in check_books(at=self.at) if row.invariant not in late]
        assert not broken, "\n".join(map(str, broken))

    @invariant()
    def the_day_stays_within_its_cap(self):
        standing = Standing.objects.first()
        assert standing is None or 0 <= standing.spent <= 1000


class KillAt:
    """Kills the work before statement `number`; never for 0. What was committed before stays."""

    def __init__(self, number):
        self.number, self.seen = number, 0

    def __call__(self, execute, sql, parameters, many, context):
        self.seen += 1
        if self.seen == self.number and not sql.startswith(("SAVEPOINT", "RELEASE", "ROLLBACK")):
            raise Killed
        return execute(sql, parameters, many, context)


def move_money(examples, steps):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Money,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
            phases=[Phase.generate],
        ),
    )


@pytest.fixture(autouse=True)
def minimum_as_before(monkeypatch):
    monkeypatch.setattr(TestGateway, "minimum", TestGateway.minimum)


def test_the_books_balance_however_money_moves(prices):
    move_money(examples=6, steps=25)


@pytest.mark.slow
def test_the_books_balance_however_money_moves_for_long(prices):
    move_money(examples=100, steps=50)
