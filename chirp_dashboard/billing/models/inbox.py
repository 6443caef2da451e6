"""The inbox: what gateways tell us, stored before it is worked."""

import pgtrigger
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import refuse


class InboxEvent(models.Model):
    """One delivered event: its raw body, once per event id, and what became of it.

    The body only says what to look at: whoever works an event asks the gateway for the object.
    """

    class State(models.TextChoices):
        RECEIVED = "received", "To be worked"
        WORKED = "worked", "Worked"
        IGNORED = "ignored", "Nothing to do with it"
        FAILED = "failed", "Failed; an operator looks"

    gateway = models.CharField(max_length=20)
    event_id = models.CharField(max_length=120)
    type = models.CharField(max_length=120)
    object_id = models.CharField(max_length=120, blank=True)
    body = models.TextField()
    happened_at = models.DateTimeField()
    received_at = models.DateTimeField()
    state = models.CharField(max_length=8, choices=State, default=State.RECEIVED)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    worked_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["gateway", "event_id"], name="inbox_event_once"),
        ]
        indexes = [
            models.Index(
                fields=["next_try_at"], condition=Q(state="received"), name="inbox_to_work"
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="delivered",
                exclude=["state", "tries", "next_try_at", "worked_at", "error"],
            ),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"{self.type} {self.event_id}"
