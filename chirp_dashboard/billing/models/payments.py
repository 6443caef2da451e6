"""Payments: one attempt to collect one order or invoice through a gateway."""

import logging

from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from chirp_dashboard.organizations.models import Activity, Actor, Organization
from chirp_dashboard.organizations.public_ids import PublicIdField
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day, money

from .books import Account, Entry, Standing
from .invoices import BooksDisagree, Invoice

logger = logging.getLogger(__name__)


REFERENCE_LENGTH = 80
GATEWAY = Actor.system("payments")


class TransferRefused(Refused):
    """The transfer makes no sense; the text says why. Nothing was written."""


class PaymentMoved(Exception):
    """The payment is not in the state it was read in, or its state does not lead there."""


class PaymentQuerySet(models.QuerySet):
    @transaction.atomic
    def record_transfer(self, organization, *, amount, received_on, reference, by, at):
        """Record that `amount` (minor unit) of `organization` arrived; it pays the oldest invoices.

        What is over stays as credit and pays later ones. The same `reference` again returns the
        payment recorded first. Raises TransferRefused.
        """
        standing = Standing.lock(organization)
        reference = " ".join(reference.split())
        self._check_transfer(organization, amount, received_on, reference, at=at)
        ours = f"transfer-{organization.pk}-{reference}"
        if known := self.filter(reference=ours).first():
            return known.again(amount=amount, received_on=received_on)
        payment = self.create(
            organization=organization,
            gateway="account",
            reference=ours,
            amount=amount,
            currency=organization.currency,
            received_on=received_on,
            note=reference,
            created_at=at,
        )
        payment.collect(amount, at=at)
        paid = Invoice.objects.apply_money(organization)
        Activity.objects.record(
            organization, "paid", subject=payment, by=by, at=at,
            after={
                "amount": amount, "reference": reference, "received_on": str(received_on),
                "invoices": [invoice.number for invoice in paid], "balance": standing.balance,
            },
        )  # fmt: skip
        return payment

    def _check_transfer(self, organization, amount, received_on, reference, *, at):
        if amount <= 0:
            raise TransferRefused("A payment is more than zero.")
        if not reference:
            raise TransferRefused("Write the reference of the transfer, as on the bank statement.")
        if len(reference) > REFERENCE_LENGTH:
            raise TransferRefused(f"A reference has at most {REFERENCE_LENGTH} characters.")
        if received_on > organization.local_date(at):
            raise TransferRefused("The day it arrived is in the future.")


class Payment(models.Model):
    """Immutable facts and a guarded state; `move()` is the only way from one state to another.

    `reference` is ours, stored before anything is sent; it is how an unknown outcome is looked up.
    """

    class State(models.TextChoices):
        CREATED = "created", "Not sent yet"
        UNKNOWN = "unknown", "Being checked"
        ACTION_REQUIRED = "action_required", "Waits for confirmation by the customer"
        AUTHORISED = "authorised", "Authorised"
        CAPTURED = "captured", "Collected"
        VOIDED = "voided", "Voided"
        DECLINED = "declined", "Declined"

    LEADS_TO = {
        State.CREATED: {State.UNKNOWN, State.AUTHORISED, State.DECLINED, State.CAPTURED},
        State.UNKNOWN: {
            State.CREATED, State.AUTHORISED, State.DECLINED, State.CAPTURED, State.VOIDED,
        },
        State.AUTHORISED: {State.UNKNOWN, State.CAPTURED, State.VOIDED},
    }  # fmt: skip

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
    refunded = models.BigIntegerField(
        default=0, help_text="Given back or being given back, in the minor unit."
    )
    state = models.CharField(max_length=16, choices=State, default=State.CREATED)
    gateway_id = models.CharField(
        max_length=120, blank=True, help_text="What the gateway calls it."
    )
    tries = models.PositiveSmallIntegerField(
        default=0, help_text="Definite answers that allowed another attempt; part of the key."
    )
    next_look_at = models.DateTimeField(null=True)
    action_url = models.TextField(blank=True, help_text="Where the customer confirms it.")
    decline_code = models.CharField(max_length=60, blank=True)
    received_on = models.DateField(null=True)
    note = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = PaymentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(amount__gt=0), name="payment_amount_positive"),
            models.CheckConstraint(
                condition=Q(captured__gte=0) & Q(captured__lte=F("amount")),
                name="payment_captured_within_amount",
            ),
            models.CheckConstraint(
                condition=Q(refunded__gte=0) & Q(refunded__lte=F("captured")),
                name="payment_refunded_within_captured",
            ),
            models.UniqueConstraint(
                fields=["organization"],
                condition=Q(
                    invoice__isnull=False,
                    state__in=["created", "unknown", "action_required", "authorised"],
                ),
                name="payment_collects_once_at_a_time",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="payment_of_organization"),
            models.Index(
                fields=["next_look_at"],
                condition=Q(state__in=["created", "unknown", "action_required"]),
                name="payment_to_look_at",
            ),
            models.Index(
                fields=["gateway_id"], condition=~Q(gateway_id=""), name="payment_at_gateway"
            ),
        ]

    def __str__(self):
        return self.public_id

    @transaction.atomic
    def move(self, to, *, at, detail="", **facts):
        """Go from the state this object was read in to `to`, and leave a PaymentEvent.

        Raises PaymentMoved when another process was here first, or when no such step exists.
        """
        if to not in self.LEADS_TO.get(self.state, ()):
            raise PaymentMoved(f"{self} does not go from {self.state} to {to}.")
        found = Payment.objects.filter(pk=self.pk, state=self.state)
        if not found.update(state=to, **facts):
            raise PaymentMoved(f"{self} is no longer {self.state}.")
        self.events.create(from_state=self.state, to_state=to, detail=detail, at=at)
        self.state = to
        for name, value in facts.items():
            setattr(self, name, value)

    def collect(self, captured, *, at):
        """Write that the gateway collected `captured`: state, books, and the order's receipt.

        Call under `Standing.lock()`.
        """
        standing = Standing.lock(self.organization)
        self.move(self.State.CAPTURED, at=at, captured=captured)
        Entry.objects.post(
            standing, Entry.Kind.PAYMENT, -captured,
            against=Account.CASH, at=at, description=self.public_id,
        )  # fmt: skip
        if self.order_id:
            self._write_receipt(at=at)

    def _write_receipt(self, *, at):
        """The money is ours whatever the books say, so a difference is told to the operator instead."""
        Activity.objects.record(
            self.organization, "paid", subject=self, by=GATEWAY, at=at,
            after={"amount": self.captured, "order": self.order.public_id},
        )  # fmt: skip
        try:
            with transaction.atomic():
                Invoice.objects.issue_receipt(self.order, captured=self.captured, at=at)
        except BooksDisagree:
            logger.exception("No receipt for %s", self)

    def again(self, *, amount, received_on):
        """This transfer, recorded a second time; refuses one that differs under the same reference."""
        if (self.amount, self.received_on) != (amount, received_on):
            raise TransferRefused(
                f"“{self.note}” was recorded already: {money(self.amount, self.currency)} "
                f"that arrived on {day(self.received_on)}."
            )
        return self


class PaymentEvent(models.Model):
    """One transition of a payment."""

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events")
    from_state = models.CharField(max_length=16)
    to_state = models.CharField(max_length=16)
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
