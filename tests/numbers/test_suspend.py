"""What numbers and applications do when rent is unpaid, and when it is paid."""

import re
from datetime import UTC, date, datetime, timedelta
from html import unescape

import pytest
import time_machine
from django.db import connection, transaction
from django.utils import timezone

from chirp_dashboard.billing.models import Charge, Dunning, Invoice, Payment, Rental, Standing
from chirp_dashboard.billing.models import dunning as dunning_module
from chirp_dashboard.billing.models.books import PurchasesStopped
from chirp_dashboard.billing.models.rungs import LAST
from chirp_dashboard.numbers import tasks
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import (
    Assignment,
    Hold,
    InventoryNumber,
    Order,
    PhoneNumber,
    Totals,
    suspending,
)
from chirp_dashboard.numbers.models.assigning import AssignmentRefused
from chirp_dashboard.numbers.models.releasing import ReleaseRefused
from chirp_dashboard.organizations.models import Activity, Actor, Application, Mail

from .conftest import NOON, quoted
from .owned import own, own_many, put

OPERATOR = Actor.system("tests")
ONE_DAY = timedelta(days=1)
SUSPENDED, RELEASED = date(2027, 1, 14), date(2027, 1, 30)


@pytest.fixture(autouse=True)
def rare_walks(monkeypatch):
    """One walk a day is as good as one a minute."""
    monkeypatch.setattr(dunning_module, "ASLEEP", ONE_DAY)


def noon(day):
    return datetime.combine(day, NOON.timetz())


def live_through(start, end):
    """Every noon from `start` to `end`: the run, the walk, the mail server, the numbers."""
    at = noon(start)
    while at <= noon(end):
        Rental.objects.charge_due(at=at)
        Dunning.objects.walk(at=at)
        Mail.objects.filter(sent_at=None).update(sent_at=at)
        follow(at)
        at += ONE_DAY


def follow(at):
    return PhoneNumber.objects.follow_standing(at=at)


def suspend(organization, *, at):
    """What the ladder writes on day 14."""
    with transaction.atomic():
        standing = Standing.lock(organization)
        standing.purchases_stopped_at = standing.suspended_at = at
        standing.save()


def restore(organization):
    with transaction.atomic():
        standing = Standing.lock(organization)
        standing.purchases_stopped_at = standing.suspended_at = None
        standing.save()


def pay(organization, *, on):
    due = sum(invoice.due for invoice in Invoice.objects.unpaid())
    Payment.objects.record_transfer(
        organization, amount=due, received_on=on, reference="transfer", by=OPERATOR, at=noon(on)
    )


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def states():
    return set(PhoneNumber.objects.values_list("state", "suspended_on"))


def facts():
    """Every column of every number, assignment, rental, application and of the totals."""
    models = (PhoneNumber, Assignment, Rental, Application, Totals)
    return [list(model.objects.order_by("pk").values()) for model in models]


@pytest.fixture
def unpaid(purchase, stock, storefront, owner):
    """Three numbers purchased on 23 November; the first is assigned, the second locked."""
    first, second, _ = numbers = purchase(*stock[:3])
    first.assign(storefront, by=owner, at=NOON)
    second.set_release_lock(True, by=owner, at=NOON)
    live_through(date(2026, 12, 1), date(2026, 12, 1))
    return numbers


# Suspended and restored -----------------------------------------------------------------------


def test_numbers_and_applications_are_suspended_after_two_weeks(unpaid, storefront):
    live_through(date(2026, 12, 31), date(2027, 1, 13))
    assert states() == {("active", None)}
    live_through(SUSPENDED, SUSPENDED)
    assert states() == {("suspended", SUSPENDED)}
    assert Application.objects.get().billing_paused_at == noon(SUSPENDED)
    rows = Activity.objects.filter(verb="suspended").order_by("subject")
    assert sorted(row.subject for row in rows) == sorted(number.public_id for number in unpaid)
    assert rows[0].after == {"state": "suspended", "suspended_on": "2027-01-14"}
    assert {row.subject_name for row in rows} == {str(number) for number in unpaid}
    assert check_books(at=noon(SUSPENDED)) == []


