"""The steps of an order that needs somebody outside our database (design §7).

Write the intent and commit; call; write the outcome and commit. No call is made inside a transaction.
Before a call the row says `unknown`, so whoever finds it after a crash asks by our reference before
anything is repeated. A turn is a lease on `next_look_at`: one process at a time advances an order, and
a killed one's order is looked at again when the lease has run out.
"""

from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from chirp_dashboard.billing.gateways import Outcome as GatewayOutcome
from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.models import Invoice, Payment, Standing
from chirp_dashboard.numbers.carriers import Outcome, carrier_named
from chirp_dashboard.organizations.models import Actor, Mail
from chirp_dashboard.organizations.refusals import Refused

from .delivery import deliver

LEASE = timedelta(seconds=60)
POLL = timedelta(seconds=15)
SOON = timedelta(seconds=1)
SILENCE = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1))
CONFIRM_WITHIN = timedelta(minutes=60)
CONFIRM_POLL = timedelta(minutes=1)
NOT_CONFIRMED = "The payment was not confirmed within 60 minutes."
SYSTEM = Actor.system("orders")


def pause(age):
    """How long to leave an order of that age alone while the other side answers: a young one is watched."""
    return min(max(age, SOON), POLL)


class TurnLost(Exception):
    """Another process has the order: the lease ran out before the answer came."""


