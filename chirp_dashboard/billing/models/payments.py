"""Payments: one attempt to collect one order or invoice through a gateway."""

import logging
from datetime import timedelta

import pgtrigger
from django.db import models, transaction
from django.db.models import Exists, F, OuterRef, Q, Subquery
from django.utils import timezone

from chirp_dashboard.organizations.models import (
    INSERT_ONLY,
    Activity,
    Mail,
    Organization,
    refuse,
)
from chirp_dashboard.organizations.public_ids import PublicIdField

from .attempts import Moved
from .books import Account, Entry, Standing
from .collecting import GATEWAY, Collectable, Collects
from .invoices import BooksDisagree, Invoice
from .transfers import Transferred, Transfers

logger = logging.getLogger(__name__)

WINDOW = timedelta(days=7)
"""How long an authorisation of a card holds."""
ONE_DAY = timedelta(days=1)


class PaymentMoved(Moved):
    """The payment is not in the state it was read in, or its state does not lead there."""


class PaymentQuerySet(Collectable, Transfers, models.QuerySet):
    def ending(self, *, at):
        """Authorised ones that hold for less than a day."""
        ending = Q(created_at__gt=at - WINDOW, created_at__lte=at - WINDOW + ONE_DAY)
        return self.filter(ending, state=Payment.State.AUTHORISED)

    def last_asked_at(self, gateway):
        """When the latest of those that `gateway` has not answered was first sent; None: none waits.

        Nor does one organization's that was given up to an operator: it is stuck, the gateway need not be.
        A payment of an order is looked at with the order.
        """
        asked = [Payment.State.CREATED, Payment.State.UNKNOWN]
        sent = PaymentEvent.objects.filter(to_state=Payment.State.UNKNOWN, payment=OuterRef("pk"))
        unanswered = self.filter(Exists(sent), gateway=gateway, state__in=asked)
        is_looked_at = Q(next_look_at__isnull=False) | Q(order__next_look_at__isnull=False)
        payers = unanswered.order_by().values("organization").distinct()
        if len(payers[:2]) < 2 and not unanswered.filter(is_looked_at).exists():
            return None
        first = sent.order_by("id").values("at")[:1]
        return unanswered.order_by("-pk").values_list(Subquery(first), flat=True).first()


