"""Payments: one attempt to collect one order or invoice through a gateway."""

from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.public_ids import PublicIdField

from .invoices import Invoice


class Payment(models.Model):
    """Immutable facts and a guarded state; `move()` is the only way from one state to another.

    `reference` is ours, stored before anything is sent; it is how an unknown outcome is looked up.
    """

    class State(models.TextChoices):
        CREATED = "created", "Not sent yet"
        UNKNOWN = "unknown", "Being checked"
        AUTHORISED = "authorised", "Authorised"
        CAPTURED = "captured", "Collected"
        VOIDED = "voided", "Voided"
        DECLINED = "declined", "Declined"

    public_id = PublicIdField("pay")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="payments"
    )
    order = models.ForeignKey(
        "numbers.Order", on_delete=models.PROTECT, null=True, related_name="payments"
    )
    invoice = models.ForeignKey(
        Invoice, on_delete=models.PROTECT, null=True, related_name="payments"
    )
    gateway = models.CharField(max_length=20)
    reference = models.CharField(max_length=120, unique=True)
    amount = models.BigIntegerField(help_text="Asked for, in the minor unit.")
    captured = models.BigIntegerField(default=0, help_text="Collected, in the minor unit.")
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=10, choices=State, default=State.CREATED)
    received_on = models.DateField(null=True)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="payment_amount_positive"),
            models.CheckConstraint(
                condition=Q(captured__gte=0) & Q(captured__lte=F("amount")),
                name="payment_captured_within_amount",
            ),
        ]
        indexes = [models.Index(fields=["organization", "-id"], name="payment_of_organization")]

    def __str__(self):
        return self.public_id


class PaymentEvent(models.Model):
    """One transition of a payment."""

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events")
    from_state = models.CharField(max_length=10)
    to_state = models.CharField(max_length=10)
    detail = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    def __str__(self):
        return f"{self.from_state} → {self.to_state}"


class TestAuthorisation(models.Model):
    """The `test` gateway's own memory: what a real gateway would know. Never read by our books."""

    __test__ = False  # not a test case

    reference = models.CharField(max_length=120, unique=True)
    amount = models.BigIntegerField()
    captured = models.BigIntegerField(default=0)
    currency = models.CharField(max_length=3)
    state = models.CharField(max_length=10)
    created_at = models.DateTimeField(default=timezone.now)

    def __str__(self):
        return f"{self.reference} {self.state}"
