"""R3: a monthly run, and a repeat of it with nothing left to do ÷ one INSERT … SELECT of its rows.

Every round charges and invoices the next month, repeats that, and then copies the charges and invoice
lines it wrote into tables with the same rows so far, the same indexes, checks, foreign keys and
triggers, in one transaction. So both sides grow alike and nothing has to be put back.

BENCH_RENTALS (1,000,000) are divided among BENCH_ORGANIZATIONS (1). The first month, whose invoice also
asks for what was purchased before, is the warm-up.
"""

import os
import re
import resource
import time
from contextlib import contextmanager
from dataclasses import dataclass

from benchmarks.measure import Ratio
from benchmarks.organizations import LARGE, owner_of

ORGANIZATIONS = int(os.environ.get("BENCH_ORGANIZATIONS", "1"))
TRYTON = 108
"""Rentals per second of Tryton's subscriptions, at best."""

COPIES = {"billing_charge": "floor_charge", "billing_invoiceline": "floor_invoiceline"}

# What LIKE … INCLUDING ALL leaves out.
FOREIGN_KEYS = """
    SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
    WHERE contype = 'f' AND conrelid = %s::regclass
"""
TRIGGERS = """
    SELECT pg_get_triggerdef(oid) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = %s::regclass
"""
GUARDS = """
    SELECT (SELECT count(*) FROM pg_constraint WHERE conrelid = %(table)s::regclass),
           (SELECT count(*) FROM pg_index WHERE indrelid = %(table)s::regclass),
           (SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal AND tgrelid = %(table)s::regclass)
"""


def run(rounds=6):
    organizations = [owner_of(LARGE // ORGANIZATIONS, part=part) for part in range(ORGANIZATIONS)]
    with floor_tables():
        month(organizations[0])
        months = [month(organizations[0]) for _ in range(rounds)]
    size = f"{LARGE:,} rentals of {ORGANIZATIONS:,} organization" + "s" * (ORGANIZATIONS > 1)
    copied = [each.copied for each in months]
    ratios = [
        ratio(f"R3 monthly run, {size} ÷ INSERT … SELECT", "≤ 2.0", [m.ran for m in months], copied),
        ratio(f"R3 its repeat, {size} ÷ INSERT … SELECT", "≤ 0.35", [m.again for m in months], copied),
    ]  # fmt: skip
    speed = sorted(each.charges / each.ran for each in months)[len(months) // 2]
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    print(
        f"R3 in rentals per second: {speed:,.0f}, {speed / TRYTON:,.0f} times Tryton's best of {TRYTON}; "
        f"at most {peak} MB of memory in our process",
        flush=True,
    )
    return ratios


def ratio(name, target, ours, floor):
    measured = Ratio(name, target, [a / b for a, b in zip(ours, floor, strict=True)], ours, floor)
    print(measured, flush=True)
    return measured


@dataclass
class Month:
    """Seconds of the three things done in a round, and how many rentals were charged."""

    ran: float
    again: float
    copied: float
    charges: int


def month(organization):
    """Charge the next month, charge it again, and copy what was written."""
    from django.utils import timezone

    from chirp_dashboard.billing.models import Rental

    on, at = next_month(organization), timezone.now()
    settle()
    ran, run = timed(lambda: Rental.objects.charge_due(on=on, at=at))
    settle()
    again, repeated = timed(lambda: Rental.objects.charge_due(on=on, at=at))
    settle()
    copied, rows = timed(copy_written)
    if run.failures or repeated.failures or run.charges < LARGE * 0.99 or not repeated.is_quiet:
        raise RuntimeError(f"The run of {on} did not do what it is measured for.")
    if rows != run.charges or not all(is_copied(table) for table in COPIES):
        raise RuntimeError(f"The floor of {on} is not made of the rows of the run.")
    return Month(ran, again, copied, run.charges)


def timed(work):
    began = time.perf_counter()
    answer = work()
    return time.perf_counter() - began, answer


def next_month(organization):
    from django.utils import timezone

    from chirp_dashboard.billing.models import Standing
    from chirp_dashboard.billing.periods import next_billing_date

    closed = Standing.objects.get(organization=organization).closed_through
    after = closed or organization.local_date(timezone.now())
    return next_billing_date(organization.billing_day, after=after)


def settle():
    """Begin everything that is timed with clean tables, good statistics and an empty checkpoint."""
    from django.db import connection

    with connection.cursor() as cursor:
        for tables in COPIES.items():
            cursor.execute(f"VACUUM (ANALYZE) {', '.join(tables)}")
        cursor.execute("CHECKPOINT")


@contextmanager
def floor_tables():
    """Twins of the tables the run writes, with the rows they have."""
    from django.db import connection, transaction

    from chirp_dashboard.numbers.bulk import without_indexes

    with connection.cursor() as cursor:
        drop(cursor)
        for table, copy in COPIES.items():
            cursor.execute(f"CREATE TABLE {copy} (LIKE {table} INCLUDING ALL)")
            add_guards(cursor, table, copy)
        with transaction.atomic(), without_indexes(cursor, list(COPIES.values())):
            copy_written()
        try:
            yield
        finally:
            drop(cursor)


def drop(cursor):
    cursor.execute(f"DROP TABLE IF EXISTS {', '.join(COPIES.values())}")


def add_guards(cursor, table, copy):
    """Give `copy` the foreign keys and triggers of `table`; those within the pair join copies."""
    cursor.execute(FOREIGN_KEYS, [table])
    for name, definition in cursor.fetchall():
        cursor.execute(f'ALTER TABLE {copy} ADD CONSTRAINT "{name}" {between_copies(definition)}')
    cursor.execute(TRIGGERS, [table])
    for (definition,) in cursor.fetchall():
        cursor.execute(re.sub(rf" ON (\w+\.)?{table} ", f" ON {copy} ", definition))
    cursor.execute(f"{GUARDS} UNION ALL {GUARDS.replace('(table)', '(copy)')}", {"table": table, "copy": copy})  # fmt: skip
    ours, theirs = cursor.fetchall()
    if ours != theirs:
        raise RuntimeError(f"{copy} is not guarded as {table} is: {theirs}, not {ours}.")


def between_copies(definition):
    for table, copy in COPIES.items():
        definition = definition.replace(f"REFERENCES {table}(", f"REFERENCES {copy}(")
    return definition


def copy_written():
    """Copy what is not copied yet in one transaction; answers how many charges."""
    from django.db import connection, transaction

    counts = []
    with transaction.atomic(), connection.cursor() as cursor:
        for table, copy in COPIES.items():
            cursor.execute(f"SELECT coalesce(max(id), 0) FROM {copy}")
            last = cursor.fetchone()
            cursor.execute(f"INSERT INTO {copy} SELECT * FROM {table} WHERE id > %s", last)
            counts.append(cursor.rowcount)
    return counts[0]


def is_copied(table):
    """Whether the twin of `table` has the same rows, as far as count and sum of ids can tell."""
    from django.db import connection

    with connection.cursor() as cursor:
        counts = "SELECT count(*), sum(id) FROM"
        cursor.execute(f"{counts} {table} UNION ALL {counts} {COPIES[table]}")
        return len(set(cursor.fetchall())) == 1