class Advances:
    """What `Order` does after it was placed."""

    def advance(self, *, at):
        """Take every step that can be taken now. Safe to repeat, to interrupt, and to run twice at once."""
        if not self.is_open or not self._take_turn(at=at):
            return
        try:
            while self.is_open and self._step(at=at):
                pass
        except TurnLost:
            self.refresh_from_db()

    @property
    def may_settle_soon(self):
        """Is an answer likely within seconds? Not while nobody answers, or the customer has to act."""
        asked = self.payments.filter(state=Payment.State.ACTION_REQUIRED)
        return self.is_open and not self.attempts and not asked.exists()

    def wake(self, *, at):
        """Look at this order now, unless a process has it or will within the minute.

        While the customer is to confirm a payment, a turn only asks, so that one is taken at once. What
        was given to the operator for silence is taken up again: somebody has spoken.
        """
        stuck = type(self).objects.filter(pk=self.pk, state=self.State.STUCK).first()
        if stuck:
            stuck.resume(by=SYSTEM, at=at)
        asks_only = Q(payments__state=Payment.State.ACTION_REQUIRED)
        idle = Q(next_look_at__gt=at + LEASE) | (asks_only & Q(state=self.State.PLACED))
        woken = type(self).objects.filter(idle, pk=self.pk, state__in=self.OPEN).values("pk")
        type(self).objects.filter(pk__in=woken, state__in=self.OPEN).update(next_look_at=at)
        self.refresh_from_db()
        self.advance(at=at)

    def _step(self, *, at):
        """Take one step; False when there is something to wait for."""
        step = {
            self.State.PLACED: self._authorise,
            self.State.AUTHORISED: self._order_lines,
            self.State.ORDERED: self._finish_lines,
        }[self.state]
        return step(at=at)

    @transaction.atomic
    def resume(self, *, by, at):
        """Put an order out of the operator's queue back to the step it was stuck at, to be looked at now.

        Raises Refused for an order that is not stuck.
        """
        stuck = type(self).objects.filter(pk=self.pk, state=self.State.STUCK)
        step = self._step_of_recovery()
        if not stuck.update(state=step, reason="", attempts=0, next_look_at=at):
            raise Refused(f"{self} is not waiting for an operator.")
        self.refresh_from_db()
        self.note(self.State.STUCK, at=at, by=by)

    def _step_of_recovery(self):
        """The step whose work is not done, read from the payment and the lines."""
        payment = self.payments.order_by("-id").first()
        if payment and payment.is_waiting:
            return self.State.PLACED
        if any(line.state == line.State.PLACED for line in self.lines.all()):
            return self.State.AUTHORISED
        return self.State.ORDERED

    def _take_turn(self, *, at):
        """Lease this order; False when another process has it or it is not time to look yet."""
        taken = (
            type(self)
            .objects.filter(pk=self.pk, state__in=self.OPEN, next_look_at__lte=at)
            .update(next_look_at=at + LEASE)
        )
        self.refresh_from_db()
        return bool(taken)

    def _keep_turn(self):
        """Lock this order in the caller's transaction, before anything is written of what was answered.

        Raises TurnLost when the lease ran out and another process has taken it.
        """
        ours = type(self).objects.select_for_update(no_key=True)
        if not ours.filter(pk=self.pk, state=self.state, next_look_at=self.next_look_at):
            raise TurnLost(f"{self} is advanced by another process.")

    def _move(self, state, *, at, reason=""):
        """Go to `state` in the caller's transaction and leave an activity row."""
        self._keep_turn()
        before, self.state, self.reason = self.state, state, reason
        self.attempts, self.next_look_at = 0, at + LEASE
        if not self.is_open:
            self.next_look_at, self.settled_at = None, at
        self.save(update_fields=["state", "reason", "attempts", "next_look_at", "settled_at"])
        self.note(before, at=at, by=SYSTEM)
        return True

    def _wait(self, *, at, silent):
        """Look again later: soon while the other side answers, ever later while it is silent.

        But not past the moment at which what is authorised has to be collected.
        """
        if silent and self.attempts >= len(SILENCE):
            with transaction.atomic():
                self._move(self.State.STUCK, at=at, reason="No answer. An operator looks into it.")
                Mail.objects.alarm(
                    "order_stuck", key=f"stuck-{self.public_id}-{at}", at=at, order=self
                )
            return False
        with transaction.atomic():
            self._keep_turn()
            rest = SILENCE[self.attempts] if silent else pause(at - self.placed_at)
            self.next_look_at = self._before_the_end(at + rest, at=at)
            self.attempts += silent
            self.save(update_fields=["attempts", "next_look_at"])
        return False

    def _before_the_end(self, moment, *, at):
        payment = self.payments.filter(state=Payment.State.AUTHORISED).order_by("-id").first()
        if payment is None or payment.collect_by <= at:
            return moment
        return min(moment, payment.collect_by)

    # placed → authorised: the gateway

    def _authorise(self, *, at):
        payment = self.payments.order_by("-id").first()
        if payment is None:
            with transaction.atomic():
                return self._move(self.State.AUTHORISED, at=at)
        answer = self._ask_to_authorise(payment, at=at)
        if answer.outcome == GatewayOutcome.UNKNOWN:
            return self._wait(at=at, silent=True)
        if answer.state == "action_required":
            return self._wait_for_confirmation(payment, answer, at=at)
        with transaction.atomic():
            standing = Standing.lock(self.organization)
            self._keep_turn()
            if answer.state in {"authorised", "captured"}:
                payment.move(Payment.State.AUTHORISED, at=at, **payment.note_answer(answer))
                return self._move(self.State.AUTHORISED, at=at)
            return self._decline(payment, answer, standing=standing, at=at)

    def _ask_to_authorise(self, payment, *, at):
        gateway = gateway_for(self)
        if payment.state == Payment.State.ACTION_REQUIRED:
            known = gateway.look_up(payment)
            if known.state == "action_required" and payment.is_overdue(CONFIRM_WITHIN, at=at):
                return gateway.void(payment)
            return known
        if payment.state == Payment.State.UNKNOWN:  # it was sent; the answer never came
            known = gateway.look_up(payment)
            if known.state != "missing":
                return known
            with transaction.atomic():
                self._keep_turn()
                payment.move(
                    Payment.State.CREATED, at=at, detail="the gateway does not know it",
                    tries=payment.tries + 1,
                )  # fmt: skip
        if payment.state == Payment.State.CREATED:
            with transaction.atomic():
                self._keep_turn()
                payment.move(Payment.State.UNKNOWN, at=at, detail="sent")
        return gateway.authorise(payment)

    def _wait_for_confirmation(self, payment, answer, *, at):
        """The customer's bank asks: the numbers are kept for an hour, and whoever ordered them is told."""
        with transaction.atomic():
            Standing.lock(self.organization)
            self._keep_turn()
            payment.ask_for_confirmation(answer, to=self.told_to(), at=at)
            self.attempts, self.next_look_at = 0, at + CONFIRM_POLL
            self.save(update_fields=["attempts", "next_look_at"])
        return False

    def _decline(self, payment, answer, *, standing, at):
        """Nothing will be collected, so nothing is delivered; claims and the day's cap are free again."""
        was_asked = payment.state == Payment.State.ACTION_REQUIRED
        payment.decline(answer, at=at)
        for line in self.lines.all():
            self._give_up(line, line.State.FAILED, reason="Payment declined")
        self._release_reserve(standing, delivered=0)
        cancelled = NOT_CONFIRMED if was_asked else "The payment was cancelled."
        reason = answer.reason or cancelled
        return self._move(self.State.DECLINED, at=at, reason=reason)

    def _release_reserve(self, standing, *, delivered):
        """What the order reserved is settled; what was not delivered no longer counts as spent."""
        standing.settle(self.total)
        standing.unspend(self.total - delivered, on=self.placed_on)

    # authorised → ordered: the carriers

    def _order_lines(self, *, at):
        lines = [line for line in self.lines.all() if line.state == line.State.PLACED]
        for line in lines:
            if carrier_named(line.carrier).is_local:
                self._record(line, carrier_named(line.carrier).order(line), at=at)
                continue
            with transaction.atomic():
                self._keep_turn()
                line.state = line.State.UNKNOWN
                line.save(update_fields=["state"])
            self._record(line, carrier_named(line.carrier).order(line), at=at)
        with transaction.atomic():
            return self._move(self.State.ORDERED, at=at)

    # ordered → settled

    def _finish_lines(self, *, at):
        if not self._collect_before_the_end(at=at):
            return self._wait(at=at, silent=True)
        live = [line for line in self.lines.all() if line.is_live]
        answers = [self._ask_about(line, at=at) for line in live]
        if any(line.is_live for line in live):
            return self._wait(at=at, silent=Outcome.UNKNOWN in answers)
        return self._settle(at=at)

    def _ask_about(self, line, *, at):
        """Ask the carrier by our reference what became of `line`; order it again only if it never arrived."""
        carrier = carrier_named(line.carrier)
        answer = carrier.look_up(line)
        if answer.outcome == Outcome.NO and line.state == line.State.UNKNOWN:
            with transaction.atomic():
                self._keep_turn()
            answer = carrier.order(line)
        self._record(line, answer, at=at)
        return answer.outcome

    @transaction.atomic
    def _record(self, line, answer, *, at):
        """Write what the carrier said of one line; a delivered one commits on its own."""
        if answer.outcome == Outcome.YES:
            standing = Standing.lock(self.organization)
            self._keep_turn()
            deliver(self, [line], standing=standing, at=at)
            return
        self._keep_turn()
        if answer.outcome == Outcome.PENDING:
            line.state = line.State.ORDERED
            line.save(update_fields=["state"])
        elif answer.outcome == Outcome.NO:
            self._give_up(line, line.State.UNAVAILABLE, reason=answer.reason)

    def _give_up(self, line, state, *, reason):
        """End a line that will not be delivered and free its claim."""
        line.state, line.reason = state, reason
        line.save(update_fields=["state", "reason"])
        carrier_named(line.carrier).let_go([line])

    def _collect_before_the_end(self, *, at):
        """Collect what is delivered while the authorisation holds; False while the gateway is silent.

        Comes before the carriers are asked: what is collected is what was delivered when it was first
        tried, however often. Lines that are delivered later are authorised anew, by the invoice that
        asks for them.
        """
        payment = self.payments.order_by("-id").first()
        if payment is None or not payment.is_ending(at=at):
            return True
        return self._collect(payment, self._due(), at=at)

    def _due(self):
        """What its delivered lines come to."""
        return self.with_tax(sum(line.due for line in self.lines.all() if line.is_delivered))

    def _settle(self, *, at):
        """Collect what was delivered, free the rest, and close the order."""
        lines, delivered = list(self.lines.all()), self._due()
        payment = self.payments.order_by("-id").first()
        if payment and not self._collect(payment, delivered, at=at):
            return self._wait(at=at, silent=True)
        states = {line.is_delivered for line in lines}
        with transaction.atomic():
            standing = Standing.lock(self.organization)
            self._keep_turn()
            self._release_reserve(standing, delivered=delivered)
            if payment:
                Invoice.objects.issue_for_order(self, at=at)  # of what came after it was collected
            if states == {True}:
                return self._move(self.State.COMPLETED, at=at)
            if states == {False}:
                return self._move(self.State.FAILED, at=at, reason="No number could be delivered.")
            return self._move(self.State.PARTLY_COMPLETED, at=at)

    def _collect(self, payment, delivered, *, at):
        """Capture `delivered`, or let go of all of it; True once the gateway has confirmed one of both.

        What was delivered and cannot be collected this way (too small a sum, an authorisation that
        lapsed) is asked for by an invoice of its own, which the gateway collects like any other.
        """
        if payment.state != Payment.State.AUTHORISED:
            return True
        known = self._ask_to_collect(payment, delivered)
        if known.state not in {"captured", "voided", "declined", "missing"}:
            return False
        with transaction.atomic():
            Standing.lock(self.organization)
            self._keep_turn()
            if known.state == "captured":
                payment.collect(known.captured, at=at)
            else:
                payment.move(Payment.State.VOIDED, at=at, detail=known.reason)
                Invoice.objects.issue_for_order(self, at=at)
        return True

    def _ask_to_collect(self, payment, delivered):
        """What has become of the authorisation, after the one call that should end it."""
        gateway = gateway_for(self)
        known = gateway.look_up(payment)
        if known.state != "authorised":
            return known
        if delivered and delivered >= gateway.minimum(self.currency):
            known = gateway.capture(payment, delivered)
            if known.outcome != GatewayOutcome.NO or known.state != "authorised":
                return known
        return gateway.void(payment)