def test_rent_goes_on_while_suspended(unpaid):
    live_through(date(2026, 12, 31), date(2027, 1, 20))
    before = Charge.objects.count()
    Rental.objects.charge_due(at=noon(date(2027, 2, 1)))
    assert Charge.objects.count() == before + 3


def test_payment_restores_everything_as_it_was(unpaid, organization):
    before = facts()
    live_through(date(2026, 12, 31), date(2027, 1, 13))
    live_through(SUSPENDED, date(2027, 1, 15))
    assert facts() != before
    pay(organization, on=date(2027, 1, 15))
    Dunning.objects.walk(at=noon(date(2027, 1, 15)))
    assert follow(noon(date(2027, 1, 15))) == 3
    assert facts() == before
    assert Activity.objects.filter(verb="restored").count() == 3
    assert Activity.objects.filter(verb="resumed").count() == 1
    assert follow(noon(date(2027, 1, 15))) == 0


def test_sweep_repeated_changes_nothing(organization):
    own_many(organization, 7)
    suspend(organization, at=NOON)
    assert (follow(NOON), follow(NOON)) == (7, 0)
    assert Activity.objects.filter(verb="suspended").count() == 7


def test_number_delivered_while_suspended_is_suspended_too(organization):
    own_many(organization, 2)
    suspend(organization, at=NOON)
    follow(NOON)
    own(organization, "+12125559999", purchased_at=NOON + ONE_DAY)
    assert follow(NOON + ONE_DAY) == 1
    assert states() == {("suspended", date(2026, 11, 23))}


def test_application_created_while_suspended_is_suspended_too(organization, owner):
    suspend(organization, at=NOON)
    follow(NOON)
    facts = {"name": "New", "slug": "new", "by": owner, "at": NOON}
    Application.objects.add(organization, kind=Application.Kind.LIVE, **facts)
    follow(NOON)
    assert Application.objects.get().is_paused


def test_test_numbers_and_test_applications_cost_nothing_and_stay(organization):
    own(organization, "+15005550001", is_test=True, no_fee_reason="Test number")
    Application.objects.create(organization=organization, name="Sandbox", slug="s", kind="test")
    suspend(organization, at=NOON)
    assert follow(NOON) == 0
    assert not Application.objects.get().is_paused


def test_only_what_the_ladder_suspended_is_restored(organization):
    own(organization, "+12125550001", state="suspended", suspended_on=date(2026, 10, 1))
    own(organization, "+12125550002")
    suspend(organization, at=NOON)
    follow(NOON)
    restore(organization)
    assert follow(NOON) == 1
    assert states() == {("suspended", date(2026, 10, 1)), ("active", None)}


def test_number_being_released_is_suspended_and_released_on_its_day(unpaid, owner):
    unpaid[0].release(when="period_end", by=owner, at=noon(date(2027, 1, 10)))
    live_through(date(2026, 12, 31), SUSPENDED)
    assert PhoneNumber.objects.get(pk=unpaid[0].pk).is_suspended
    PhoneNumber.objects.complete_releases(at=noon(date(2027, 2, 1)))
    assert PhoneNumber.objects.get(pk=unpaid[0].pk).is_released


def test_suspended_number_takes_no_application_and_loses_one(unpaid, storefront, alerts, owner):
    live_through(date(2026, 12, 31), SUSPENDED)
    number = PhoneNumber.objects.get(pk=unpaid[0].pk)
    with pytest.raises(AssignmentRefused, match="suspended"):
        number.assign(alerts, by=owner, at=noon(SUSPENDED))
    number.remove(storefront, by=owner, at=noon(SUSPENDED))
    assert not number.is_assigned


def test_suspended_application_takes_no_number(organization, storefront, owner):
    number = own(organization, "+12125550001")[0]
    Application.objects.update(billing_paused_at=NOON)
    with pytest.raises(
        AssignmentRefused, match="Storefront is suspended until what is due is paid"
    ):
        number.assign(storefront, by=owner, at=NOON)


