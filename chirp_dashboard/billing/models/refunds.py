"""Refunds: money given back of what a payment collected."""

from datetime import timedelta

import pgtrigger
from django.db import models, transaction
from django.db.models import F, Q
from django.utils import timezone

from chirp_dashboard.billing.gateways import Outcome, gateway_for
from chirp_dashboard.organizations.models import (
    INSERT_ONLY,
    Activity,
    Actor,
    Mail,
    Organization,
)
from chirp_dashboard.organizations.public_ids import PublicIdField, public_id
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import money
from chirp_dashboard.sweeps import for_each

from .attempts import Attempt, Moved
from .books import Account, Entry, Standing
from .invoices import Invoice
from .payments import Payment

GATEWAY = Actor.system("refunds")
REASON_LENGTH = 200
PENDING_POLL = timedelta(hours=1)


class RefundRefused(Refused):
    """The refund makes no sense; the text says why. Nothing was written."""


class RefundMoved(Moved):
    """The refund is not in the state it was read in, or its state does not lead there."""


class RefundQuerySet(models.QuerySet):
    @transaction.atomic
    def begin(self, payment, *, amount, reason, by, at, credit_note=None):
        """Decide to give `amount` (minor unit) of `payment` back; `advance()` sends it.

        Only money that pays no invoice is given back: a credit note frees what an invoice has used. One
        of a transfer is recorded as done, for the operator has transferred it back. Raises
        RefundRefused.
        """
        standing = Standing.lock(payment.organization)
        payment.refresh_from_db()
        reason = " ".join(reason.split())
        self._check(payment, amount, reason, credit_note)
        payment.refunded = F("refunded") + amount
        payment.save(update_fields=["refunded"])
        payment.refresh_from_db(fields=["refunded"])
        ours = public_id("ref")
        refund = self.create(
            public_id=ours,
            organization=standing.organization,
            payment=payment,
            credit_note=credit_note,
            reference=ours,
            amount=amount,
            currency=payment.currency,
            reason=reason,
            next_look_at=at,
            created_at=at,
        )
        Activity.objects.record(
            standing.organization, "refund_begun", subject=refund, by=by, at=at,
            after={"amount": amount, "payment": payment.public_id, "reason": reason},
        )  # fmt: skip
        if gateway_for(payment).is_by_hand:
            refund.move(Refund.State.UNKNOWN, at=at, detail="transferred by the operator")
            refund.give_back(by=by, at=at)
        return refund

    def _check(self, payment, amount, reason, credit_note):
        if amount <= 0:
            raise RefundRefused("A refund is more than zero.")
        if not reason:
            raise RefundRefused("Write why it is given back; the mail says so.")
        if len(reason) > REASON_LENGTH:
            raise RefundRefused(f"A reason has at most {REASON_LENGTH} characters.")
        if credit_note and credit_note.organization_id != payment.organization_id:
            raise RefundRefused("The credit note belongs to another organization.")
        if amount > payment.left:
            left = money(payment.left, payment.currency)
            raise RefundRefused(f"{left} of what was paid can still be given back.")
        unused = max(Invoice.objects.unused_money(payment.organization), 0)
        if amount > unused:
            raise RefundRefused(
                f"Invoices are paid with that money; {money(unused, payment.currency)} is free to be "
                "given back. Credit an invoice first."
            )

    def advance_due(self, *, at, limit=100):
        """Send or look up every refund whose time has come; returns how many."""

        def advance(refund):
            refund.advance(at=at)
            return 1

        due = self.filter(state__in=Refund.WAITING, next_look_at__lte=at)
        return for_each(due.order_by("next_look_at")[:limit], advance, failure="could not advance")


class Refund(Attempt, models.Model):
    """One attempt to give back part of a payment: immutable facts and a guarded state.

    `reference` is ours, stored before anything is sent. What is being given back counts in
    `payment.refunded` from the moment it was decided, so no two refunds can pass what was paid.
    """

    class State(models.TextChoices):
        CREATED = "created", "Not sent yet"
        UNKNOWN = "unknown", "Being checked"
        REFUNDED = "refunded", "Given back"
        FAILED = "failed", "Failed"

    Moved = RefundMoved
    ANSWERS = ("refunded", "failed", "missing", "pending")
    WAITING = (State.CREATED, State.UNKNOWN)

    # A bank may send back what was given back already.
    LEADS_TO = {
        State.CREATED: {State.UNKNOWN},
        State.UNKNOWN: {State.CREATED, State.REFUNDED, State.FAILED},
        State.REFUNDED: {State.FAILED},
    }

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

    objects = RefundQuerySet.as_manager()

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

    def look_again(self, *, at):
        """Ask the gateway now and write what it says; also of one that was given back already."""
        super().look_again(at=at)
        if self.state == self.State.REFUNDED and not gateway_for(self.payment).is_by_hand:
            self._look_for_return(at=at)

    def _look_for_return(self, *, at):
        """A bank may return the money days after the gateway sent it."""
        known = gateway_for(self.payment).look_up_refund(self)
        if known.state != "failed":
            return
        with transaction.atomic():
            Standing.lock(self.organization)
            self.refresh_from_db()
            if self.state == self.State.REFUNDED:
                self._fail(known, at=at)

    def _step(self, *, at):
        """Take one step; False when there is something to wait for."""
        gateway = gateway_for(self.payment)
        if self.state == self.State.CREATED:
            with transaction.atomic():
                self._keep_turn()
                self.move(self.State.UNKNOWN, at=at, detail="sent")
            return self._write(gateway.refund(self), at=at)
        known = gateway.look_up_refund(self)
        if known.outcome is Outcome.YES and known.state == "missing":
            return self._begin_anew(at=at)
        return self._write(known, at=at)

    def _become(self, answer, *, at):
        """Write the definite `answer`. Call under both locks."""
        if answer.gateway_id:
            self.gateway_id = answer.gateway_id
            self.save(update_fields=["gateway_id"])
        if answer.state == "refunded":
            self.give_back(by=GATEWAY, at=at)
        elif answer.state == "pending":
            self._look_at(at + PENDING_POLL)
        else:
            self._fail(answer, at=at)

    def give_back(self, *, by, at):
        """Write that the customer has the money back. Call under `Standing.lock()`."""
        self.move(self.State.REFUNDED, at=at)
        self._post(self.amount, at=at)
        Activity.objects.record(
            self.organization, "refunded", subject=self, by=by, at=at,
            after={"amount": self.amount, "payment": self.payment.public_id, "reason": self.reason},
        )  # fmt: skip
        Mail.objects.write(
            self.organization, "payment_refunded", key=f"refunded-{self.public_id}", at=at,
            refund=self, payment=self.payment,
        )  # fmt: skip

    def _post(self, amount, *, at):
        standing = Standing.lock(self.organization)
        Entry.objects.post(
            standing, Entry.Kind.REFUND, amount,
            against=Account.CASH, at=at, description=self.public_id,
        )  # fmt: skip

    def _fail(self, answer, *, at):
        """The money was not given back: it is the customer's credit again, and the operator's to settle."""
        was_given = self.state == self.State.REFUNDED
        self.move(self.State.FAILED, at=at, detail=answer.reason)
        if was_given:
            self._post(-self.amount, at=at)
        Payment.objects.filter(pk=self.payment_id).update(refunded=F("refunded") - self.amount)
        Invoice.objects.apply_money(self.organization)
        Activity.objects.record(
            self.organization, "refund_failed", subject=self, by=GATEWAY, at=at,
            after={"amount": self.amount, "reason": answer.reason},
        )  # fmt: skip
        self._alarm("refund_failed", at=at, about=answer.reason)


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
