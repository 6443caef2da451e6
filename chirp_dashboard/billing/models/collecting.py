"""Collecting invoices: an attempt is begun, sent, looked up while unknown, and confirmed where a bank asks."""

from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q, Sum

from chirp_dashboard.billing.gateways import GATEWAYS, Outcome, gateway_for
from chirp_dashboard.organizations.models import Activity, Actor, Mail, Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import money
from chirp_dashboard.sweeps import for_each

from .attempts import Attempt
from .books import Standing
from .invoices import Invoice

GATEWAY = Actor.system("payments")
CONFIRM_WITHIN = timedelta(hours=23)  # so that the ladder's attempt of the next day finds none open
CONFIRM_POLL = timedelta(hours=1)


class PaymentRefused(Refused):
    """There is nothing to collect, or it cannot be now; the text says why. Nothing was written."""


class CardMissing(PaymentRefused):
    """The gateway collects from a saved card, and there is none."""

    needs_card = True

    def __init__(self):
        super().__init__("There is no card to collect from. Save one first.")


class Collectable:
    """What a queryset of payments does to collect invoices."""

    def of_invoices(self):
        return self.filter(invoice__isnull=False)

    def in_flight(self):
        return self.of_invoices().filter(state__in=self.model.IN_FLIGHT)

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
        if newest is None:
            return None
        # Money that came in for it and was needed for an older one is no attempt at what is left.
        over = (self.model.State.VOIDED, self.model.State.CAPTURED)
        if newest.payments.exclude(state__in=over).exists():
            return None
        return self.begin(newest, at=at)

    def advance_due(self, *, at, limit=100):
        """Send or look up every payment of an invoice whose time has come; returns how many."""

        def advance(payment):
            payment.advance(at=at)
            return 1

        due = self.in_flight().filter(next_look_at__lte=at).order_by("next_look_at")[:limit]
        return for_each(due, advance, failure="could not be advanced")


class Collects(Attempt):
    """What a payment of an invoice does until it is collected or given up."""

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
        return type(self).objects.amount_due(self.invoice) >= self.amount

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
        was_asked = self.state == self.State.ACTION_REQUIRED
        cancelled = "It was not confirmed in time." if was_asked else "It was cancelled."
        reason = answer.reason or cancelled
        self.move(
            self.State.DECLINED, at=at, detail=reason, decline_code=answer.code[:60],
            **self.note_answer(answer),
        )  # fmt: skip
        Activity.objects.record(
            self.organization, "payment_declined", subject=self, by=GATEWAY, at=at,
            after={"amount": self.amount, "reason": reason},
        )  # fmt: skip
        if self.invoice_id or was_asked:  # else somebody is looking at the order's page
            Mail.objects.write(
                self.organization, "payment_failed", key=f"failed-{self.public_id}", at=at,
                to=[self.order.placed_by.email] if self.order_id else None,
                payment=self, invoice=self.invoice, reason=reason,
            )  # fmt: skip
