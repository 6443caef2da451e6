"""The inbox: what gateways tell us, stored before it is worked."""

import logging
from datetime import timedelta

import pgtrigger
from django.db import connection, models, transaction
from django.db.models import F, Q

from chirp_dashboard.billing.gateways import GATEWAYS, Outcome, UnknownGateway
from chirp_dashboard.billing.gateways.listing import NoAnswer
from chirp_dashboard.organizations.models import Activity, Actor, Mail, refuse

from .customers import Customer, GatewaySilent
from .payments import Payment
from .refunds import Refund

logger = logging.getLogger(__name__)

BATCH = 100
LEASE = timedelta(minutes=5)
"""How long whoever works an event has it for itself; a killed worker's event is taken up after that."""

BACKOFF = tuple(timedelta(seconds=seconds) for seconds in (30, 120, 600, 3600, 6 * 3600))
"""How long to wait after the first failure, the second, …; after the last one an operator is told."""

SYSTEM = Actor.system("inbox")


class Unanswered(Exception):
    """The gateway gave no usable answer, so the event waits."""


class EventIgnored(Exception):
    """The event is about nothing of ours. The text says why."""


class NotHereYet(Exception):
    """The event carries a reference of ours and nothing here has it (yet)."""


class InboxQuerySet(models.QuerySet):
    def receive(self, gateway, notice, body, *, at):
        """Store an event as it was delivered, once; returns whether it is new and to be worked.

        One statement, so that what was answered with 200 survives any crash.
        """
        row = self.model(
            gateway=gateway.name, event_id=notice.event_id, type=notice.type,
            object_id=notice.object_id, body=body.decode(),
            happened_at=notice.happened_at, received_at=at, next_try_at=at,
        )  # fmt: skip
        if reason := gateway.reason_to_ignore(notice):
            row.state, row.error, row.next_try_at = self.model.State.IGNORED, reason, None
        return row.insert_once() and not reason

    def due(self, *, at):
        return self.filter(state=self.model.State.RECEIVED, next_try_at__lte=at)

    def work_due(self, *, at):
        """Work the oldest events that wait; returns how many were tried.

        One that fails is tried again later and keeps no other one waiting; a silent gateway is not
        asked about the rest before the next sweep.
        """
        done = 0
        for event in self.due(at=at).order_by("id")[:BATCH]:
            try:
                done += event.work(at=at)
            except Unanswered:
                break
        return done


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

    objects = InboxQuerySet.as_manager()

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

    def insert_once(self):
        """Insert this row unless the event is there already; was it inserted?"""
        fields = [field for field in self._meta.concrete_fields if not field.primary_key]
        columns = ", ".join(f'"{field.column}"' for field in fields)
        values = [
            field.get_db_prep_save(getattr(self, field.attname), connection) for field in fields
        ]
        statement = (
            f"INSERT INTO billing_inboxevent ({columns}) VALUES ({', '.join(['%s'] * len(fields))})"  # noqa: S608
            " ON CONFLICT (gateway, event_id) DO NOTHING"
        )
        with connection.cursor() as cursor:
            cursor.execute(statement, values)
            return bool(cursor.rowcount)

    def work(self, *, at):
        """Look at what this event is about; returns how many events that was a try for.

        The others that wait about the same object need no look of their own. What fails is tried again
        later; raises Unanswered, after that was written, when the gateway was silent.
        """
        if not (taken := self._take(at=at)):
            return 0
        try:
            self._look(at=at)
        except EventIgnored as reason:
            self._end(taken, self.State.IGNORED, at=at, error=str(reason))
        except Exception as failure:
            if not connection.is_usable():
                raise
            self._fail(taken, failure, at=at)
            if isinstance(failure, Unanswered):
                raise
        else:
            self._end(taken, self.State.WORKED, at=at)
        return len(taken)

    @transaction.atomic
    def _take(self, *, at):
        """Lease this event and those about the same object; their keys, or none if another has it."""
        about = Q(pk=self.pk)
        if self.object_id:
            about |= Q(gateway=self.gateway, object_id=self.object_id)
        due = InboxEvent.objects.due(at=at).filter(about).order_by("id")
        locked = due.select_for_update(no_key=True, skip_locked=True)
        taken = list(locked.values_list("pk", flat=True))
        if self.pk not in taken:
            return []
        InboxEvent.objects.filter(pk__in=taken).update(next_try_at=at + LEASE, tries=F("tries") + 1)
        return taken

    def _look(self, *, at):
        """Ask the gateway and write what it says."""
        gateway = GATEWAYS.get(self.gateway)
        if gateway is None:
            raise UnknownGateway(f"The gateway “{self.gateway}” is not set up here.")
        notice = gateway.read(self.body.encode())
        if reason := gateway.reason_to_ignore(notice):
            raise EventIgnored(reason)
        HANDLERS[notice.kind](gateway, notice, at=at)

    def _end(self, taken, state, *, at, error=""):
        open_ones = InboxEvent.objects.filter(pk__in=taken, state=self.State.RECEIVED)
        open_ones.update(state=state, worked_at=at, next_try_at=None, error=error[:200])

    @transaction.atomic
    def _fail(self, taken, failure, *, at):
        """Let each be tried again later; one that failed too often is for an operator."""
        if not isinstance(failure, (Unanswered, NotHereYet)):
            logger.error("Event %s could not be worked", self, exc_info=failure)
        error = f"{type(failure).__name__}: {failure}".replace("\0", "")[:200]
        for event in InboxEvent.objects.filter(pk__in=taken, state=self.State.RECEIVED):
            event.error = error
            if event.tries > len(BACKOFF):
                event.state, event.next_try_at = self.State.FAILED, None
                event._alarm(at=at)
            else:
                event.next_try_at = at + BACKOFF[event.tries - 1]
            event.save(update_fields=["error", "state", "next_try_at"])

    def _alarm(self, *, at):
        """Tell the operator, once a day however many events failed: an outage is one piece of news."""
        key = f"inbox-{self.gateway}-{at:%Y-%m-%d}"
        Mail.objects.alarm("inbox_alarm", key=key, at=at, event=self)

    @transaction.atomic
    def replay(self, *, by, at):
        """Have this event worked again, whatever became of it."""
        event = InboxEvent.objects.select_for_update(no_key=True).get(pk=self.pk)
        event.state, event.tries, event.worked_at = self.State.RECEIVED, 0, None
        event.next_try_at, event.error = at, f"Replayed by {by}"[:200]
        event.save(update_fields=["state", "tries", "worked_at", "next_try_at", "error"])
        logger.info("%s replayed by %s", event, by)


