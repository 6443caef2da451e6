"""What organizations are told, in the background."""

from django.utils import timezone
from procrastinate.contrib.django import app

from .models import Delivery, Mail
from .sending import send_due


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="send_mail")
def send_mail(timestamp):
    """Send every mail whose time has come."""
    while Mail.objects.send_due(at=timezone.now()):
        pass


@app.periodic(cron="* * * * * */5")
@app.task(queueing_lock="send_webhooks")
def send_webhooks(timestamp):
    """Send every webhook delivery whose time has come."""
    while send_due(at=timezone.now()):
        pass


@app.periodic(cron="47 4 * * *")
@app.task(queueing_lock="forget_deliveries")
def forget_deliveries(timestamp):
    """Deliveries are shown for a month."""
    Delivery.objects.forget_old(at=timezone.now())
