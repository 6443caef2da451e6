import logging
from datetime import date

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from chirp_dashboard.numbers.books import CHECKS, check_books

logger = logging.getLogger(__name__)


class Command(BaseCommand):
    help = (
        "Check that numbers and money agree, and name every row that breaks a rule. Changes nothing; "
        "ends with status 1 when something is broken."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--on",
            type=date.fromisoformat,
            metavar="YYYY-MM-DD",
            help="Every rental period begun by this day has to be charged; without it, those begun "
            "by the last finished run.",
        )

    def handle(self, *, on, **options):
        broken = check_books(at=timezone.now(), on=on)
        for row in broken:
            logger.error("%s", row)
            self.stdout.write(f"{row}")
        if broken:
            raise CommandError(f"The books do not balance: {len(broken)} rows break a rule.")
        self.stdout.write(f"The books balance: {len(CHECKS) + 1} rules hold.")
