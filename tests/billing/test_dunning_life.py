"""Unpaid rent in any order of payments, failures, outages and wrong clocks.

Nothing comes earlier than announced.
"""

from datetime import date, timedelta

import pytest
from django.db import transaction
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from chirp_dashboard.billing.gateways.test import Fault, TestGateway
from chirp_dashboard.billing.models import (
    Dunning,
    DunningStep,
    Invoice,
    Payment,
    Rental,
    Standing,
)
from chirp_dashboard.billing.models import dunning as dunning_module
from chirp_dashboard.billing.models.rungs import LAST, RUNGS, Act, interval
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import Mail, Organization
from chirp_dashboard.organizations.refusals import Refused

from .conftest import OPERATOR, noon, rent

ONE_DAY = timedelta(days=1)
FOR_EVER = 10_000
STOP, SUSPEND = (
    next(rung for rung, each in enumerate(RUNGS) if each.act is act)
    for act in (Act.STOP_PURCHASES, Act.SUSPEND)
)
GATEWAY = {
    "works": {},
    "declines": {"collect": [Fault.DECLINE] * FOR_EVER},
    "is silent": {call: [Fault.TIME_OUT] * FOR_EVER for call in ("collect", "look_up", "void")},
    "wants a confirmation": {"collect": [Fault.ACTION] * FOR_EVER},
}


class Unpaid(RuleBasedStateMachine):
    """One organization that pays or does not, seen by a worker whose clock may be wrong.

    `at` is the true time; `off` is what the worker's clock is off by.
    """

    def __init__(self):
        super().__init__()
        self.example = transaction.atomic()
        self.example.__enter__()
        self.at, self.off = noon(date(2026, 11, 23)), timedelta()
        self.transfers = 0
        self.mail_works, self.gateway = True, "declines"
        self.taken, self.told = {}, {}  # the true time of each step and of each mail

    def teardown(self):
        transaction.set_rollback(True)
        self.example.__exit__(None, None, None)

    @initialize(
        gateway=st.sampled_from(["account", "test"]),
        zone=st.sampled_from(["America/New_York", "Asia/Tokyo"]),
    )
    def start(self, gateway, zone):
        self.organization = Organization.objects.create(
            name="Ours", slug="ours", time_zone=zone, billing_email="billing@ours.example"
        )
        rent(self.organization, on=date(2026, 11, 23), numbers=2)
        Organization.objects.update(gateway=gateway)
        self.days(1, bill=True)
        self.at = noon(date(2026, 12, 1))
        self.days(1, bill=True)
        if gateway == "account":
            self.at = noon(date(2026, 12, 30))
        self.days(2, bill=False)

    @property
    def clock(self):
        return self.at + self.off

    @rule(count=st.integers(1, 9), bill=st.booleans())
    def days(self, count, bill):
        """Days on which everything of ours works, or what of it works."""
        for _ in range(count):
            self.at += ONE_DAY
            if bill:
                Rental.objects.charge_due(at=self.clock)
            for _ in range(2):
                with TestGateway.misbehaving(**GATEWAY[self.gateway]):
                    Payment.objects.collect_due(at=self.clock)
                    Payment.objects.advance_due(at=self.clock)
                Dunning.objects.walk(at=self.clock)
                self.remember(DunningStep.objects.all(), self.taken)
                self.send_mail()
            PhoneNumber.objects.follow_standing(at=self.clock)

    @rule(count=st.integers(6, 16))
    def weeks(self, count):
        self.days(count, bill=True)

    @rule()
    def week_of_a_month_not_billed(self):
        self.days(7, bill=False)

    def send_mail(self):
        if self.mail_works:
            Mail.objects.filter(sent_at=None).update(sent_at=self.clock)
            self.remember(Mail.objects.exclude(sent_at=None), self.told)

    def remember(self, rows, moments):
        for pk in rows.values_list("pk", flat=True):
            moments.setdefault(pk, self.at)

    @rule(count=st.sampled_from([2, 7, 45]))
    def outage(self, count):
        self.at += timedelta(days=count)

    @rule(works=st.sampled_from([True, True, False]))
    def mail_server(self, works):
        self.mail_works = works

    @rule(does=st.sampled_from(["declines", "declines", *GATEWAY]))
    def gateway_does(self, does):
        self.gateway = does

    @rule(days=st.sampled_from([0, 0, -3, -2, 2, 3]))
    def clock_is_off(self, days):
        self.off = timedelta(days=days)

    @rule(part=st.sampled_from([3, 3, 2, 1]))
    def pay(self, part):
        """A part of what is due, or all of it."""
        due = sum(invoice.due for invoice in Invoice.objects.unpaid())
        if due // part:
            self.transfers += 1
            Payment.objects.record_transfer(
                self.organization, amount=due // part, by=OPERATOR, at=self.clock,
                received_on=date(2026, 12, 1) - ONE_DAY * 40, reference=f"{self.transfers}",
            )  # fmt: skip

    @rule(gateway=st.sampled_from(["account", "test"]))
    def move(self, gateway):
        Organization.objects.update(gateway=gateway)

    @rule(days=st.sampled_from([1, 2, 10]))
    def hold(self, days):
        today = self.organization.local_date(self.clock)
        self.operate("hold", today + days * ONE_DAY, "They asked")

    @rule()
    def resume(self):
        self.operate("resume")

    @rule(is_sure=st.sampled_from([False, False, False, False, False, True]))
    def end(self, is_sure):
        if is_sure:
            self.operate("end_by_operator", "Settled")

    def operate(self, verb, *arguments):
        dunning = Dunning.objects.of(self.organization)
        if dunning:
            try:
                with transaction.atomic():
                    getattr(dunning, verb)(*arguments, by=OPERATOR, at=self.clock)
            except Refused:
                return

    @invariant()
    def no_step_comes_before_the_notice_of_the_last_and_its_interval(self):
        steps = {(step.dunning_id, step.rung): step for step in DunningStep.objects.all()}
        for (dunning, rung), step in steps.items():
            if rung:
                before = steps[dunning, rung - 1]
                announced = max(self.taken[before.pk], self.told[before.notice_id])
                assert self.taken[step.pk] >= announced + interval(rung), (before, step)
                assert step.taken_on >= before.taken_on + interval(rung)

    @invariant()
    def purchases_and_numbers_follow_the_ladder(self):
        standing = Standing.objects.filter(organization__slug="ours").first()
        dunning = Dunning.objects.open().first()
        rung = dunning.rung if dunning else -1
        if standing:
            assert bool(standing.purchases_stopped_at) == (rung >= STOP)
            assert bool(standing.suspended_at) == (rung >= SUSPEND)
        if rung < LAST and PhoneNumber.objects.filter(state="released").exists():
            assert DunningStep.objects.filter(rung=LAST).exists()

    @invariant()
    def the_books_balance(self):
        broken = check_books(at=max(self.at, self.clock))
        assert not broken, "\n".join(map(str, broken))


def live(examples, steps):
    from hypothesis.stateful import run_state_machine_as_test

    run_state_machine_as_test(
        Unpaid,
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
def rare_walks(monkeypatch):
    """One walk a day is as good as one a minute."""
    monkeypatch.setattr(dunning_module, "ASLEEP", ONE_DAY)


def test_no_step_comes_early_whatever_happens(db):
    live(examples=4, steps=20)


@pytest.mark.slow
def test_no_step_comes_early_whatever_happens_for_long(db):
    live(examples=150, steps=60)
