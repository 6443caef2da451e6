"""Two verbs at the same moment: the later waits for the earlier and judges what it left."""

import threading
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.db import OperationalError, connection, transaction

from chirp_dashboard.billing.models import Standing
from chirp_dashboard.numbers import notifying
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Assignment, Hold, Order, PhoneNumber, releasing
from chirp_dashboard.numbers.models.assigning import AssignmentRefused
from chirp_dashboard.numbers.models.suspending import FollowsStanding
from chirp_dashboard.organizations.models import Activity, Application, Delivery, Webhook

from .conftest import NOON

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 10
WAITS_FOR_US = """
    SELECT EXISTS (
        SELECT FROM pg_locks WHERE NOT granted AND pg_backend_pid() = ANY (pg_blocking_pids(pid))
    )
"""


class Meanwhile:
    """Does `verb` in another process's place: begins while we are inside our transaction."""

    def __init__(self, verb):
        self.verb = verb
        self.failure = None
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        try:
            self.verb()
        except Exception as failure:
            self.failure = failure
        finally:
            connection.close()

    def waits(self):
        """It has come as far as a lock that we hold; what others of this server wait for does not count."""
        until = time.monotonic() + DEADLINE
        with connection.cursor() as cursor:
            while time.monotonic() < until:
                cursor.execute(WAITS_FOR_US)
                if cursor.fetchone()[0]:
                    return True
                time.sleep(0.01)
        return False

    def ends(self):
        self.thread.join(DEADLINE)
        assert not self.thread.is_alive()
        assert self.failure is None, self.failure


def the(instance):
    """The same row, read anew, as another process has it."""
    return type(instance).objects.get(pk=instance.pk)


@pytest.fixture
def shared(number, storefront, alerts, owner):
    for application in (storefront, alerts):
        number.assign(application, by=owner, at=NOON)
    return number


@pytest.mark.parametrize("verb", ["remove", "release"])
def test_archiving_counts_only_what_it_ends(shared, storefront, owner, verb):
    with transaction.atomic():
        if verb == "remove":
            the(shared).remove(storefront, by=owner, at=NOON)
        else:
            the(shared).release(when="now", by=owner, at=NOON)
        application = the(storefront)
        archiving = Meanwhile(lambda: Assignment.objects.archive(application, by=owner, at=NOON))
        assert archiving.waits()
    archiving.ends()
    assert not check_books(at=NOON)
    assert Activity.objects.get(verb="archived").after == {"assignments_ended": 0}


def test_undo_does_not_assign_to_what_is_being_archived(shared, storefront, alerts, owner):
    shared.release(when="now", by=owner, at=NOON)
    number = PhoneNumber.objects.get()
    with transaction.atomic():
        Assignment.objects.archive(the(storefront), by=owner, at=NOON)
        undoing = Meanwhile(lambda: number.undo_release(by=owner, at=NOON))
        assert undoing.waits()
    undoing.ends()
    assert [each.application for each in Assignment.objects.open()] == [alerts]
    assert Application.objects.get(pk=storefront.pk).is_archived
    assert not check_books(at=NOON)


def test_purchase_for_what_is_being_archived_is_refused(stock, storefront, organization, owner):
    application = the(storefront)
    with transaction.atomic():
        Assignment.objects.archive(the(storefront), by=owner, at=NOON)
        purchase = Meanwhile(
            lambda: Order.objects.place(
                organization,
                person=owner,
                numbers=[stock[0].key],
                expected_total=127,
                idempotency_key="key",
                at=NOON,
                application=application,
            )
        )
        assert purchase.waits()
    with pytest.raises(AssertionError, match="takes no live numbers"):
        purchase.ends()
    assert not Order.objects.exists()


def test_undo_twice_at_once_brings_it_back_once(shared, owner):
    shared.release(when="now", by=owner, at=NOON)
    first, second = PhoneNumber.objects.get(), PhoneNumber.objects.get()
    with transaction.atomic():
        first.undo_release(by=owner, at=NOON)
        undoing = Meanwhile(lambda: second.undo_release(by=owner, at=NOON))
        assert undoing.waits()
    with pytest.raises(AssertionError, match="is not released"):
        undoing.ends()
    assert not check_books(at=NOON)