def test_nothing_is_purchased_while_purchases_are_stopped(unpaid, stock, organization, owner):
    live_through(date(2026, 12, 31), date(2027, 1, 7))
    at = noon(date(2027, 1, 7))
    with pytest.raises(PurchasesStopped, match="Purchases are stopped since 7 Jan 2027"):
        Order.objects.place(
            organization, person=owner, numbers=[stock[4].key], idempotency_key="late", at=at,
            expected_total=sum(quoted(organization, [stock[4]], at=at)),
        )  # fmt: skip
    assert Order.objects.count() == 1


def test_quote_says_that_purchases_are_stopped_and_keeps_what_was_chosen(
    clock, unpaid, stock, organization, owner_client, owner
):
    live_through(date(2026, 12, 31), date(2027, 1, 7))
    Hold.objects.hold(organization, owner, [stock[4].key], at=timezone.now())
    path = "/o/northwind/numbers/purchase/quote/"
    page = owner_client.get(path).content.decode()
    total = re.search(r'name="expected_total" value="(\d+)"', page)[1]
    key = re.search(r'name="idempotency_key" value="([^"]+)"', page)[1]
    form = {"expected_total": total, "idempotency_key": key, "number": f"US:{stock[4].number}"}
    response = owner_client.post(path, form)
    assert response.status_code == 409
    assert "Purchases are stopped since 7 Jan 2027" in text_of(response)
    assert stock[4].display in text_of(response)
    assert Order.objects.count() == 1


# Released and brought back --------------------------------------------------------------------


@pytest.fixture
def released(unpaid):
    live_through(date(2026, 12, 31), RELEASED)
    return PhoneNumber.objects.order_by("pk")


def test_numbers_are_released_after_thirty_days_locked_ones_too(released, organization):
    assert {number.state for number in released} == {"released"}
    assert {number.released_at for number in released} == {noon(RELEASED)}
    assert {rental.ends_on for rental in Rental.objects.all()} == {RELEASED}
    assert Assignment.objects.get().ended_because == "released"
    totals = Totals.objects.get()
    assert (totals.numbers, totals.monthly) == (0, 0)
    stock = InventoryNumber.objects.exclude(not_for_sale_until=None)
    assert {row.not_for_sale_until for row in stock} == {noon(RELEASED) + timedelta(days=44)}
    assert check_books(at=noon(RELEASED)) == []
    live_through(RELEASED + ONE_DAY, date(2027, 3, 2))
    assert Charge.objects.filter(period_start__gt=RELEASED).count() == 0


def test_released_numbers_come_back_once_it_is_paid(released, organization, owner):
    at = noon(date(2027, 2, 3))
    number = released[0]
    with pytest.raises(PurchasesStopped, match="rent is unpaid"):
        number.undo_release(by=owner, at=at)
    pay(organization, on=date(2027, 2, 3))
    Dunning.objects.walk(at=at)
    follow(at)
    number.undo_release(by=owner, at=at)
    number.refresh_from_db()
    assert (number.state, number.suspended_on, number.assignment_count) == ("active", None, 1)
    assert released[1].release_locked, "and its lock is as it was"
    assert not Application.objects.get().is_paused
    assert check_books(at=at) == []


def test_released_numbers_are_gone_after_fourteen_days(released, organization, owner):
    pay(organization, on=date(2027, 2, 14))
    Dunning.objects.walk(at=noon(date(2027, 2, 14)))
    with pytest.raises(ReleaseRefused, match="more than 14 days ago"):
        released[0].undo_release(by=owner, at=noon(date(2027, 2, 14)))


def test_undo_while_everything_is_suspended_brings_it_back_suspended(number, organization, owner):
    number.release(when="now", by=owner, at=NOON)
    with transaction.atomic():
        standing = Standing.lock(organization)
        standing.suspended_at = NOON
        standing.save()
    number.undo_release(by=owner, at=NOON)
    assert (number.state, number.suspended_on) == ("suspended", date(2026, 11, 23))


def test_number_released_while_suspended_comes_back_active_once_paid(unpaid, organization, owner):
    live_through(date(2026, 12, 31), SUSPENDED)
    number = PhoneNumber.objects.get(pk=unpaid[2].pk)
    number.release(when="now", by=owner, at=noon(SUSPENDED))
    pay(organization, on=SUSPENDED)
    Dunning.objects.walk(at=noon(SUSPENDED))
    follow(noon(SUSPENDED))
    number.undo_release(by=owner, at=noon(SUSPENDED))
    assert (number.state, number.suspended_on) == ("active", None)
    assert {state for state, _ in states()} == {"active"}


