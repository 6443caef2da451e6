from datetime import UTC, datetime

from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.reconciling import Difference, reconcile


class Command(BaseCommand):
    help = (
        "Compare our payments, refunds and customers with Stripe's, both ways. Says what differs; "
        "with --repair mends what asking again would write, and nothing else."
    )

    def add_arguments(self, parser):
        parser.add_argument(
            "--since",
            type=datetime.fromisoformat,
            metavar="YYYY-MM-DD",
            help="Compare what was made since then, instead of in the last 35 days.",
        )
        parser.add_argument("--repair", action="store_true", help="Mend what is safe to mend.")

    def handle(self, *, since, repair, **options):
        gateway = GATEWAYS.get("stripe")
        if gateway is None:
            raise CommandError("Stripe is not set up here: STRIPE_SECRET_KEY is empty.")
        at = timezone.now()
        since = since and since.replace(tzinfo=UTC)
        if since and since > at:
            raise CommandError("That day has not begun.")
        self.report(reconcile(gateway, at=at, since=since, repair=repair))

    def report(self, record):
        for facts in record.differences:
            self.stdout.write(str(Difference(**facts)))
        left = len(record.differences) - record.repaired
        self.stdout.write(f"{record.compared:,} compared, {record.repaired} repaired, {left} left.")
        if not record.finished_at:
            raise CommandError("Not finished: Stripe gave no usable answer. Run it again.")
        if left:
            raise CommandError("Stripe and the books differ.")