class Payment(Transferred, Collects, models.Model):
    """Immutable facts and a guarded state; `move()` is the only way from one state to another.

    `reference` is ours, stored before anything is sent; it is how an unknown outcome is looked up. A
    payment of an order is advanced by its order, one of an invoice by itself.
    """

    Moved = PaymentMoved

    class State(models.TextChoices):
        CREATED = "created", "Not sent yet"
        UNKNOWN = "unknown", "Being checked"
        ACTION_REQUIRED = "action_required", "Waits for confirmation by the customer"
        AUTHORISED = "authorised", "Authorised"
        CAPTURED = "captured", "Collected"
        VOIDED = "voided", "Voided"
        DECLINED = "declined", "Declined"

    ANSWERS = ("captured", "action_required", "voided", "declined", "missing")
    WAITING = (State.CREATED, State.UNKNOWN, State.ACTION_REQUIRED)
    IN_FLIGHT = (*WAITING, State.AUTHORISED)

    # What the gateway collected is ours even if we had given the payment up.
    LEADS_TO = {
        State.CREATED: {State.UNKNOWN, State.AUTHORISED, State.DECLINED, State.CAPTURED, State.VOIDED},
        State.UNKNOWN: {
            State.CREATED, State.ACTION_REQUIRED, State.AUTHORISED, State.DECLINED, State.CAPTURED,
            State.VOIDED,
        },
        State.ACTION_REQUIRED: {State.AUTHORISED, State.DECLINED, State.CAPTURED, State.VOIDED},
        State.AUTHORISED: {State.UNKNOWN, State.CAPTURED, State.VOIDED},
        State.DECLINED: {State.CAPTURED},
        State.VOIDED: {State.CAPTURED},
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
        default=0, help_text="How often it was sent again after the gateway did not know it."
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
        triggers = [
            pgtrigger.ReadOnly(
                name="facts",
                exclude=[
                    "state", "captured", "refunded", "gateway_id", "tries", "next_look_at",
                    "action_url", "decline_code",
                ],
            ),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]  # fmt: skip

    def __str__(self):
        return self.public_id

    @property
    def collect_by(self):
        """A day before an authorisation that was asked for with this payment ends."""
        return self.created_at + WINDOW - ONE_DAY

    def is_ending(self, *, at):
        """Is it authorised, and has to be collected now because that ends within a day, or has ended?"""
        return self.state == self.State.AUTHORISED and self.collect_by <= at

    @property
    def left(self):
        """What of it can still be given back."""
        return self.captured - self.refunded

    def _collect_from(self, answer, *, at):
        """Write what the gateway says it collected; a sum that makes no sense is for the operator."""
        if not 0 < answer.captured <= self.amount:
            self._look_at(None)
            self._alarm("payment_differs", at=at, about=f"{answer.captured} of {self.amount}")
            return
        self.collect(answer.captured, at=at, **self.note_answer(answer))

    def collect(self, captured, *, at, by=GATEWAY, **facts):
        """Write that `captured` (minor unit) came in: state, books, what it pays, and the mail.

        Call under `Standing.lock()`. The money is ours whatever the books say.
        """
        standing = Standing.lock(self.organization)
        self.move(self.State.CAPTURED, at=at, captured=captured, **facts)
        Entry.objects.post(
            standing, Entry.Kind.PAYMENT, -captured,
            against=Account.CASH, at=at, description=self.public_id,
        )  # fmt: skip
        paid = (
            self._write_receipt(at=at)
            if self.order_id
            else Invoice.objects.apply_money(self.organization)
        )
        Activity.objects.record(
            self.organization, "paid", subject=self, by=by, at=at,
            after=self._what_it_paid(paid) | {"balance": standing.balance},
        )  # fmt: skip
        Mail.objects.write(
            self.organization, "payment_received", key=f"received-{self.public_id}", at=at,
            payment=self, invoices=paid,
        )  # fmt: skip

    def _what_it_paid(self, invoices):
        what = {"amount": self.captured, "invoices": [invoice.number for invoice in invoices]}
        if self.received_on:
            what |= {"reference": self.note, "received_on": str(self.received_on)}
        return what | ({"order": self.order.public_id} if self.order_id else {})

    def _write_receipt(self, *, at):
        """The order's receipt; where sums differ, an invoice that the money pays, and the operator is told."""
        try:
            with transaction.atomic():
                return [Invoice.objects.issue_receipt(self.order, captured=self.captured, at=at)]
        except BooksDisagree as difference:
            logger.exception("No receipt for %s", self)
            self._alarm("payment_differs", at=at, about=str(difference))
        invoice = Invoice.objects.issue_for_order(self.order, at=at)
        paid = Invoice.objects.apply_money(self.organization)
        return [invoice, *paid] if invoice else paid


class PaymentEventQuerySet(models.QuerySet):
    def last_answer_at(self, gateway):
        """When `gateway` last said anything definite of a payment; waiting in silence is a step, too."""
        asked = (Payment.State.CREATED, Payment.State.UNKNOWN)
        answers = self.filter(payment__gateway=gateway).exclude(
            Q(from_state=Payment.State.CREATED)
            | Q(to_state__in=asked)
            | Q(from_state=F("to_state"))
        )
        return answers.order_by("-id").values_list("at", flat=True).first()


class PaymentEvent(models.Model):
    """One transition of a payment."""

    payment = models.ForeignKey(Payment, on_delete=models.PROTECT, related_name="events")
    from_state = models.CharField(max_length=16)
    to_state = models.CharField(max_length=16)
    detail = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    objects = PaymentEventQuerySet.as_manager()

    class Meta:
        triggers = [INSERT_ONLY]

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