def test_nothing_is_released_before_its_last_period_is_charged(unpaid, organization, monkeypatch):
    """The thirtieth day may be a billing date: then that day's run comes first."""
    live_through(date(2026, 12, 31), date(2027, 1, 29))
    Dunning.objects.walk(at=noon(RELEASED))
    Standing.objects.update(closed_through=date(2026, 12, 1))
    assert follow(noon(RELEASED)) == 0
    Standing.objects.update(closed_through=date(2027, 1, 1))
    assert follow(noon(RELEASED)) == 3


def test_operator_can_hold_what_is_not_released_yet(unpaid, organization):
    live_through(date(2026, 12, 31), date(2027, 1, 29))
    Rental.objects.charge_due(at=noon(RELEASED))
    Dunning.objects.walk(at=noon(RELEASED))
    dunning = Dunning.objects.get()
    dunning.hold(date(2027, 2, 3), "They call", by=OPERATOR, at=noon(RELEASED))
    assert follow(noon(RELEASED)) == 0
    dunning.resume(by=OPERATOR, at=noon(RELEASED))
    assert follow(noon(RELEASED)) == 3


def test_lease_pays_the_period_that_begins_on_the_day_it_is_released(organization, owner):
    lease = own(
        organization, "70142", number_type="shortcode", interval_months=3, rental_amount=150000
    )[0]
    Rental.objects.update(starts_on=date(2026, 9, 10))
    on = date(2026, 12, 10)
    with transaction.atomic():
        standing = Standing.lock(organization)
        standing.suspended_at = noon(on)
        standing.closed_through = date(2026, 12, 1)
        standing.save()
    invoice = Invoice.objects.create(
        number=1, organization=organization, billing_date=on, issued_on=on, due_on=on,
        currency="USD", total=100, line_count=1, created_at=noon(on),
    )  # fmt: skip
    Dunning.objects.create(
        organization=organization, invoice=invoice, due_on=on, rung=LAST, started_at=noon(on)
    )
    assert follow(noon(on)) == 2, "suspended and released"
    assert lease.rentals.get().ends_on == on
    assert Charge.objects.filter(period_start=on).count() == 1


def test_paid_in_the_middle_of_the_release_the_rest_is_kept(unpaid, organization, monkeypatch):
    monkeypatch.setattr(suspending, "BATCH", 1)
    live_through(date(2026, 12, 31), date(2027, 1, 29))
    Dunning.objects.walk(at=noon(RELEASED))
    release_batch = suspending.FollowsStanding._release_batch

    def release_then_pay(self, organization, numbers, *, at):
        done = release_batch(self, organization, numbers, at=at)
        pay(organization, on=RELEASED)
        Dunning.objects.walk(at=at)
        return done

    monkeypatch.setattr(suspending.FollowsStanding, "_release_batch", release_then_pay)
    assert follow(noon(RELEASED)) == 1
    follow(noon(RELEASED))
    assert sorted(number.state for number in PhoneNumber.objects.all()) == [
        "active", "active", "released",
    ]  # fmt: skip
    assert check_books(at=noon(RELEASED)) == []


def test_paid_before_the_sweep_came_nothing_is_released(unpaid, organization):
    live_through(date(2026, 12, 31), date(2027, 1, 29))
    Dunning.objects.walk(at=noon(RELEASED))
    Rental.objects.charge_due(at=noon(RELEASED))
    pay(organization, on=RELEASED)
    assert follow(noon(RELEASED)) == 0, "though the ladder has not come by since"


# Killed, and many -----------------------------------------------------------------------------


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


def killed_again_and_again(at):
    """Sweeps, each killed one statement later than the one before, until one comes through."""
    number = 0
    while True:
        number += 1
        try:
            with connection.execute_wrapper(KillAt(number)):
                follow(at)
            return number
        except Killed:
            connection.close()


