"""Numbers in the background. Every task is a sweep: it does what is due and not done."""

from django.utils import timezone
from procrastinate.contrib.django import app

from chirp_dashboard.billing.models import BooksBroken, BooksCheck

from . import books
from .models import Hold, Order, PhoneNumber
from .repricing import show_new_prices


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="advance_orders")
def advance_orders(timestamp):
    """Look again at every open order whose time has come, those of killed processes among them."""
    Order.objects.advance_due(at=timezone.now())


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="complete_releases")
def complete_releases(timestamp):
    """Give back the numbers whose last day has passed where their organization is."""
    PhoneNumber.objects.complete_releases(at=timezone.now())


@app.periodic(cron="*/5 * * * *")
@app.task(queueing_lock="show_prices")
def show_prices(timestamp):
    """Show announced prices from their day on."""
    show_new_prices(at=timezone.now())


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="follow_standing")
def follow_standing(timestamp):
    """Suspend, restore and release numbers as billing says; an interrupted one goes on here."""
    PhoneNumber.objects.follow_standing(at=timezone.now())


@app.periodic(cron="17 3 * * *")
@app.task(queueing_lock="check_books")
def check_books(timestamp):
    """Every violated invariant stands in the log, in the admin, and in a mail to the operators."""
    check = BooksCheck.objects.create(started_at=timezone.now(), rules=len(books.CHECKS) + 1)
    check.finish(books.check_books(at=check.started_at), at=timezone.now())
    if check.violations:
        raise BooksBroken(f"The books do not balance: {check.violations} rows break a rule.")


@app.periodic(cron="41 * * * *")
@app.task(queueing_lock="forget_lapsed_holds")
def forget_lapsed_holds(timestamp):
    Hold.objects.forget_lapsed(at=timezone.now())
