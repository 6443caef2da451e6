"""What happens when rent is not paid: one step at a time, each announced and waited for."""

from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine
from django.db import IntegrityError, connection, transaction

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.gateways.test import Fault, TestGateway
from chirp_dashboard.billing.models import (
    Charge,
    Dunning,
    DunningStep,
    Invoice,
    Payment,
    Standing,
)
from chirp_dashboard.billing.models import dunning as dunning_module
from chirp_dashboard.billing.models.books import PurchasesStopped
from chirp_dashboard.billing.models.dunning import DunningRefused
from chirp_dashboard.billing.models.rungs import RUNGS, Act
from chirp_dashboard.organizations.models import Activity, Mail, Organization

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run

DUE = date(2026, 12, 31)
ONE_DAY, HALF_A_DAY = timedelta(days=1), timedelta(hours=12)
LADDER = [(0, "2026-12-31"), (1, "2027-01-01"), (2, "2027-01-03"), (3, "2027-01-05"),
          (4, "2027-01-07"), (5, "2027-01-14"), (6, "2027-01-30")]  # fmt: skip


@pytest.fixture(autouse=True)
def rare_walks(monkeypatch):
    """One walk a day is as good as one a minute."""
    monkeypatch.setattr(dunning_module, "ASLEEP", ONE_DAY)


@pytest.fixture
def owner(owner):
    """Somebody who hears of unpaid rent."""
    return owner


@pytest.fixture
def unpaid(rental, owner):
    """An invoice of 2.27, issued on 1 December, due on 31 December."""
    run(DECEMBER)
    return Invoice.objects.get()


def deliver_mail(at):
    Mail.objects.filter(sent_at=None).update(sent_at=at)


def walk(at, *, mail=True):
    """One walk, and the mail server after it."""
    Dunning.objects.walk(at=at)
    if mail:
        deliver_mail(at)


def walks(start, end, *, every=ONE_DAY, **options):
    """A walk at noon of every day from `start` to `end`, or more of them."""
    at = noon(start)
    while at <= noon(end):
        walk(at, **options)
        at += every


def taken(dunning=None):
    steps = DunningStep.objects.order_by("dunning", "rung")
    if dunning:
        steps = steps.filter(dunning=dunning)
    return [(step.rung, str(step.taken_on)) for step in steps]


def pay(organization, amount, *, on, received_on=None, reference="transfer"):
    return Payment.objects.record_transfer(
        organization, amount=amount, received_on=received_on or on, reference=reference,
        by=OPERATOR, at=noon(on),
    )  # fmt: skip


def flags():
    standing = Standing.objects.get()
    return bool(standing.purchases_stopped_at), bool(standing.suspended_at)


# The ladder -----------------------------------------------------------------------------------


def test_rungs_are_those_of_the_design():
    assert [(rung.day, rung.act) for rung in RUNGS] == [
        (0, Act.REMIND), (1, Act.REMIND), (3, Act.REMIND), (5, Act.REMIND),
        (7, Act.STOP_PURCHASES), (14, Act.SUSPEND), (30, Act.RELEASE),
    ]  # fmt: skip


def test_every_rung_is_taken_on_its_day(unpaid):
    walks(date(2026, 12, 20), date(2027, 2, 10))
    assert taken() == LADDER


def test_nothing_happens_before_it_is_due(unpaid):
    walks(DECEMBER, DUE - ONE_DAY)
    assert not Dunning.objects.exists()


def test_nothing_happens_to_who_pays(unpaid, organization):
    pay(organization, 227, on=DUE - ONE_DAY)
    walks(DUE, date(2027, 2, 10))
    assert not Dunning.objects.exists()


def test_purchases_stop_after_a_week_and_numbers_are_suspended_after_two(unpaid):
    walks(DUE, date(2027, 1, 6))
    assert flags() == (False, False)
    walks(date(2027, 1, 7), date(2027, 1, 13))
    assert flags() == (True, False)
    walks(date(2027, 1, 14), date(2027, 1, 14))
    assert flags() == (True, True)


