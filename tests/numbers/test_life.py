"""Everything anyone can do to numbers and money, in any order: the books balance after every step."""

from datetime import timedelta

import pytest
from django.db import connection, transaction
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chirp_dashboard.billing.models import Charge, Payment, Rental, Standing
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Assignment, Hold, Order, PhoneNumber
from chirp_dashboard.organizations.models import Application, Membership, Organization, User
from chirp_dashboard.organizations.refusals import Refused

from .conftest import NOON, in_stock, quoted

NUMBERS = 4
some_number = st.integers(0, NUMBERS - 1)


class Life(RuleBasedStateMachine):
    """Two organizations that want the same few numbers, over a couple of years."""

    def __init__(self):
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.at = NOON
        self.keys = 0

    def teardown(self):
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize(
        billing_day=st.sampled_from([1, 15, 31]), gateway=st.sampled_from(["account", "test"])
    )
    def start(self, billing_day, gateway):
        self.stock = [in_stock(f"+1212555014{n}") for n in range(NUMBERS)]
        self.organizations = [
            Organization.objects.create(
                name="Ours", slug="ours", billing_day=billing_day, credit_limit=3000
            ),
            Organization.objects.create(
                name="Theirs", slug="theirs", gateway=gateway, time_zone="Asia/Tokyo"
            ),
        ]
        self.people = [self._person(each) for each in self.organizations]
        self.applications = [
            [Application.objects.create(organization=each, name=n, slug=n) for n in ("a", "b")]
            for each in self.organizations
        ]

    def _person(self, organization):
        person = User.objects.create_user(f"{organization.slug}@life.example")
        Membership.objects.create(organization=organization, user=person, role="owner")
        return person

    def attempt(self, verb, *args, **kwargs):
        """Do it, unless a rule says no; a refusal must leave nothing behind."""
        try:
            with transaction.atomic():
                return verb(*args, **kwargs)
        except Refused:
            return None

    def own(self, who, which):
        owned = PhoneNumber.objects.filter(organization=self.organizations[who]).order_by("id")
        return owned[which % len(owned)] if owned else None

    @rule(who=st.integers(0, 1), which=some_number)
    def hold(self, who, which):
        self.attempt(
            Hold.objects.hold,
            self.organizations[who], self.people[who], [self.stock[which].key], at=self.at,
        )  # fmt: skip

    @rule(who=st.integers(0, 1), which=st.sets(some_number, min_size=1), assigned=st.booleans())
    def purchase(self, who, which, assigned):
        rows = [self.stock[n] for n in which]
        self.keys += 1
        application = Application.objects.get(pk=self.applications[who][0].pk)
        self.attempt(
            Order.objects.place,
            self.organizations[who],
            person=self.people[who],
            numbers=[row.key for row in rows],
            expected_total=sum(quoted(self.organizations[who], rows, at=self.at)),
            idempotency_key=f"key-{self.keys}",
            at=self.at,
            application=application if assigned else None,
        )

    @rule(who=st.integers(0, 1), which=some_number, application=st.integers(0, 1))
    def assign(self, who, which, application):
        if number := self.own(who, which):
            application = self.applications[who][application]
            self.attempt(number.assign, application, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1), which=some_number, application=st.integers(0, 1))
    def remove(self, who, which, application):
        if number := self.own(who, which):
            application = self.applications[who][application]
            self.attempt(number.remove, application, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1), which=some_number)
    def move(self, who, which):
        if number := self.own(who, which):
            source, target = self.applications[who]
            self.attempt(number.move, source, target, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1), which=some_number, when=st.sampled_from(["now", "period_end"]))
    def release(self, who, which, when):
        if number := self.own(who, which):
            self.attempt(number.release, when=when, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1), which=some_number)
    def cancel_release(self, who, which):
        if number := self.own(who, which):
            self.attempt(number.cancel_release, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1), which=some_number)
    def undo_release(self, who, which):
        if number := self.own(who, which):
            self.attempt(number.undo_release, by=self.people[who], at=self.at)

    @rule(who=st.integers(0, 1))
    def archive(self, who):
        application = self.applications[who][0]
        self.attempt(Assignment.objects.archive, application, by=self.people[who], at=self.at)

    @rule(amount=st.integers(1, 2000))
    def pay(self, amount):
        self.keys += 1
        self.attempt(
            Payment.objects.record_transfer,
            self.organizations[0],
            amount=amount,
            received_on=self.organizations[0].local_date(self.at),
            reference=f"transfer-{self.keys}",
            by=self.people[0],
            at=self.at,
        )

    @rule(amount=st.integers(1, 300))
    def credit(self, amount):
        self.attempt(
            Charge.objects.issue_credit,
            self.organizations[0], amount=amount, reason="Sorry", by=self.people[0], at=self.at,
        )  # fmt: skip

    @rule(hours=st.sampled_from([1, 5, 24, 24 * 8, 24 * 31, 24 * 70]))
    def wait(self, hours):
        self.at += timedelta(hours=hours)

    @rule()
    def run_billing(self):
        Rental.objects.charge_due(at=self.at)

    @rule()
    def sweep(self):
        PhoneNumber.objects.complete_releases(at=self.at)
        Order.objects.advance_due(at=self.at)

    @invariant()
    def the_books_balance(self):
        with connection.cursor() as cursor:
            cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
            cursor.execute("SET CONSTRAINTS ALL DEFERRED")
        broken = check_books(at=self.at)
        assert not broken, "\n".join(map(str, broken))

    @invariant()
    def no_day_of_a_number_is_paid_twice(self):
        with connection.cursor() as cursor:
            cursor.execute("""
                SELECT one.phone_number_id FROM billing_charge one JOIN billing_charge other
                ON one.phone_number_id = other.phone_number_id AND one.id < other.id
                   AND one.kind = 'rental' AND other.kind = 'rental'
                   AND one.amount > 0 AND other.amount > 0
                   AND daterange(one.period_start, one.period_end)
                       && daterange(other.period_start, other.period_end)
            """)
            assert not cursor.fetchall()

    @invariant()
    def the_credit_limit_holds_for_purchases(self):
        standing = Standing.objects.filter(organization=self.organizations[0]).first()
        assert standing is None or standing.unsettled >= 0


def live(examples, steps):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Life,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            derandomize=True,
        ),
    )


def test_the_books_balance_whatever_happens(prices):
    live(examples=12, steps=30)


@pytest.mark.slow
def test_the_books_balance_whatever_happens_for_long(prices):
    live(examples=300, steps=100)
