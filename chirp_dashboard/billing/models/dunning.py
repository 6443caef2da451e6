"""Dunning: what happens, step by step and announced beforehand, when rent is not paid (design §8)."""

from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import INSERT_ONLY, Organization

from .invoices import Invoice


class Dunning(models.Model):
    """One organization's way down the ladder, from its oldest overdue invoice until arrears are paid.

    `rung` is the last one taken. While `held_until` is ahead an operator holds it where it is.
    """

    class End(models.TextChoices):
        PAID = "paid", "Paid"
        OPERATOR = "operator", "Ended by an operator"
        RELEASED = "released", "Numbers released"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="dunnings"
    )
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, related_name="dunnings", help_text="The oldest overdue."
    )
    due_on = models.DateField(help_text="From which its days are counted.")
    rung = models.PositiveSmallIntegerField(null=True, help_text="Index of the last one taken.")
    started_at = models.DateTimeField()
    ended_at = models.DateTimeField(null=True)
    ended_because = models.CharField(max_length=8, choices=End, blank=True)
    held_until = models.DateField(null=True)
    held_reason = models.CharField(max_length=200, blank=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(ended_at=None), name="dunning_open_once"
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"Dunning of {self.organization} since {self.due_on}"


class DunningStep(models.Model):
    """A rung that was taken: on which local day, and by which mail it was announced."""

    dunning = models.ForeignKey(Dunning, on_delete=models.PROTECT, related_name="steps")
    rung = models.PositiveSmallIntegerField()
    taken_on = models.DateField()
    at = models.DateTimeField()
    notice = models.ForeignKey(
        "organizations.Mail", on_delete=models.PROTECT, null=True, related_name="+"
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["dunning", "rung"], name="dunning_step_once"),
        ]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.dunning}: rung {self.rung}"
