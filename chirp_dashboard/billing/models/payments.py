"""Payments: one attempt to collect one order or invoice through a gateway."""

import logging
from datetime import timedelta

from django.db import models, transaction
from django.db.models import F, Q, Sum
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS, Outcome, gateway_for
from chirp_dashboard.organizations.models import Activity, Actor, Mail, Organization
from chirp_dashboard.organizations.public_ids import PublicIdField
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day, money
from chirp_dashboard.sweeps import for_each

from .attempts import Attempt, Moved
from .books import Account, Entry, Standing
from .invoices import BooksDisagree, Invoice

logger = logging.getLogger(__name__)


REFERENCE_LENGTH = 80
GATEWAY = Actor.system("payments")
CONFIRM_WITHIN = timedelta(hours=23)  # so that the ladder's attempt of the next day finds none open
CONFIRM_POLL = timedelta(hours=1)


class TransferRefused(Refused):
    """The transfer makes no sense; the text says why. Nothing was written."""


class PaymentRefused(Refused):
    """There is nothing to collect, or it cannot be now; the text says why. Nothing was written."""


class CardMissing(PaymentRefused):
    """The gateway collects from a saved card, and there is none."""

    needs_card = True

    def __init__(self):
        super().__init__("There is no card to collect from. Save one first.")


class PaymentMoved(Moved):
    """The payment is not in the state it was read in, or its state does not lead there."""


class PaymentQuerySet(models.QuerySet):
    def of_invoices(self):
        return self.filter(invoice__isnull=False)

    def in_flight(self):
        return self.of_invoices().filter(state__in=Payment.IN_FLIGHT)

    def begin(self, invoice, *, at):
        """Write the intent to collect `invoice` and what is due on older ones; `advance()` sends it.

        Returns the Payment, or None when there is nothing to collect or it cannot be collected now: it
        is below what the gateway collects and waits for the next invoice, one is in flight, or there is
        no card, which the organization is told once.
        """
        try:
            return self._begin(invoice, by=GATEWAY, at=at)
        except CardMissing:
            Mail.objects.write(
                invoice.organization, "card_missing", key=f"card-missing-{invoice.public_id}",
                at=at, invoice=invoice,
            )  # fmt: skip
        except PaymentRefused:
            pass
        return None

    @transaction.atomic
    def pay_now(self, invoice, *, amount, after, by, at):
        """Begin to collect `invoice` because `by` asked for it at the `amount` (minor unit) shown.

        `after` is the public id of the latest attempt that was shown, "" for none: if there has been
        another since, by a second click or by a sweep, that one is returned and nothing is begun.
        Raises PaymentRefused.
        """
        Standing.lock(invoice.organization)
        latest = self.latest_attempt(invoice.organization)
        if latest and (latest.is_waiting or latest.public_id != after):
            return latest
        due = self.amount_due(invoice)
        if due != amount:
            raise PaymentRefused(
                f"What is due changed since you looked: it is {money(due, invoice.currency)} now. "
                "Nothing was collected."
            )
        return self._begin(invoice, by=by, at=at)

    def latest_attempt(self, organization):
        """The latest attempt of `organization` to pay invoices, if any."""
        return self.of_invoices().filter(organization=organization).order_by("-id").first()

    def amount_due(self, invoice):
        """What is due on `invoice` and on older ones of the same organization."""
        older = Q(due_on__lt=invoice.due_on) | Q(due_on=invoice.due_on, number__lte=invoice.number)
        unpaid = Invoice.objects.filter(older, organization=invoice.organization_id).unpaid()
        return unpaid.order_by().aggregate(sum=Sum(F("total") - F("paid"), default=0))["sum"]

    @transaction.atomic
    def _begin(self, invoice, *, by, at):
        organization = Standing.lock(invoice.organization).organization
        gateway, amount = gateway_for(organization), self.amount_due(invoice)
        self._check_collectable(gateway, organization, amount)
        number = self.filter(invoice=invoice).count() + 1
        payment = self.create(
            organization=organization,
            invoice=invoice,
            gateway=gateway.name,
            reference=f"{invoice.public_id}-{number}",
            amount=amount,
            currency=invoice.currency,
            next_look_at=at,
            created_at=at,
        )
        Activity.objects.record(
            organization, "payment_begun", subject=payment, by=by, at=at,
            after={"amount": amount, "invoice": invoice.number},
        )  # fmt: skip
        return payment

    def _check_collectable(self, gateway, organization, amount):
        if not gateway.collects_invoices:
            raise PaymentRefused("Invoices are paid by transfer here.")
        if not amount:
            raise PaymentRefused("Nothing is due.")
        if self.in_flight().filter(organization=organization).exists():
            raise PaymentRefused("A payment is being made already.")
        least = gateway.minimum(organization.currency)
        if amount < least:
            raise PaymentRefused(
                f"{money(amount, organization.currency)} is less than can be collected, "
                f"{money(least, organization.currency)}. It is added to the next invoice."
            )
        if not gateway.can_collect(organization):
            raise CardMissing

    def collect_due(self, *, at):
        """Begin the first attempt for every organization whose due invoices had none; returns how many.

        Later attempts are the ladder's, or somebody's who presses the button.
        """
        collecting = [gateway.name for gateway in GATEWAYS.values() if gateway.collects_invoices]
        owing = Invoice.objects.unpaid().order_by().values("organization")
        payers = Organization.objects.filter(gateway__in=collecting, pk__in=owing).order_by("pk")

        def begin(organization):
            return bool(self._begin_first(organization, at=at))

        return for_each(payers, begin, failure="could not be asked to pay")

    def _begin_first(self, organization, *, at):
        due = organization.invoices.filter(due_on__lte=organization.local_date(at)).unpaid()
        newest = due.last()
        if newest is None or newest.payments.exclude(state=Payment.State.VOIDED).exists():
            return None
        return self.begin(newest, at=at)

    def advance_due(self, *, at, limit=100):
        """Send or look up every payment of an invoice whose time has come; returns how many."""

        def advance(payment):
            payment.advance(at=at)
            return 1

        due = self.in_flight().filter(next_look_at__lte=at).order_by("next_look_at")[:limit]
        return for_each(due, advance, failure="could not be advanced")

    @transaction.atomic
    def record_transfer(self, organization, *, amount, received_on, reference, by, at):
        """Record that `amount` (minor unit) of `organization` arrived; it pays the oldest invoices.

        What is over stays as credit and pays later ones. The same `reference` again returns the
        payment recorded first. Raises TransferRefused.
        """
        Standing.lock(organization)
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
        payment.collect(amount, at=at, by=by)
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


