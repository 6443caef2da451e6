"""Load a file of numbers into stock, all of it or nothing."""

import csv
from contextlib import nullcontext
from itertools import islice

from django.core.management.base import BaseCommand, CommandError

from chirp_dashboard.numbers.stock import StockChanged, StockImport
from chirp_dashboard.numbers.stock_file import COLUMNS, UnreadableFile

SHOWN = 50


class Command(BaseCommand):
    help = (
        "Load a CSV file of numbers into stock. The first line names the columns, in any order: "
        f"{', '.join(COLUMNS)}. Only “number” is required; what is missing or empty follows from the "
        "number. Capabilities are separated by ; or |. A bad row is reported with its line and the "
        "reason, and then nothing is loaded."
    )

    def add_arguments(self, parser):
        parser.add_argument("file", metavar="FILE.csv")
        parser.add_argument(
            "--skip-bad", action="store_true", help="load the good rows all the same"
        )
        parser.add_argument("--dry-run", action="store_true", help="check everything, load nothing")
        parser.add_argument(
            "--report",
            metavar="FILE",
            help="write every bad row to this CSV file (line, number, reason)",
        )

    def handle(self, *, file, skip_bad, dry_run, report, **options):
        try:
            with open_report(report) as self.report:
                work = StockImport(file, skip_bad=skip_bad, dry_run=dry_run)
                work.run(report=self.tell)
        except OSError as error:
            raise CommandError(f"{error.filename}: {error.strerror}.") from None
        except (UnreadableFile, StockChanged) as error:
            raise CommandError(f"{file}: {error}") from None
        self.conclude(work)

    def tell(self, work):
        """Print the first bad rows, and write all of them to the report if one was asked for."""
        for line, number, reason in islice(work.refusals(limit=SHOWN), SHOWN):
            self.stdout.write(f"line {line}: {number}: {reason}")
        if work.refused > SHOWN:
            self.stdout.write(f"… and {work.refused - SHOWN:,} more bad rows")
        if self.report:
            writer = csv.writer(self.report)
            writer.writerow(("line", "number", "reason"))
            writer.writerows(work.refusals())

    def conclude(self, work):
        if work.refused and not work.skip_bad:
            raise CommandError(
                f"{work.refused:,} of {work.rows:,} rows are bad. Nothing was loaded."
            )
        good = f"{work.loaded:,} of {work.rows:,} numbers"
        self.stdout.write(f"{good} could be loaded." if work.dry_run else f"{good} were loaded.")


def open_report(path):
    return open(path, "w", encoding="utf-8", newline="") if path else nullcontext()