def test_stopped_purchase_is_refused_with_the_reason(unpaid, organization):
    walks(DUE, date(2027, 1, 7))
    with transaction.atomic():
        standing = Standing.lock(organization)
        with pytest.raises(PurchasesStopped, match=r"since 7 Jan 2027, because rent is unpaid"):
            standing.check_purchase(0, on=date(2027, 1, 7))


def test_every_rung_is_announced_with_all_later_dates(unpaid):
    walks(DUE, date(2027, 2, 1))
    mails = Mail.objects.filter(kind__startswith="dunning").order_by("id")
    assert [mail.kind for mail in mails] == [rung.mail for rung in RUNGS]
    assert mails[0].to == ["owner@northwind.example"]
    for words in (
        "$2.27 is due today", "northwind 000001", "Invoice 000001, due 31 Dec 2026: $2.27",
        "7 Jan 2027: Purchases stop.", "14 Jan 2027: Numbers and applications are suspended.",
        "30 Jan 2027: Numbers are released.",
    ):  # fmt: skip
        assert words in f"{mails[0].subject}\n{mails[0].text}"
    assert "overdue since 31 Dec 2026" in mails[1].subject
    assert "Purchases stop" not in mails[4].text
    assert "30 Jan 2027: Numbers are released." in mails[5].text
    assert "not before" not in mails[6].text


def test_schedule_shows_what_was_taken_and_what_comes(unpaid):
    walks(DUE, date(2027, 1, 2))
    dunning = Dunning.objects.get()
    shown = [(str(step.on), step.is_taken, step.is_next) for step in dunning.schedule()]
    assert [day for day, *_ in shown] == [day for _, day in LADDER]
    assert [is_taken for _, is_taken, _ in shown] == [True, True] + [False] * 5
    assert [is_next for *_, is_next in shown] == [False, False, True] + [False] * 4


def test_schedule_never_promises_a_day_that_has_passed(unpaid):
    walk(noon(DUE))
    shown = Dunning.objects.get().schedule(on=date(2027, 1, 20))
    assert [str(step.on) for step in shown][:3] == ["2026-12-31", "2027-01-20", "2027-01-22"]


def test_each_step_stands_in_the_activity(unpaid):
    walks(DUE, date(2027, 2, 1))
    verbs = Activity.objects.filter(subject=unpaid.public_id).order_by("id")
    assert list(verbs.values_list("verb", flat=True)) == [
        "issued", "reminded", "reminded", "reminded", "reminded", "purchases_stopped",
        "suspension_begun", "release_begun",
    ]  # fmt: skip


def test_steps_are_kept_as_taken(unpaid):
    walk(noon(DUE))
    with pytest.raises(Exception, match="kept as written"), transaction.atomic():
        DunningStep.objects.update(rung=5)


# Never because of an outage -------------------------------------------------------------------


def test_no_step_before_the_notice_of_the_last_was_sent(unpaid):
    walks(DUE, date(2027, 3, 1), mail=False)
    assert taken() == LADDER[:1]
    deliver_mail(noon(date(2027, 3, 1)))
    walk(noon(date(2027, 3, 2)) - timedelta(minutes=1))
    assert taken() == LADDER[:1], "the interval begins when the notice has gone out"
    walk(noon(date(2027, 3, 2)))
    assert taken() == [*LADDER[:1], (1, "2027-03-02")]


def test_without_looking_at_the_mail_it_would_go_on(unpaid, monkeypatch):
    monkeypatch.setattr(Dunning, "_was_announced", lambda self, *, by: True)
    walks(DUE, date(2027, 1, 31), mail=False)
    assert len(taken()) == 7


def test_without_the_watch_an_outage_would_count(unpaid, monkeypatch):
    monkeypatch.setattr(dunning_module, "ASLEEP", timedelta(days=1000))
    walks(DUE, date(2027, 1, 8))
    walks(date(2027, 2, 22), date(2027, 2, 22))
    assert flags() == (True, True)


