"""Refunds: money given back of what a payment collected."""

import pgtrigger
from django.db import models
from django.db.models import Q
from django.utils import timezone

from chirp_dashboard.organizations.models import INSERT_ONLY, Organization
from chirp_dashboard.organizations.public_ids import PublicIdField

from .invoices import Invoice
from .payments import Payment


class Refund(models.Model):
    """One attempt to give back part of a payment: immutable facts and a guarded state.

    `reference` is ours, stored before anything is sent. What is being given back counts in
    `payment.refunded` from the moment it was decided, so no two refunds can pass what was paid.
    """

    class State(models.TextChoices):
        CREATED = "created", "Not sent yet"
        UNKNOWN = "unknown", "Being checked"
        REFUNDED = "refunded", "Given back"
        FAILED = "failed", "Failed"

    public_id = PublicIdField("ref")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="refunds")
    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="refunds")
    credit_note = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, related_name="refunds"
    )
    reference = models.CharField(max_length=120, unique=True)
    amount = models.BigIntegerField(help_text="In the minor unit.")
    currency = models.CharField(max_length=3)
    reason = models.CharField(max_length=200)
    state = models.CharField(max_length=8, choices=State, default=State.CREATED)
    gateway_id = models.CharField(max_length=120, blank=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_look_at = models.DateTimeField(null=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="refund_amount_positive"),
        ]
        indexes = [
            models.Index(
                fields=["next_look_at"],
                condition=Q(state__in=["created", "unknown"]),
                name="refund_to_look_at",
            ),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="facts", exclude=["state", "gateway_id", "tries", "next_look_at"]
            ),
        ]

    def __str__(self):
        return self.public_id


class RefundEvent(models.Model):
    """One transition of a refund."""

    refund = models.ForeignKey(Refund, on_delete=models.PROTECT, related_name="events")
    from_state = models.CharField(max_length=8)
    to_state = models.CharField(max_length=8)
    detail = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    class Meta:
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.from_state} → {self.to_state}"