def test_release_now_and_the_sweep_end_it_once(shared, owner):
    shared.release(when="period_end", by=owner, at=NOON)
    number, later = the(shared), NOON.replace(month=12)
    with transaction.atomic():
        assert the(shared).complete_release(at=later)
        releasing = Meanwhile(lambda: number.release(when="now", by=owner, at=later))
        assert releasing.waits()
    with pytest.raises(AssertionError, match="released already"):
        releasing.ends()
    assert not check_books(at=later)


@pytest.mark.parametrize("verb", ["extend", "let_go"])
def test_holds_change_in_turn_with_a_purchase(stock, organization, owner, verb):
    """Each of them locks several holds; without the organization's lock they might wait in a circle."""
    keys = [row.key for row in stock]
    Hold.objects.hold(organization, owner, keys, at=NOON)
    verbs = {
        "extend": lambda: Hold.objects.extend(the(organization), owner, at=NOON),
        "let_go": lambda: Hold.objects.let_go(the(organization), owner, keys),
    }
    with transaction.atomic():
        Standing.lock(organization)
        changing = Meanwhile(verbs[verb])
        assert changing.waits()
    changing.ends()


def test_hold_taken_over_is_not_forgotten(stock, organization, owner):
    keys, later = [row.key for row in stock[:2]], NOON + timedelta(days=2)
    Hold.objects.hold(organization, owner, keys, at=NOON)
    with transaction.atomic():
        Hold.objects.hold(organization, owner, keys[:1], at=later)
        forgetting = Meanwhile(lambda: Hold.objects.forget_lapsed(at=later))
        forgetting.ends()
    assert Hold.objects.get().key == keys[0]


# The order of locks -----------------------------------------------------------------------------


LATER = NOON.replace(month=12)


def follow_standing():
    return PhoneNumber.objects.follow_standing(at=LATER)


def set_suspended(organization, at):
    with transaction.atomic():
        standing = Standing.lock(organization)
        standing.suspended_at = at
        standing.save()


def collide(monkeypatch, step, verb):
    """Do `verb`, in whose `step` the sweep comes as far as a lock of ours; False if that was a deadlock."""
    sweeps, failures, go_on = [], [], getattr(PhoneNumber, step)

    def let_the_sweep_come(self, *arguments, **named):
        if not sweeps:
            sweeps.append(Meanwhile(follow_standing))
            assert sweeps[0].waits()
        return go_on(self, *arguments, **named)

    with monkeypatch.context() as patch:
        patch.setattr(PhoneNumber, step, let_the_sweep_come)
        try:
            verb()
        except OperationalError as failure:
            failures.append(failure)
    (sweep,) = sweeps
    sweep.thread.join(DEADLINE)
    assert not sweep.thread.is_alive()
    if isinstance(sweep.failure, ExceptionGroup):
        failures += sweep.failure.exceptions
    else:
        assert sweep.failure is None, sweep.failure
    assert all("deadlock detected" in str(failure) for failure in failures)
    return not failures


@pytest.fixture
def being_released(shared, organization, owner):
    """Its last day has passed, and the organization is suspended; neither sweep has come yet."""
    shared.release(when="period_end", by=owner, at=NOON)
    set_suspended(organization, LATER)
    return the(shared)


def complete(number):
    return lambda: number.complete_release(at=LATER)


def test_completing_a_release_and_suspending_wait_in_turn(
    being_released, organization, monkeypatch
):
    assert collide(monkeypatch, "_finish_release", complete(being_released))
    assert PhoneNumber.objects.get().is_released
    set_suspended(organization, None)
    follow_standing()
    assert not check_books(at=LATER)


def test_cancelling_a_release_takes_the_organizations_lock_first(shared, organization, owner):
    shared.release(when="period_end", by=owner, at=NOON)
    with transaction.atomic():
        Standing.lock(organization)
        cancelling = Meanwhile(lambda: the(shared).cancel_release(by=owner, at=NOON))
        assert cancelling.waits()
        the(shared).lock()  # or it deadlocks here
    cancelling.ends()
    assert PhoneNumber.objects.get().releases_on is None
    assert not check_books(at=NOON)