@pytest.mark.parametrize(
    ("outage", "expected"),
    [
        (timedelta(minutes=11), "2027-01-14"),
        (timedelta(days=1), "2027-01-15"),
        (timedelta(days=45), "2027-02-28"),
        (timedelta(days=395), "2028-02-13"),
    ],
)
def test_worker_that_was_down_shifts_every_later_date(unpaid, monkeypatch, outage, expected):
    monkeypatch.setattr(dunning_module, "ASLEEP", HALF_A_DAY)
    walks(DUE, date(2027, 1, 8), every=HALF_A_DAY)
    at = noon(date(2027, 1, 8)) + outage
    while not flags()[1]:
        walk(at)
        at += HALF_A_DAY
    assert taken()[-1] == (5, expected)
    while len(taken()) < 7:
        walk(at)
        at += HALF_A_DAY
    assert taken()[-1] == (6, str(date.fromisoformat(expected) + timedelta(days=16)))


def test_worker_down_from_the_start_gives_the_whole_ladder_afterwards(unpaid):
    walks(date(2027, 3, 1), date(2027, 4, 10))
    assert taken() == [
        (0, "2027-03-01"), (1, "2027-03-02"), (2, "2027-03-04"), (3, "2027-03-06"),
        (4, "2027-03-08"), (5, "2027-03-15"), (6, "2027-03-31"),
    ]  # fmt: skip


@pytest.mark.parametrize("jump", [timedelta(days=1), timedelta(days=-1), timedelta(days=40)])
def test_clock_that_jumps_makes_nothing_come_early(unpaid, jump):
    walks(DUE, date(2027, 1, 8))
    wrong = noon(date(2027, 1, 8)) + jump
    walk(wrong)
    walk(wrong + ONE_DAY)
    walks(date(2027, 1, 9), date(2027, 1, 13))
    assert flags() == (True, False)
    walks(date(2027, 1, 14), date(2027, 1, 16))
    assert flags() == (True, True)


@pytest.mark.parametrize("jump", [timedelta(hours=1), timedelta(hours=-1)])
def test_clock_an_hour_off_makes_nothing_come_early(unpaid, monkeypatch, jump):
    monkeypatch.setattr(dunning_module, "ASLEEP", timedelta(minutes=30))
    start = noon(DUE)
    walk(start)
    passed = timedelta()
    while len(taken()) < 2 and passed < timedelta(days=3):
        passed += timedelta(minutes=30)
        is_wrong = timedelta(hours=10) <= passed < timedelta(hours=12)
        walk(start + passed + (jump if is_wrong else timedelta()))
    assert ONE_DAY <= passed <= ONE_DAY + timedelta(hours=4)


def test_two_steps_are_never_taken_on_one_day(unpaid):
    for hour in range(0, 24 * 16, 12):
        walk(noon(DUE) + timedelta(hours=hour))
        walk(noon(DUE) + timedelta(hours=hour))
    days = [day for _, day in taken()]
    assert len(days) == len(set(days)) == 6


