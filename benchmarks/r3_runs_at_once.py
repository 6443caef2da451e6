"""R3, two at once: the monthly run by two processes at the same moment ÷ by one alone.

BENCH_AT_ONCE (100,000) rentals of 20 organizations. Months take turns: one is charged by one process,
the next by two started together. Each must leave one charge per rental and one invoice per
organization, whoever wrote it. Memory is the most any of those processes ever held.
"""

import os
import resource
import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path

from benchmarks.measure import Ratio
from benchmarks.organizations import owner_of

RENTALS = int(os.environ.get("BENCH_AT_ONCE", "100_000"))
ORGANIZATIONS = 20
ROOT = Path(__file__).resolve().parent.parent


def run(rounds=6):
    organizations = [owner_of(RENTALS // ORGANIZATIONS, part=part) for part in range(ORGANIZATIONS)]
    month(organizations, processes=1)
    months = [(month(organizations, 2), month(organizations, 1)) for _ in range(rounds)]
    two, one = map(list, zip(*months, strict=True))
    measured = Ratio(
        f"R3 two runs at once, {RENTALS:,} rentals of {ORGANIZATIONS} organizations ÷ one run",
        "≤ 1.2", [a / b for a, b in months], two, one,
    )  # fmt: skip
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss // 1024
    print(measured, flush=True)
    print(f"R3 memory of a process of the run: at most {peak} MB", flush=True)
    return [measured]


def month(organizations, processes):
    """Seconds until `processes` runs of the next month, started together, have all ended."""
    on = next_month(organizations[0])
    before = charges_and_invoices()
    began = time.perf_counter()
    running = [start(on) for _ in range(processes)]
    codes = [process.wait() for process in running]
    spent = time.perf_counter() - began
    after = charges_and_invoices()
    charges, invoices = (now - then for now, then in zip(after, before, strict=True))
    if any(codes) or invoices != len(organizations) or charges < RENTALS * 0.99 or is_due(on):
        raise RuntimeError(f"{on}: {codes}, {charges} charges, {invoices} invoices.")
    return spent


def start(on):
    return subprocess.Popen(
        [sys.executable, "manage.py", "charge_rentals", "--on", str(on)],
        cwd=ROOT,
        env=os.environ | {"DEBUG": "1"},
        stdout=subprocess.DEVNULL,
    )


def next_month(organization):
    from django.utils import timezone

    from chirp_dashboard.billing.models import Standing
    from chirp_dashboard.billing.periods import next_billing_date

    closed = Standing.objects.get(organization=organization).closed_through
    after = closed or organization.local_date(timezone.now()) + timedelta(days=1)
    return next_billing_date(organization.billing_day, after=after)


def is_due(on):
    """Is anything left to charge? That nothing was charged twice the database itself sees to."""
    from django.utils import timezone

    from chirp_dashboard.billing.models import Rental

    return not Rental.objects.charge_due(on=on, at=timezone.now()).is_quiet


def charges_and_invoices():
    """How many monthly rental charges and invoices there are; the first period is written elsewhere."""
    from chirp_dashboard.billing.models import Charge, Invoice

    return Charge.objects.filter(billing_date__isnull=False).count(), Invoice.objects.count()
