"""Billing in the background. A sweep does whatever is due and not done, so a late or doubled one is harmless."""

from django.core.management import call_command
from procrastinate.contrib.django import app


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="charge_rentals")
def charge_rentals(timestamp):
    call_command("charge_rentals")


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="check_books")
def check_books(timestamp):
    """A violated invariant fails this job and stands in the log, row by row."""
    call_command("check_books")
