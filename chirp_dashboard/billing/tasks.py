"""Billing in the background. A sweep does whatever is due and not done, so a late or doubled one is harmless."""

import contextlib

from django.core.management import call_command
from django.db import transaction
from django.utils import timezone
from procrastinate.contrib.django import app
from procrastinate.exceptions import AlreadyEnqueued

from .gateways import GATEWAYS
from .models import BillingRun, Dunning, InboxEvent, Payment, PriceAnnouncement, Refund
from .reconciling import reconcile


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="charge_rentals")
def charge_rentals(timestamp):
    call_command("charge_rentals", verbosity=0)


@app.periodic(cron="7 * * * *")
@app.task(queueing_lock="watch_runs")
def watch_runs(timestamp):
    """The run cannot tell that it did not run."""
    BillingRun.objects.alarm_if_late(at=timezone.now())


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="collect_due")
def collect_due(timestamp):
    """Ask for every due invoice that was not asked for yet; `advance_payments` sends it."""
    Payment.objects.collect_due(at=timezone.now())


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="advance_payments")
def advance_payments(timestamp):
    """Send and look up payments of invoices, those of killed processes among them."""
    Payment.objects.advance_due(at=timezone.now())


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="advance_refunds")
def advance_refunds(timestamp):
    Refund.objects.advance_due(at=timezone.now())


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="walk_dunning")
def walk_dunning(timestamp):
    """Remind, stop, suspend, release and end again, one step at a time; `follow_standing` acts on it."""
    Dunning.objects.walk(at=timezone.now())


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="work_inbox")
def work_inbox(timestamp):
    """Look at everything the gateways told us about."""
    while InboxEvent.objects.work_due(at=timezone.now()):
        pass


def wake_inbox():
    """Have the inbox worked now; without this the next sweep does it."""
    with contextlib.suppress(AlreadyEnqueued), transaction.atomic():
        work_inbox.defer(timestamp=0)


@app.periodic(cron="* * * * *")
@app.task(queueing_lock="announce_prices")
def announce_prices(timestamp):
    """Tell every organization that waits for it what an operator asked to be announced."""
    PriceAnnouncement.objects.work_due(at=timezone.now())


def wake_announcements():
    """Have them worked now; without this the next sweep does it."""
    with contextlib.suppress(AlreadyEnqueued), transaction.atomic():
        announce_prices.defer(timestamp=0)


@app.periodic(cron="47 4 * * *")
@app.task(queueing_lock="reconcile_stripe")
def reconcile_stripe(timestamp):
    """Compare the books with Stripe and mend what is safe; an operator is told of the rest."""
    if gateway := GATEWAYS.get("stripe"):
        reconcile(gateway, at=timezone.now(), repair=True)
