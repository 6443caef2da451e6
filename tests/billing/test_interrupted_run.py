"""Killed, doubled or late: the rows of the undisturbed run, and nothing else."""

import random
import subprocess
import sys
import threading
import time
from datetime import date

import pytest
from django.conf import settings
from django.db import IntegrityError, connection, transaction

from chirp_dashboard.billing.models import BillingRun, Charge, Invoice, Rental, Standing
from chirp_dashboard.billing.models import runs as runs_module
from chirp_dashboard.numbers.books import check_books

from .conftest import noon, rent, run

MARCH = date(2027, 3, 5)
pytestmark = pytest.mark.django_db(transaction=True)


class Killed(BaseException):
    """What a kill is to the database: the connection goes away and its transaction with it."""


@pytest.fixture
def rentals(organization, rival, monkeypatch):
    """Two organizations with a hundred rentals of all kinds; batches of ten."""
    monkeypatch.setattr(runs_module, "BATCH", 10)
    rent_all_kinds(organization, rival, each=10)


@transaction.atomic
def rent_all_kinds(organization, rival, *, each):
    for owner in (organization, rival):
        rent(owner, on=date(2026, 11, 23), numbers=each * 3)
        rent(owner, on=date(2026, 12, 1), numbers=each, amount=250)
        rent(owner, on=date(2026, 11, 30), numbers=each // 2, ends_on=date(2027, 1, 1))
        rent(owner, on=date(2026, 11, 5), numbers=each // 2, months=3, amount=900)


def rows():
    """Everything a run leaves behind, without the ids and moments it may leave it with."""
    return (
        sorted(
            Charge.objects.values_list(
                "rental_id", "kind", "phone_number_id", "period_start", "period_end", "on",
                "billing_date", "amount", "invoice_line__invoice__billing_date",
            ),
            key=str,
        ),
        sorted(Invoice.objects.values_list("organization__slug", "billing_date", "total", "line_count")),
        sorted(Standing.objects.values_list("organization__slug", "balance", "closed_through")),
    )  # fmt: skip


def undisturbed(on=MARCH):
    """The rows of a run that nothing happens to; taken back afterwards."""
    with transaction.atomic():
        assert run(on).failures == []
        found = rows()
        transaction.set_rollback(True)
    return found


class KillAt:
    """Kills the connection's work before statement `number`; never for 0."""

    def __init__(self, number):
        self.number, self.seen = number, 0

    def __call__(self, execute, sql, parameters, many, context):
        self.seen += 1
        if self.seen == self.number:
            raise Killed
        return execute(sql, parameters, many, context)


def run_killed_at(number):
    """Was the run killed before its statement `number`, or over by then?"""
    try:
        with connection.execute_wrapper(KillAt(number)):
            run(MARCH)
    except Killed:
        connection.close()
        return True
    return False


def count_statements():
    counting = KillAt(0)
    with transaction.atomic(), connection.execute_wrapper(counting):
        run(MARCH)
        transaction.set_rollback(True)
    return counting.seen


def test_run_killed_again_and_again_ends_as_if_undisturbed(rentals):
    expected = undisturbed()
    chance = random.Random(20261201)
    kills = 0
    while run_killed_at(chance.randint(1, 60)):
        kills += 1
        assert not Charge.objects.filter(entry__postings=None, amount__gt=0).exists()
    assert kills > 3
    assert rows() == expected
    assert check_books(at=noon(MARCH)) == []
    assert run(MARCH).charges == 0


@pytest.mark.slow
def test_run_killed_at_every_statement_ends_as_if_undisturbed(rentals):
    expected = undisturbed()
    for number in range(1, count_statements() + 1):
        run_killed_at(number)
    run(MARCH)
    assert rows() == expected
    assert check_books(at=noon(MARCH)) == []


@pytest.mark.parametrize("workers", [2, 4])
def test_runs_side_by_side_write_what_one_writes(rentals, workers):
    expected = undisturbed()
    start = threading.Barrier(workers)
    failures = []

    def work():
        try:
            start.wait()
            failures.extend(run(MARCH).failures)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert rows() == expected
    assert check_books(at=noon(MARCH)) == []


def test_purchases_during_the_run_are_lost_by_no_invoice(rentals, organization):
    stop = threading.Event()

    def purchase():
        try:
            while not stop.is_set():
                rent(organization, on=date(2027, 2, 10))
        finally:
            connection.close()

    buyer = threading.Thread(target=purchase)
    buyer.start()
    try:
        for day in (date(2026, 12, 1), date(2027, 1, 1), date(2027, 2, 1), MARCH):
            assert run(day).failures == []
    finally:
        stop.set()
        buyer.join()
    late = Rental.objects.filter(starts_on=date(2027, 2, 10))
    with transaction.atomic():
        for rental in late:  # as the order does that delivers late
            rental.charge_periods_begun(MARCH, at=noon(MARCH))
    run(date(2027, 4, 1))
    assert check_books(at=noon(date(2027, 4, 1))) == []
    assert not Charge.objects.filter(invoice_line=None).exists()


def command(environment, on):
    return subprocess.Popen(
        [sys.executable, "manage.py", "charge_rentals", "--on", str(on)],
        cwd=settings.BASE_DIR,
        env=environment | {"DEBUG": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("numbers", [1_000, pytest.param(20_000, marks=pytest.mark.slow)])
def test_killed_processes_leave_the_books_to_the_next_run(
    organization, rival, process_environment, numbers
):
    rent_all_kinds(organization, rival, each=numbers // 10)
    expected = undisturbed()
    chance = random.Random(45)
    for _ in range(3):
        process = command(process_environment, MARCH)
        wait_for_the_run(process)
        time.sleep(chance.random() * numbers / 2_000)
        process.kill()  # which may have ended already
        process.wait()
    connection.close()
    assert run(MARCH).failures == []
    assert rows() == expected
    assert check_books(at=noon(MARCH)) == []


def wait_for_the_run(process):
    before = BillingRun.objects.count()
    deadline = time.monotonic() + 30
    while BillingRun.objects.count() == before and process.poll() is None:
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_its_guard_a_period_would_be_charged_twice(rentals):
    """The negative control: it is the unique index that keeps a run from charging twice."""
    run(date(2026, 12, 1))
    with pytest.raises(IntegrityError, match="charge_rental_period_once"), transaction.atomic():
        charge_december_again()
    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("DROP INDEX charge_rental_period_once")
        assert charge_december_again() > 0
        assert any(row.invariant == "I2" for row in check_books(at=noon(date(2026, 12, 1))))
        transaction.set_rollback(True)


def charge_december_again():
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO billing_charge (organization_id, entry_id, kind, rental_id, phone_number_id,"
            ' "on", billing_date, period_start, period_end, amount, currency, description, created_at)'
            " SELECT organization_id, entry_id, kind, rental_id, phone_number_id,"
            ' "on", billing_date, period_start, period_end, amount, currency, description, created_at'
            " FROM billing_charge WHERE period_start = '2026-12-01' AND billing_date IS NOT NULL"
        )
        return cursor.rowcount
