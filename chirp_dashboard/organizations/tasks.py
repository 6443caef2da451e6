"""What organizations are told, in the background."""

from django.utils import timezone
from procrastinate.contrib.django import app

from .models import Mail


@app.periodic(cron="* * * * * */15")
@app.task(queueing_lock="send_mail")
def send_mail(timestamp):
    """Send every mail whose time has come."""
    while Mail.objects.send_due(at=timezone.now()):
        pass
