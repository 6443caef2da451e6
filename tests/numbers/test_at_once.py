"""Two verbs at the same moment: the later waits for the earlier and judges what it left."""

import threading
import time
from datetime import timedelta

import pytest
from django.db import connection, transaction

from chirp_dashboard.billing.models import Standing
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Assignment, Hold, Order, PhoneNumber
from chirp_dashboard.organizations.models import Activity, Application

from .conftest import NOON

pytestmark = pytest.mark.django_db(transaction=True)

DEADLINE = 10


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
        """It has come as far as a lock that we hold."""
        until = time.monotonic() + DEADLINE
        with connection.cursor() as cursor:
            while time.monotonic() < until:
                cursor.execute("SELECT EXISTS (SELECT FROM pg_locks WHERE NOT granted)")
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