# What each kind of event leads to -------------------------------------------------------------


def look_at_payment(gateway, notice, *, at):
    payment = find(Payment, gateway, notice)
    if payment is None:
        raise missing(notice, "No payment of ours is about this.")
    payment.look_again(at=at)
    if payment.state in {Payment.State.CREATED, Payment.State.UNKNOWN}:
        raise Unanswered(f"{payment} is still being checked.")


def look_at_refund(gateway, notice, *, at):
    refund = find(Refund, gateway, notice)
    if refund is None:
        raise missing(notice, "No refund of ours; the daily comparison tells of others.")
    refund.look_again(at=at)
    if refund.events.filter(from_state=F("to_state"), at=at).exists():  # what silence leaves
        raise Unanswered(f"{refund} is still being checked.")


def look_at_dispute(gateway, notice, *, at):
    """A customer took money back through their bank: an operator must answer within days."""
    dispute = gateway.look_up_dispute(notice.object_id)
    if dispute.outcome is not Outcome.YES:
        raise Unanswered(dispute.reason)
    payment = find(Payment, gateway, notice) or find_by_invoice(gateway, notice)
    with transaction.atomic():
        told = Mail.objects.alarm(
            "dispute_alarm", key=f"dispute-{notice.object_id}-{dispute.state}", at=at,
            dispute=dispute, gateway=gateway.name, payment=payment,
        )  # fmt: skip
        if told and payment:
            Activity.objects.record(
                payment.organization, "disputed", subject=payment, by=SYSTEM, at=at,
                after={"dispute": notice.object_id, "state": dispute.state,
                       "reason": dispute.reason, "amount": dispute.captured},
            )  # fmt: skip


def look_at_card(gateway, notice, *, at):
    known = Customer.objects.filter(gateway=gateway.name).exclude(gateway_id="")
    customer = known.filter(gateway_id=notice.customer).first()
    if customer is None:
        raise EventIgnored("No customer of ours.")
    try:
        customer.refresh()
    except GatewaySilent as silence:
        raise Unanswered(str(silence)) from silence


HANDLERS = {
    "payment": look_at_payment,
    "refund": look_at_refund,
    "dispute": look_at_dispute,
    "card": look_at_card,
}


def find(model, gateway, notice):
    """The row of ours an event is about: by our reference, else by what the gateway calls it."""
    of_payment = "payment__" if model is Refund else ""
    rows = model.objects.filter(**{f"{of_payment}gateway": gateway.name})
    if notice.reference and (row := rows.filter(reference=notice.reference).first()):
        return row
    return rows.filter(gateway_id__in=notice.ids).first()


def find_by_invoice(gateway, notice):
    """A payment of an invoice is known here by the gateway's invoice, not by what paid that."""
    try:
        ids = list(gateway.invoices_paid_by(notice.ids))
    except NoAnswer as silence:
        raise Unanswered(str(silence)) from silence
    return Payment.objects.filter(gateway=gateway.name, gateway_id__in=ids).first()


def missing(notice, reason):
    """What to raise when nothing of ours is found: with a reference of ours it is waited for."""
    if notice.reference:
        return NotHereYet(f"Nothing here has the reference {notice.reference}.")
    return EventIgnored(reason)
