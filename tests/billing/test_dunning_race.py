"""Two walks at once over one ladder take one step, because of the lock alone."""

import threading
from contextlib import contextmanager, suppress
from datetime import date, timedelta

import pytest
from django.db import connection

from chirp_dashboard.billing.models import Dunning, DunningStep, Invoice, Standing
from chirp_dashboard.billing.models.dunning import Arrears
from chirp_dashboard.organizations.models import Mail

from .conftest import noon, rent, run

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def unpaid(organization, owner):
    """An invoice of which the first reminder was sent a day ago, and a day has been waited."""
    rent(organization, on=date(2026, 11, 23))
    run(date(2026, 12, 1))
    invoice = Invoice.objects.get()
    Dunning.objects.walk(at=noon(invoice.due_on))
    Mail.objects.update(sent_at=noon(invoice.due_on))
    return invoice


def walk_at_once(at):
    """Two walks that meet after both have looked what is due; the exceptions they ended with."""
    meeting, failures = threading.Barrier(2), []
    look = Arrears.of.__func__

    def look_and_meet(cls, standing, *, on):
        found = look(cls, standing, on=on)
        with suppress(threading.BrokenBarrierError):  # the other waits for our lock, as it should
            meeting.wait(timeout=1)
        return found

    def walk():
        try:
            Dunning.objects.walk(at=at)
        except ExceptionGroup as failure:
            failures.append(failure)
        finally:
            connection.close()

    Arrears.of = classmethod(look_and_meet)
    try:
        threads = [threading.Thread(target=walk) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        Arrears.of = classmethod(look)
    return failures


@contextmanager
def without_the_lock(monkeypatch):
    """Everything is read as under the lock, and nothing is locked."""

    def read(cls, organization):
        return cls.objects.select_related("organization").get(organization=organization)

    def read_again(self, standing):
        self.refresh_from_db()
        self.organization = standing.organization
        self.__dict__.pop("last_step", None)

    with monkeypatch.context() as patch:
        patch.setattr(Standing, "lock", classmethod(read))
        patch.setattr(Dunning, "_lock", read_again)
        yield


def half_hourly(start, end):
    """Walks of which the last is half an hour before `end`."""
    at = start + timedelta(minutes=30)
    while at < end:
        Dunning.objects.walk(at=at)
        Mail.objects.filter(sent_at=None).update(sent_at=at)
        at += timedelta(minutes=30)


def test_two_walks_at_once_take_one_step(unpaid):
    tomorrow = noon(unpaid.due_on + timedelta(days=1))
    half_hourly(noon(unpaid.due_on), tomorrow)
    assert walk_at_once(tomorrow) == []
    assert walk_at_once(tomorrow) == []
    assert [step.rung for step in DunningStep.objects.order_by("id")] == [0, 1]
    assert Mail.objects.filter(kind="dunning_reminder").count() == 2


def test_without_the_lock_both_would_take_it(unpaid, monkeypatch):
    tomorrow = noon(unpaid.due_on + timedelta(days=1))
    half_hourly(noon(unpaid.due_on), tomorrow)
    with without_the_lock(monkeypatch):
        failures = walk_at_once(tomorrow)
    assert len(failures) == 1, "the database refuses the second step"