class Payment(Attempt, models.Model):
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

    @property
    def left(self):
        """What of it can still be given back."""
        return self.captured - self.refunded

    # Collecting an invoice

    def advance(self, *, at):
        """Take every step that can be taken now. Safe to repeat, to interrupt, and to run twice at once."""
        if self.order_id:
            self.order.advance(at=at)
            self.refresh_from_db()
            return
        super().advance(at=at)

    def look_again(self, *, at):
        """Ask the gateway now and write what it says, whatever state the payment is in."""
        if self.order_id:
            self.order.wake(at=at)
            self.refresh_from_db()
        else:
            super().look_again(at=at)
        if self.state in {self.State.DECLINED, self.State.VOIDED}:
            self._look_for_money(at=at)

    def _look_for_money(self, *, at):
        """Money that came in after all is ours, though the payment was given up."""
        known = gateway_for(self).look_up(self)
        if known.state != "captured":
            return
        with transaction.atomic():
            Standing.lock(self.organization)
            self.refresh_from_db()
            if self.state != self.State.CAPTURED:
                self._collect_from(known, at=at)

    def _step(self, *, at):
        """Take one step; False when there is something to wait for."""
        step = {
            self.State.CREATED: self._send,
            self.State.UNKNOWN: self._look_up,
            self.State.ACTION_REQUIRED: self._look_for_confirmation,
        }[self.state]
        return step(at=at)

    def _send(self, *, at):
        with transaction.atomic():
            Standing.lock(self.organization)
            self._keep_turn()
            if not self._is_due():
                self.move(self.State.VOIDED, at=at, detail="paid meanwhile, never sent")
                return False
            self.move(self.State.UNKNOWN, at=at, detail="sent")
        return self._write(gateway_for(self).collect(self), at=at)

    def _look_up(self, *, at):
        known = gateway_for(self).look_up(self)
        if known.outcome is Outcome.YES and known.state == "missing":
            return self._begin_anew(at=at)
        return self._write(known, at=at)

    def _look_for_confirmation(self, *, at):
        """Has the customer confirmed it? Let go of it when it took too long or is no longer due."""
        gateway = gateway_for(self)
        known = gateway.look_up(self)
        if known.state == "action_required" and (
            self.is_overdue(CONFIRM_WITHIN, at=at) or not self._is_due()
        ):
            known = gateway.void(self)
        return self._write(known, at=at)

    def is_overdue(self, within, *, at):
        """Has the customer been asked to confirm it longer ago than `within`?"""
        asked = self.events.filter(to_state=self.State.ACTION_REQUIRED).exclude(
            from_state=self.State.ACTION_REQUIRED
        )
        return asked.order_by("-id").values_list("at", flat=True).first() + within <= at

    def _is_due(self):
        return Payment.objects.amount_due(self.invoice) >= self.amount

    def _become(self, answer, *, at):
        """Write the definite `answer` about a payment of an invoice. Call under both locks."""
        if answer.state == "captured":
            self._collect_from(answer, at=at)
        elif answer.state == "action_required":
            self.ask_for_confirmation(answer, at=at)
            self._look_at(at + CONFIRM_POLL)
        elif answer.state == "voided" and not self._is_due():
            self.move(self.State.VOIDED, at=at, detail="paid meanwhile")
        else:
            self.decline(answer, at=at)

    def note_answer(self, answer):
        """The facts an answer adds to the payment."""
        return {"gateway_id": answer.gateway_id} if answer.gateway_id else {}

    def ask_for_confirmation(self, answer, *, to=None, at):
        """The gateway wants the customer to confirm: say so, once."""
        if self.state == self.State.ACTION_REQUIRED:
            return
        self.move(
            self.State.ACTION_REQUIRED,
            at=at,
            action_url=answer.action_url,
            **self.note_answer(answer),
        )
        Mail.objects.write(
            self.organization, "payment_action", key=f"action-{self.public_id}-{self.tries}",
            to=to, at=at, payment=self,
        )  # fmt: skip

    def decline(self, answer, *, at):
        """Write that it was definitely not collected, and tell the customer what that means."""
        reason = answer.reason or "It was not confirmed in time."
        self.move(
            self.State.DECLINED, at=at, detail=reason, decline_code=answer.code[:60],
            **self.note_answer(answer),
        )  # fmt: skip
        Activity.objects.record(
            self.organization, "payment_declined", subject=self, by=GATEWAY, at=at,
            after={"amount": self.amount, "reason": reason},
        )  # fmt: skip
        if self.invoice_id:
            Mail.objects.write(
                self.organization, "payment_failed", key=f"failed-{self.public_id}", at=at,
                payment=self, invoice=self.invoice, reason=reason,
            )  # fmt: skip

    # Money that came in

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
