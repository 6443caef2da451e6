"""Billing in the background. A sweep does whatever is due and not done, so a late or doubled one is harmless."""

from django.core.management import call_command
from django.utils import timezone
from procrastinate.contrib.django import app

from .models import Payment, Refund


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="charge_rentals")
def charge_rentals(timestamp):
    call_command("charge_rentals")


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="check_books")
def check_books(timestamp):
    """A violated invariant fails this job and stands in the log, row by row."""
    call_command("check_books")


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
