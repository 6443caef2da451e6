from contextlib import nullcontext
from datetime import date

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.utils import timezone

from chirp_dashboard.billing.models import BillingRun, Rental
from chirp_dashboard.organizations.templatetags.ui import day, money


class Command(BaseCommand):
    help = (
        "Charge every rental period that has begun and write the invoices of every billing date "
        "reached. Safe to repeat, to interrupt and to run twice at once."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--on",
            type=date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="Each organization's local date; without it, what its date is now.",
        )
        parser.add_argument(
            "--simulate",
            action="store_true",
            help="Say what would be done and do nothing. Organizations are locked meanwhile.",
        )

    def handle(self, *, on, simulate, **options):
        at = timezone.now()
        if on and not (simulate or settings.DEBUG):
            refuse_the_future(on, at=at)
        if not (on or simulate):
            BillingRun.objects.alarm_if_late(at=at)
        with transaction.atomic() if simulate else nullcontext():
            run = Rental.objects.charge_due(on=on, at=at)
            if simulate:
                transaction.set_rollback(True)
        self.report(run, simulate=simulate, is_sweep=options["verbosity"] == 0)
        if run.failures or run.alarms:
            raise CommandError(f"Failed for {len(run.unbilled)} of the organizations.")

    def report(self, run, *, simulate, is_sweep):
        """Say what was done and for whom; a sweep that found nothing to do says nothing."""
        for collection in run.collections:
            if not collection.is_quiet:
                self.stdout.write(sentence(collection))
        for failure in run.failures:
            self.stderr.write(f"{failure['organization']}: {failure['reason']}")
        for alarm in run.alarms:
            self.stderr.write(
                f"{alarm['organization']}, {alarm['billing_date']}: {alarm['reason']}"
            )
        if not run.is_quiet:
            self.stdout.write(in_all(run))
        elif not is_sweep:
            self.stdout.write("Nothing is due.")
        if simulate:
            self.stdout.write("Simulated: nothing was written.")


def refuse_the_future(on, *, at):
    """DATE must have begun wherever anything is billed."""
    for organization in BillingRun.objects.billed_organizations():
        today = organization.local_date(at)
        if on > today:
            raise CommandError(
                f"{day(on)} has not begun at {organization}, where it is {day(today)}. "
                "With --simulate it is only shown what would be charged."
            )


def sentence(collection):
    """ "northwind: 3 charges, $3.00; invoice 000012 of 1 Dec 2026, $5.27" """
    currency = collection.organization.currency
    parts = [f"{collection.charges:,} charges, {money(collection.amount, currency)}"]
    if collection.skipped:
        parts.append(f"{collection.skipped:,} skipped, charged before")
    parts += [
        f"{invoice.title.lower()} of {day(invoice.billing_date)}, {money(invoice.total, currency)}"
        for invoice in collection.invoices
    ]
    return f"{collection.organization.slug}: {'; '.join(parts)}"


def in_all(run):
    """ "In all: 3 charges, 1 skipped, 2 invoices, 0 failed. Charged $3.00, invoiced $5.27." """
    totals = [
        f"Charged {money(sums['charged'], currency)}, invoiced {money(sums['invoiced'], currency)}."
        for currency, sums in run.totals.items()
    ]
    counts = (
        f"{run.charges:,} charges, {run.skipped:,} skipped, {run.invoices:,} invoices, "
        f"{len(run.unbilled):,} failed."
    )
    return " ".join(["In all:", counts, *totals])