@pytest.mark.parametrize("zone", ["Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_days_are_those_of_the_organization(organization, owner, zone):
    organization.time_zone = zone
    organization.save()
    rent(organization, on=date(2026, 11, 23))
    run(DECEMBER)
    due_on = Invoice.objects.get().due_on
    at = datetime(2026, 12, 28, tzinfo=UTC)
    while len(taken()) < 7:
        before = len(taken())
        walk(at)
        if len(taken()) > before:
            today = organization.local_date(at)
            assert taken()[-1] == (before, str(due_on + timedelta(days=RUNGS[before].day)))
            assert str(today) == taken()[-1][1]
        at += timedelta(hours=12)


def test_an_hour_gained_in_autumn_makes_nothing_come_early(organization, owner):
    rent(organization, on=date(2026, 9, 20))
    run(date(2026, 10, 1))  # due on 31 October; the clocks go back on 1 November
    at = datetime(2026, 10, 31, 4, 10, tzinfo=UTC)
    while len(taken()) < 3:
        walk(at)
        at += timedelta(hours=1)
    assert taken() == [(0, "2026-10-31"), (1, "2026-11-01"), (2, "2026-11-03")]


# The end --------------------------------------------------------------------------------------


@pytest.mark.parametrize("rungs", range(1, 8))
def test_paid_after_any_step_ends_it_and_restores_everything(unpaid, organization, rungs):
    at = noon(DUE)
    while len(taken()) < rungs:
        walk(at)
        at += ONE_DAY
    pay(organization, 227, on=organization.local_date(at))
    walk(at)
    dunning = Dunning.objects.get()
    assert (dunning.ended_because, dunning.next_on) == ("paid", None)
    assert flags() == (False, False)
    assert Mail.objects.get(kind="dunning_ended").subject == "Thank you: what was overdue is paid"
    walks(organization.local_date(at), organization.local_date(at) + timedelta(days=30))
    assert len(taken()) == rungs


def test_part_payment_changes_nothing_but_the_sum(unpaid, organization):
    walks(DUE, date(2027, 1, 2))
    pay(organization, 200, on=date(2027, 1, 2))
    walks(date(2027, 1, 3), date(2027, 2, 1))
    assert taken() == LADDER
    assert Mail.objects.filter(kind="dunning_suspended").get().subject.endswith("$0.27 is paid")


def test_credit_that_covers_it_ends_it(unpaid, organization):
    walks(DUE, date(2027, 1, 10))
    Charge.objects.issue_credit(
        organization, amount=227, reason="Goodwill", by=OPERATOR, at=noon(date(2027, 1, 10))
    )
    walks(date(2027, 1, 11), date(2027, 1, 11))
    assert Dunning.objects.get().ended_because == "paid"
    assert flags() == (False, False)


def test_credit_counts_with_the_tax_it_will_give_back(organization, owner, rental):
    organization.tax_rate = 10
    organization.save()
    run(DECEMBER)
    Charge.objects.issue_credit(
        organization, amount=227, reason="Goodwill", by=OPERATOR, at=noon(DUE - ONE_DAY)
    )
    walks(DUE, date(2027, 1, 20))
    assert not Dunning.objects.exists()


def test_transfer_recorded_late_restores_at_once(unpaid, organization):
    walks(DUE, date(2027, 1, 20))
    pay(organization, 227, on=date(2027, 1, 20), received_on=date(2027, 1, 4))
    walk(noon(date(2027, 1, 20)))
    assert flags() == (False, False)
    assert Dunning.objects.get().ended_because == "paid"


def test_new_invoice_on_the_ladder_is_asked_for_too(unpaid):
    run(JANUARY)
    walks(DUE, date(2027, 1, 31))
    assert taken() == LADDER
    released = Mail.objects.get(kind="dunning_released")
    assert "$2.27" in released.subject
    assert len(Dunning.objects.all()) == 1


def test_younger_invoice_begins_a_ladder_of_its_own(unpaid, organization):
    run(JANUARY)
    walks(DUE, date(2027, 1, 8))
    Dunning.objects.get().hold(
        date(2027, 2, 5), "They asked for time", by=OPERATOR, at=noon(date(2027, 1, 8))
    )
    walks(date(2027, 1, 9), date(2027, 2, 3))
    pay(organization, 227, on=date(2027, 2, 3))
    walks(date(2027, 2, 4), date(2027, 2, 5))
    first, second = Dunning.objects.order_by("id")
    assert (first.ended_because, second.due_on) == ("paid", date(2027, 1, 31))
    assert taken(second) == [(0, "2027-02-05")]
    assert flags() == (False, False)
    assert "Something else is due: $1.00" in Mail.objects.get(kind="dunning_ended").text


# Operators ------------------------------------------------------------------------------------


def test_held_ladder_stands_still_and_loses_no_time(unpaid):
    walks(DUE, date(2027, 1, 8))
    dunning = Dunning.objects.get()
    dunning.hold(date(2027, 1, 20), "Bank is slow", by=OPERATOR, at=noon(date(2027, 1, 8)))
    assert dunning.next_on == date(2027, 1, 26)
    walks(date(2027, 1, 9), date(2027, 1, 25))
    assert taken() == LADDER[:5]
    walk(noon(date(2027, 1, 26)))
    assert taken()[5] == (5, "2027-01-26")


def test_resumed_ladder_goes_on_where_it_was_held(unpaid):
    walks(DUE, date(2027, 1, 8))
    dunning = Dunning.objects.get()
    dunning.hold(date(2027, 3, 1), "Bank is slow", by=OPERATOR, at=noon(date(2027, 1, 8)))
    walks(date(2027, 1, 9), date(2027, 1, 18))
    dunning.resume(by=OPERATOR, at=noon(date(2027, 1, 18)))
    walks(date(2027, 1, 19), date(2027, 1, 24))
    assert taken() == LADDER[:5]
    walks(date(2027, 1, 25), date(2027, 1, 25))
    assert taken()[-1] == (5, "2027-01-25")
    verbs = Activity.objects.filter(verb__in=["dunning_held", "dunning_resumed"]).order_by("id")
    assert [row.verb for row in verbs] == ["dunning_held", "dunning_resumed"]
    assert verbs[0].after == {"until": "2027-03-01", "reason": "Bank is slow"}


def test_ended_by_operator_stays_ended_for_what_was_due(unpaid, organization):
    run(JANUARY)
    walks(DUE, date(2027, 1, 15))
    Dunning.objects.get().end_by_operator(
        "Settled by hand", by=OPERATOR, at=noon(date(2027, 1, 15))
    )
    assert flags() == (False, False)
    walks(date(2027, 1, 16), date(2027, 1, 30))
    assert Dunning.objects.get().ended_because == "operator"
    walks(date(2027, 1, 31), date(2027, 1, 31))
    assert Dunning.objects.open().get().due_on == date(2027, 1, 31), "what fell due afterwards"
    ended = Activity.objects.get(verb="dunning_ended")
    assert ended.after == {"because": "operator", "reason": "Settled by hand"}


def test_operator_is_refused_what_makes_no_sense(unpaid):
    walk(noon(DUE))
    dunning, facts = Dunning.objects.get(), {"by": OPERATOR, "at": noon(DUE)}
    with pytest.raises(DunningRefused, match="31 Dec 2026 there"):
        dunning.hold(DUE, "Later", **facts)
    with pytest.raises(DunningRefused, match="Write why"):
        dunning.hold(JANUARY, "  ", **facts)
    with pytest.raises(DunningRefused, match="at most 200"):
        dunning.end_by_operator("x" * 201, **facts)
    with pytest.raises(DunningRefused, match="not held"):
        dunning.resume(**facts)
    dunning.end_by_operator("Enough", **facts)
    with pytest.raises(DunningRefused, match="ended already"):
        dunning.end_by_operator("Enough", **facts)


# Cards ----------------------------------------------------------------------------------------


@pytest.fixture
def card(unpaid, organization):
    """The organization pays by a card that the `test` gateway declines."""
    organization.gateway = "test"
    organization.save()
    with TestGateway.misbehaving(collect=[Fault.DECLINE] * 20):
        yield


def collect(at):
    Payment.objects.collect_due(at=at)
    Payment.objects.advance_due(at=at)


def card_walks(start, end):
    at = noon(start)
    while at <= noon(end):
        collect(at)
        walk(at)
        collect(at)
        walk(at)
        at += ONE_DAY


def test_declined_card_is_tried_again_before_every_step(card):
    card_walks(DUE, date(2027, 2, 3))
    assert [rung for rung, _ in taken()] == [0, 1, 2, 3, 4, 5, 6]
    assert Payment.objects.filter(state="declined").count() == 7
    for step in DunningStep.objects.all():
        declined = Payment.objects.filter(events__to_state="declined", events__at__lte=step.at)
        assert declined.count() == step.rung + 1
    assert "was declined" in Mail.objects.filter(kind="dunning_reminder").first().text


def test_ladder_does_not_begin_before_a_definite_no(unpaid, organization):
    organization.gateway = "test"
    organization.save()
    silent = [Fault.TIME_OUT] * 20
    with TestGateway.misbehaving(collect=silent, look_up=list(silent)):
        card_walks(DUE, date(2027, 1, 20))
    assert not Dunning.objects.exists()


def test_silent_gateway_stops_the_ladder(card):
    card_walks(DUE, date(2027, 1, 8))
    assert [rung for rung, _ in taken()] == [0, 1, 2, 3, 4]
    silent = [Fault.TIME_OUT] * 200
    with TestGateway.misbehaving(collect=silent, look_up=list(silent)):
        card_walks(date(2027, 1, 9), date(2027, 3, 1))
    assert flags() == (True, False)


def test_gateway_that_is_out_for_somebody_else_stops_it_too(
    unpaid, organization, rival, monkeypatch
):
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    organization.gateway = "test"
    organization.save()
    walks(DUE, date(2027, 1, 8))
    assert taken() == LADDER[:5], "there is no card to wait for"
    rent(rival, on=date(2026, 11, 23))
    other = Payment.objects.create(
        organization=rival, gateway="test", reference="theirs", amount=100, currency="USD",
        next_look_at=noon(date(2027, 1, 9)),
    )  # fmt: skip
    other.move(Payment.State.UNKNOWN, at=noon(date(2027, 1, 8)), detail="sent")
    walks(date(2027, 1, 9), date(2027, 1, 25))
    assert taken() == LADDER[:5]
    other.move(Payment.State.DECLINED, at=noon(date(2027, 1, 25)))
    walks(date(2027, 1, 26), date(2027, 1, 31))
    assert taken() == LADDER[:5], "the time it was out does not count"
    walks(date(2027, 2, 1), date(2027, 2, 2))
    assert len(taken()) == 6


@pytest.fixture
def on_day_7(unpaid, organization, monkeypatch):
    """Northwind has no card at a gateway that others use, too; its purchases were stopped on 8 January."""
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    organization.gateway = "test"
    organization.save()
    walks(DUE, date(2027, 1, 8))
    return organization


def unanswered(organization, *, since, look_at=None):
    """A payment of `organization` that was sent and about which nothing is known."""
    payment = Payment.objects.create(
        organization=organization, gateway="test", reference=f"theirs-{Payment.objects.count()}",
        amount=100, currency="USD",
    )  # fmt: skip
    payment.move(Payment.State.UNKNOWN, at=noon(since), detail="sent", next_look_at=look_at)
    for hours in range(1, 4):
        payment.events.create(
            from_state="unknown", to_state="unknown", at=noon(since) + timedelta(hours=hours)
        )
    return payment


def reaches_the_next_rung():
    walks(date(2027, 1, 9), date(2027, 1, 15))
    return len(taken()) == 6


def test_one_payment_that_is_stuck_holds_its_own_organization_only(on_day_7, rival):
    unanswered(rival, since=date(2027, 1, 8))
    assert reaches_the_next_rung()


def test_its_own_organization_waits_for_the_stuck_one(on_day_7):
    stuck = Payment.objects.create(
        organization=on_day_7, gateway="test", reference="ours", amount=100, currency="USD",
        invoice=Invoice.objects.first(),
    )  # fmt: skip
    stuck.move(Payment.State.UNKNOWN, at=noon(date(2027, 1, 8)), detail="sent")
    assert not reaches_the_next_rung()


def test_silence_about_one_while_others_are_answered_is_no_outage(on_day_7, rival):
    unanswered(rival, since=date(2027, 1, 8), look_at=noon(date(2027, 2, 1)))
    answered = unanswered(rival, since=date(2027, 1, 8))
    answered.move(Payment.State.DECLINED, at=noon(date(2027, 1, 9)))
    assert reaches_the_next_rung()


def test_silence_that_begins_after_an_answer_is_an_outage(on_day_7, rival):
    answered = unanswered(rival, since=date(2027, 1, 7))
    answered.move(Payment.State.DECLINED, at=noon(date(2027, 1, 7)))
    unanswered(rival, since=date(2027, 1, 8), look_at=noon(date(2027, 2, 1)))
    assert not reaches_the_next_rung()


def test_silence_about_two_organizations_is_an_outage_even_when_given_up(on_day_7, rival):
    third = Organization.objects.create(name="Third", slug="third", gateway="test")
    for each in (rival, third):
        unanswered(each, since=date(2027, 1, 8))
    assert not reaches_the_next_rung()


def test_attempt_that_succeeds_ends_it(card):
    card_walks(DUE, date(2027, 1, 8))
    with TestGateway.misbehaving():
        card_walks(date(2027, 1, 9), date(2027, 1, 16))
    assert Dunning.objects.get().ended_because == "paid"
    assert flags() == (False, False)


def test_card_that_has_to_be_confirmed_does_not_stop_the_ladder(unpaid, organization):
    organization.gateway = "test"
    organization.save()
    with TestGateway.misbehaving(collect=[Fault.ACTION] * 40):
        card_walks(DUE, date(2027, 3, 1))
    assert [rung for rung, _ in taken()] == [0, 1, 2, 3, 4, 5, 6]


def test_sum_below_what_the_gateway_collects_is_let_be(unpaid, organization, monkeypatch):
    monkeypatch.setattr(TestGateway, "minimum", lambda self, currency: 228)
    organization.gateway = "test"
    organization.save()
    card_walks(DUE, date(2027, 2, 3))
    assert not Dunning.objects.exists()


def test_moved_from_transfer_to_card_the_card_is_tried_before_the_next_step(unpaid, organization):
    walks(DUE, date(2027, 1, 8))
    organization.gateway = "test"
    organization.save()
    with TestGateway.misbehaving(collect=[Fault.DECLINE] * 20):
        card_walks(date(2027, 1, 9), date(2027, 1, 15))
        assert Payment.objects.filter(state="declined").exists()
        assert taken()[:5] == LADDER[:5]
        assert flags() == (True, True)


# Two at once, and killed ----------------------------------------------------------------------


def test_second_walk_beside_the_first_takes_nothing(unpaid, monkeypatch):
    """Both have read the same ladder; the second gets the lock after the first is done."""
    walks(DUE, date(2027, 1, 6))
    dunning, beside = Dunning.objects.get(), Dunning.objects.get()
    at = noon(date(2027, 1, 7))
    assert dunning.advance(at=at) + beside.advance(at=at) == 1
    assert taken() == LADDER[:5]


def test_without_the_lock_the_second_walk_would_take_it_too(unpaid, monkeypatch):
    walks(DUE, date(2027, 1, 6))
    dunning, beside = Dunning.objects.get(), Dunning.objects.get()
    monkeypatch.setattr(Dunning, "_lock", lambda self, standing: None)
    at = noon(date(2027, 1, 7))
    assert dunning.advance(at=at) == 1
    with pytest.raises((IntegrityError, AttributeError)), transaction.atomic():
        beside.advance(at=at)


class Killed(BaseException):
    pass


class KillAt:
    def __init__(self, number):
        self.number, self.seen = number, 0

    def __call__(self, execute, sql, parameters, many, context):
        self.seen += 1
        if self.seen == self.number:
            raise Killed
        return execute(sql, parameters, many, context)


@pytest.mark.django_db(transaction=True)
def test_walk_killed_before_any_statement_takes_the_step_once(unpaid):
    walks(DUE, date(2027, 1, 6))
    at, number = noon(date(2027, 1, 7)), 0
    while True:
        number += 1
        try:
            with connection.execute_wrapper(KillAt(number)):
                Dunning.objects.walk(at=at)
            break
        except Killed:
            connection.close()
            assert len(taken()) == 4
            assert flags() == (False, False)
            assert not Mail.objects.filter(kind="dunning_purchases_stop").exists()
    assert number > 10
    assert taken() == LADDER[:5]
    assert flags() == (True, False)
    assert Mail.objects.filter(kind="dunning_purchases_stop").count() == 1


def test_sweep_walks(unpaid):
    from chirp_dashboard.billing import tasks

    with time_machine.travel(noon(DUE), tick=False):
        tasks.walk_dunning(timestamp=0)
    assert taken() == LADDER[:1]


def test_one_organization_that_fails_keeps_no_other_waiting(unpaid, rival, monkeypatch):
    rent(rival, on=date(2026, 11, 23))
    run(DECEMBER)
    rival.gateway = "nowhere"
    rival.save()
    for days in range(2):
        with pytest.raises(ExceptionGroup, match="could not be dunned"):
            Dunning.objects.walk(at=noon(DUE) + days * ONE_DAY)
        deliver_mail(noon(DUE))
    assert taken() == LADDER[:2]
    assert GATEWAYS.keys() >= {"account", "test"}
