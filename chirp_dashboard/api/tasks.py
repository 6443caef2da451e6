"""Cleaning up behind the door."""

from django.utils import timezone
from procrastinate.contrib.django import app

from .models import Answer, Window


@app.periodic(cron="11 * * * *")
@app.task(queueing_lock="forget_answers")
def forget_answers(timestamp):
    """Answers whose keys may be used again, and the counts of minutes that are over."""
    at = timezone.now()
    Answer.objects.forget_old(at=at)
    Window.objects.forget_old(minute=int(at.timestamp() // 60) - 5)