@pytest.mark.django_db(transaction=True)
def test_sweep_killed_at_every_statement_ends_as_if_undisturbed(
    organization, storefront, monkeypatch
):
    monkeypatch.setattr(suspending, "BATCH", 2)
    put(own_many(organization, 5), storefront)
    before = facts()
    suspend(organization, at=NOON)
    assert killed_again_and_again(NOON) > 10
    assert states() == {("suspended", date(2026, 11, 23))}
    restore(organization)
    assert killed_again_and_again(NOON) > 10
    assert facts() == before
    verbs = Activity.objects.order_by("verb").values_list("verb", flat=True)
    assert list(verbs) == ["paused"] + ["restored"] * 5 + ["resumed"] + ["suspended"] * 5


@pytest.mark.django_db(transaction=True)
def test_release_killed_at_every_statement_ends_as_if_undisturbed(
    unpaid, organization, monkeypatch
):
    monkeypatch.setattr(suspending, "BATCH", 1)
    live_through(date(2026, 12, 31), date(2027, 1, 29))
    Dunning.objects.walk(at=noon(RELEASED))
    killed_again_and_again(noon(RELEASED))
    assert {state for state, _ in states()} == {"released"}
    assert Activity.objects.filter(verb="released").count() == 3
    assert Totals.objects.get().numbers == 0
    assert check_books(at=noon(RELEASED)) == []


def test_paid_in_the_middle_of_the_suspension_it_turns_back(organization, monkeypatch):
    monkeypatch.setattr(suspending, "BATCH", 2)
    own_many(organization, 6)
    suspend(organization, at=NOON)
    change = suspending.FollowsStanding._change

    def change_then_pay(organization, numbers, verb, *, at, **states):
        done = change(organization, numbers, verb, at=at, **states)
        restore(organization)
        return done

    monkeypatch.setattr(suspending.FollowsStanding, "_change", staticmethod(change_then_pay))
    assert follow(NOON) == 2
    assert follow(NOON) == 2
    assert states() == {("active", None)}
    totals = Totals.objects.get()
    assert (totals.suspended_at, totals.is_suspending) == (None, False)


def test_one_organization_that_fails_keeps_no_other_waiting(organization, rival, monkeypatch):
    own(organization, "+12125550001")
    own(rival, "+12125550002")
    suspend(organization, at=NOON)
    suspend(rival, at=NOON)
    pause = suspending.FollowsStanding._pause_applications

    def fail(here, *, at):
        if here == organization:
            raise RuntimeError
        pause(here, at=at)

    monkeypatch.setattr(suspending.FollowsStanding, "_pause_applications", staticmethod(fail))
    with pytest.raises(ExceptionGroup, match="could not follow their standing"):
        follow(NOON)
    assert PhoneNumber.objects.get(organization=rival).is_suspended