def test_without_the_organizations_lock_first_they_wait_for_each_other(being_released, monkeypatch):
    class Unlocked:
        @staticmethod
        def lock(organization):
            """The release begins with its number."""

    monkeypatch.setattr(releasing, "Standing", Unlocked)
    assert not collide(monkeypatch, "_finish_release", complete(being_released))


@pytest.fixture
def being_restored(number, organization, storefront):
    """Paid, and not restored yet."""
    set_suspended(organization, NOON)
    PhoneNumber.objects.follow_standing(at=NOON)
    set_suspended(organization, None)
    return the(number)


def assign(number, application, owner):
    def assign():
        with pytest.raises(AssignmentRefused, match="suspended"):
            number.assign(application, by=owner, at=LATER)

    return assign


def test_assigning_and_restoring_wait_in_turn(being_restored, storefront, owner, monkeypatch):
    assert collide(monkeypatch, "lock", assign(being_restored, the(storefront), owner))
    assert not PhoneNumber.objects.get().is_suspended
    assert not Application.objects.get().is_paused


def test_with_numbers_before_applications_they_wait_for_each_other(
    being_restored, storefront, owner, monkeypatch
):
    change, resume = FollowsStanding._change, FollowsStanding._resume_applications

    def change_then_resume(organization, numbers, verb, *, at, **states):
        changed = change(organization, numbers, verb, at=at, **states)
        resume(organization, at=at)
        return changed

    monkeypatch.setattr(FollowsStanding, "_change", staticmethod(change_then_resume))
    monkeypatch.setattr(FollowsStanding, "_resume_applications", lambda *_, **__: None)
    assert not collide(monkeypatch, "lock", assign(being_restored, the(storefront), owner))


# Webhooks that are removed ----------------------------------------------------------------------

UNANSWERED = SimpleNamespace(ok=False, status=500, text="", error="", milliseconds=9)


@pytest.fixture
def told(shared, storefront, owner):
    """A webhook of an application that has the number."""
    return storefront.add_webhook(
        url="https://hooks.example.com/in", events=["phone_numbers.released"], headers={},
        by=owner, at=NOON,
    )  # fmt: skip


def test_webhook_is_not_removed_under_an_event_that_is_being_written(
    shared, storefront, told, owner
):
    with transaction.atomic():
        the(shared).release(when="now", by=owner, at=NOON)
        removing = Meanwhile(lambda: the(storefront).remove_webhook(the(told), by=owner, at=NOON))
        assert removing.waits()
    removing.ends()
    assert the(shared).is_released
    assert not Webhook.objects.exists()


def test_no_event_is_written_for_a_webhook_that_is_being_removed(shared, storefront, told, owner):
    with transaction.atomic():
        the(storefront).remove_webhook(the(told), by=owner, at=NOON)
        releasing_now = Meanwhile(lambda: the(shared).release(when="now", by=owner, at=NOON))
        assert releasing_now.waits()
    releasing_now.ends()
    assert the(shared).is_released
    assert not Delivery.objects.exists()


def test_without_the_webhooks_lock_the_release_would_fail_with_its_event(
    shared, storefront, told, owner, monkeypatch
):
    monkeypatch.setattr(notifying, "WRITE", notifying.WRITE.replace("FOR KEY SHARE OF webhook", ""))
    with transaction.atomic():
        the(storefront).remove_webhook(the(told), by=owner, at=NOON)
        releasing_now = Meanwhile(lambda: the(shared).release(when="now", by=owner, at=NOON))
        assert releasing_now.waits()
    with pytest.raises(AssertionError, match="violates foreign key"):
        releasing_now.ends()
    assert not the(shared).is_released


def test_removing_a_webhook_waits_in_turn_with_what_is_being_sent(storefront, told, owner):
    delivery = Delivery.objects.test(told, at=NOON)
    with transaction.atomic():
        told.lock(no_key=False)
        recording = Meanwhile(lambda: the(delivery).record(UNANSWERED, at=NOON))
        assert recording.waits()
        the(storefront).remove_webhook(told, by=owner, at=NOON)
    recording.ends()


def test_webhook_removed_twice_at_once_is_removed_once(storefront, told, owner):
    seen = the(told)
    storefront.remove_webhook(told, by=owner, at=NOON)
    storefront.remove_webhook(seen, by=owner, at=NOON)
    assert Activity.objects.filter(verb="webhook_removed").count() == 1