@pytest.mark.parametrize("count", [3_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_many_numbers_are_suspended_and_restored_to_the_same_rows(organization, storefront, count):
    rows = own(organization, *(f"+1{2_120_000_000 + index}" for index in range(count)))
    put(rows, storefront)
    before = facts()
    suspend(organization, at=NOON)
    assert follow(NOON) == count
    assert states() == {("suspended", date(2026, 11, 23))}
    restore(organization)
    assert follow(NOON) == count
    assert facts() == before
    assert Activity.objects.filter(verb="restored").count() == count


def test_task_follows(organization):
    own(organization, "+12125550001")
    suspend(organization, at=NOON)
    with time_machine.travel(NOON, tick=False):
        tasks.follow_standing(timestamp=0)
    assert PhoneNumber.objects.get().is_suspended


# What people see ------------------------------------------------------------------------------


@pytest.fixture
def clock():
    """Half past nine in New York on 20 January 2027."""
    with time_machine.travel(datetime(2027, 1, 20, 14, 30, tzinfo=UTC), tick=False):
        yield


@pytest.fixture
def suspended(unpaid, clock):
    live_through(date(2026, 12, 31), SUSPENDED)
    return PhoneNumber.objects.order_by("pk")


def test_list_and_tab_show_since_when(suspended, viewer_client):
    response = viewer_client.get("/o/northwind/numbers/?state=unpaid")
    assert "Unpaid 3" in text_of(response)
    assert text_of(response).count("Unpaid since 14 Jan") == 3


def test_page_of_the_number_says_that_rent_goes_on(suspended, viewer_client, owner_client):
    path = f"/o/northwind/numbers/{suspended[0].public_id}/"
    words = text_of(viewer_client.get(path))
    assert "Unpaid since 14 Jan" in words
    assert "Rent goes on meanwhile" in words
    assert "Suspended, because rent is unpaid" in words
    assert "See what is due" not in words
    assert "See what is due" in text_of(owner_client.get(path))


def test_pages_of_the_application_say_that_it_is_suspended(suspended, owner_client):
    for path in ("numbers/", "settings/"):
        words = text_of(owner_client.get(f"/o/northwind/apps/storefront/{path}"))
        assert "This application is suspended: rent is unpaid" in words
    assert "Assign Number" not in text_of(owner_client.get("/o/northwind/apps/storefront/numbers/"))
    assert "Storefront storefront Suspended" in text_of(owner_client.get("/o/northwind/apps/"))


def test_overview_reads_as_sentences(suspended, owner_client):
    words = text_of(owner_client.get("/o/northwind/"))
    assert re.search(r"Suspended \(212\) 555-014\d and 2 more: rent is unpaid", words)
    assert "Suspended the application Storefront: rent is unpaid" in words
    assert "Everything is suspended: Invoice 000001 is unpaid" in words


def test_every_page_warns_those_who_see_billing(suspended, billing_client, developer_client):
    said = "Numbers and applications are suspended: rent is unpaid since 31 Dec 2026"
    for path in ("", "numbers/", "apps/", "settings/", "orders/"):
        words = text_of(billing_client.get(f"/o/northwind/{path}"))
        assert said in words
        assert "If it stays unpaid: numbers are released on 30 Jan 2027." in words
        assert said not in text_of(developer_client.get(f"/o/northwind/{path}"))


def test_warning_costs_no_query(suspended, owner_client, django_assert_max_num_queries):
    with django_assert_max_num_queries(5):
        response = owner_client.get("/o/northwind/numbers/")
    assert "rent is unpaid since" in text_of(response)


def test_billing_page_shows_every_step_with_its_day(suspended, billing_client):
    words = text_of(billing_client.get("/o/northwind/billing/"))
    assert words.count("are suspended: rent is unpaid since") == 1
    for step in (
        "Reminder sent 31 Dec 2026", "Purchases stopped 7 Jan 2027",
        "Numbers and applications suspended 14 Jan 2027", "Numbers are released 30 Jan 2027",
    ):  # fmt: skip
        assert step in words


def test_warning_begins_the_day_after_it_was_due(unpaid, owner_client):
    live_through(date(2026, 12, 31), date(2026, 12, 31))
    assert "Rent is unpaid since" not in text_of(owner_client.get("/o/northwind/"))
    live_through(date(2027, 1, 1), date(2027, 1, 1))
    words = text_of(owner_client.get("/o/northwind/"))
    assert "Rent is unpaid since 31 Dec 2026" in words
    assert "If it stays unpaid: purchases stop on 7 Jan 2027." in words


def test_warning_ends_with_the_payment(suspended, organization, owner_client):
    pay(organization, on=SUSPENDED)
    Dunning.objects.walk(at=noon(SUSPENDED))
    follow(noon(SUSPENDED))
    assert "rent is unpaid since" not in text_of(owner_client.get("/o/northwind/numbers/"))


def test_released_number_says_why(clock, released, owner_client):
    words = text_of(owner_client.get(f"/o/northwind/numbers/{released[0].public_id}/"))
    assert "Released, because rent is unpaid; 1 assignment ended" in words
    assert "Numbers were released: rent is unpaid since 31 Dec 2026" in words


def test_refused_undo_says_how_to_pay(clock, released, owner_client):
    with time_machine.travel(noon(date(2027, 2, 1)), tick=False):
        path = f"/o/northwind/numbers/{released[2].public_id}/undo-release/"
        page = owner_client.get(path)
        cost = re.search(r'name="expected_cost" value="(\d+)"', page.content.decode())[1]
        response = owner_client.post(path, {"expected_cost": cost})
    assert response.status_code == 409
    assert "Purchases are stopped since 7 Jan 2027, because rent is unpaid" in text_of(response)
