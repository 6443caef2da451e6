"""Dunning: what happens, step by step and announced beforehand, when rent is not paid (design §8).

No rung is taken because of the date alone. Time counts towards the next one only while the walk comes
by regularly, the notice of the last one has gone out, no operator holds it and no payment is being
checked. So an outage of the mail server, the gateway, the worker or the clock can only make it later.
"""

from dataclasses import dataclass
from datetime import timedelta

from django.contrib.postgres.expressions import ArraySubquery
from django.db import models, transaction
from django.db.models import Exists, Max, OuterRef, Q
from django.db.models.functions import JSONObject
from django.utils.functional import cached_property

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.organizations.models import INSERT_ONLY, Activity, Actor, Mail, Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day
from chirp_dashboard.sweeps import for_each

from .books import Charge, Standing
from .invoices import Invoice
from .payments import Payment, PaymentEvent
from .rungs import LAST, RUNGS, Act, coming, interval, taken

SYSTEM = Actor.system("unpaid rent")
LONGEST_REASON = 200

ASLEEP = timedelta(minutes=30)
"""Time between two walks that are further apart than this does not count: somebody was out."""

SILENT_FOR = timedelta(minutes=10)
NO_TIME, ONE_DAY = timedelta(), timedelta(days=1)

BEING_CHECKED = (Payment.State.CREATED, Payment.State.UNKNOWN, Payment.State.AUTHORISED)
VERBS = {
    Act.REMIND: "reminded",
    Act.STOP_PURCHASES: "purchases_stopped",
    Act.SUSPEND: "suspension_begun",
    Act.RELEASE: "release_begun",
}


class DunningRefused(Refused):
    """The dunning cannot be held, resumed or ended like this; the text says why."""


@dataclass(frozen=True)
class Arrears:
    """What `organization` should have paid by its local date; credits it was given count as paid, with
    the tax that the next invoice will give back on them.

    What was due when an operator ended its last dunning is left out: that was let go.
    """

    organization: Organization
    invoices: list
    amount: int

    @classmethod
    def of(cls, standing, *, on):
        organization = standing.organization
        due = Invoice.objects.filter(organization=organization, due_on__lte=on).unpaid()
        if let_go := Dunning.objects.let_go_until(organization):
            due = due.filter(due_on__gt=let_go)
        invoices = list(due)
        amount = sum(invoice.due for invoice in invoices)
        if invoices:
            amount += cls._credited(standing)
        return cls(organization, invoices, amount)

    @staticmethod
    def _credited(standing):
        """What credits that are on no invoice yet will take away, as a sum below zero."""
        credits = Charge.objects.uninvoiced(standing).filter(
            kind=Charge.Kind.CREDIT, billing_date=None
        )
        net = credits.total()
        return net + tax_on(net, standing.organization.tax_rate)

    @property
    def gateway(self):
        return gateway_for(self.organization)

    @property
    def oldest(self):
        return self.invoices[0]

    @property
    def newest(self):
        return self.invoices[-1]

    @property
    def is_owed(self):
        """Is it more than nothing, and enough for the gateway to collect?"""
        least = max(1, self.gateway.minimum(self.organization.currency))
        return bool(self.invoices) and self.amount >= least

    @property
    def tries_card(self):
        """Is there a card to collect it from, so that each rung begins with an attempt?"""
        return self.gateway.collects_invoices and self.gateway.can_collect(self.organization)

    @property
    def attempts(self):
        """Payments that were to collect invoices of the organization."""
        return Payment.objects.filter(organization=self.organization, invoice__isnull=False)

    def is_being_checked(self):
        """Is an attempt on its way, its outcome not known?"""
        return self.attempts.filter(state__in=BEING_CHECKED).exists()

    def waits_for_customer(self):
        """Does an attempt wait for the customer to confirm it? Payments give that up within a day."""
        return self.attempts.filter(state=Payment.State.ACTION_REQUIRED).exists()

    def is_refused(self):
        """Was an attempt to collect any of it definitely declined?"""
        declined = self.attempts.filter(state=Payment.State.DECLINED)
        return declined.filter(invoice__in=self.invoices).exists()

    def is_refused_on(self, on):
        """Was an attempt definitely declined on the local date `on`?"""
        declined = PaymentEvent.objects.filter(
            payment__in=self.attempts, to_state=Payment.State.DECLINED
        )
        last = declined.order_by("-id").first()
        return last is not None and self.organization.local_date(last.at) == on

    def gateway_is_silent(self, *, at):
        """Was the gateway asked something, by whomever, and has answered nobody since?

        A payment that it is silent about while it answers others, or the only one, once an operator has
        to look at it, holds its own organization only.
        """
        if not self.gateway.collects_invoices:
            return False
        asked_at = Payment.objects.last_asked_at(self.gateway.name)
        if asked_at is None:
            return False
        answered_at = PaymentEvent.objects.last_answer_at(self.gateway.name)
        return answered_at is None or answered_at < min(asked_at, at - SILENT_FOR)


def plan(organization, days, *, next_on, on=None):
    """The rungs taken on `days`, and those that come: the next one not before `next_on`, nor `on`."""
    collects = gateway_for(organization).collects_invoices
    rungs = taken(days, collects=collects)
    if next_on is None:
        return rungs
    first = max(next_on, on) if on else next_on
    return rungs + coming(len(rungs) - 1, on=first, collects=collects)


class DunningQuerySet(models.QuerySet):
    def open(self):
        return self.filter(ended_at=None)

    def framed(self):
        """What every page shows of it, as one JSON object each."""
        steps = DunningStep.objects.filter(dunning=OuterRef("pk")).order_by("rung")
        return self.values(
            data=JSONObject(
                due_on="due_on", next_on="next_on", held_until="held_until",
                taken_on=ArraySubquery(steps.values("taken_on")),
            )
        )  # fmt: skip

    def of(self, organization):
        """The open one of `organization`, or None."""
        return self.open().filter(organization=organization).first()

    def let_go_until(self, organization):
        """Invoices due by this day are dunned no more, because an operator ended it; or None."""
        ended = self.filter(organization=organization, ended_because=Dunning.End.OPERATOR)
        last = ended.aggregate(last=Max("ended_at"))["last"]
        return last and organization.local_date(last)

    def walk(self, *, at):
        """Begin, go on with and end every dunning as is due; returns how many rungs were taken.

        Each organization is a transaction of its own, and takes one rung at most.
        """

        def step(row):
            if isinstance(row, Dunning):
                return row.advance(at=at)
            return self._begin(row, at=at)

        open_ones = self.open().select_related("organization").order_by("id")
        rows = [*open_ones, *self._candidates(at=at)]
        return for_each(rows, step, failure="could not be dunned")

    def _candidates(self, *, at):
        """Organizations that something is due from, or will be within a day, and none is open for."""
        of_it = {"organization": OuterRef("pk")}
        due = Invoice.objects.unpaid().filter(due_on__lte=(at + ONE_DAY).date(), **of_it)
        return Organization.objects.filter(
            Exists(due.order_by()), ~Exists(self.open().filter(**of_it))
        ).order_by("pk")

    @transaction.atomic
    def _begin(self, organization, *, at):
        """Take the first rung if it is time; on collecting gateways only once an attempt was declined."""
        standing = Standing.lock(organization)
        arrears = Arrears.of(standing, on=standing.organization.local_date(at))
        if self.of(organization) or not arrears.is_owed or arrears.is_being_checked():
            return 0
        if arrears.tries_card and not arrears.is_refused():
            return 0  # the first attempt is made elsewhere
        if arrears.waits_for_customer() or arrears.gateway_is_silent(at=at):
            return 0
        dunning = self.model(
            organization=standing.organization, invoice=arrears.oldest,
            due_on=arrears.oldest.due_on, started_at=at,
        )  # fmt: skip
        dunning.save()
        dunning._take(0, standing, arrears, at=at)
        return 1


class Dunning(models.Model):
    """One organization's way down the ladder, from its oldest overdue invoice until that is paid.

    `rung` is the last one taken. While `held_until` is ahead an operator holds it where it is.
    `waited` is the time that counts towards the next rung, up to `watched_at`, the last walk; that is
    empty while something is in the way. `next_on` is the day the next rung is planned for, as shown.
    """

    class End(models.TextChoices):
        PAID = "paid", "Paid"
        OPERATOR = "operator", "Ended by an operator"

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
    waited = models.DurationField(default=NO_TIME)
    watched_at = models.DateTimeField(null=True)
    next_on = models.DateField(null=True)

    objects = DunningQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization"], condition=Q(ended_at=None), name="dunning_open_once"
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return f"Dunning of {self.organization} since {self.due_on}"

    # What is shown

    def schedule(self, *, on=None):
        """Every rung: those taken with their day, the others with the earliest day they can have.

        On the local date `on`, what should have come by now and did not is planned for today.
        """
        days = self.steps.order_by("rung").values_list("taken_on", flat=True)
        return plan(self.organization, days, next_on=self.next_on, on=on)

    def is_held(self, *, on):
        return self.held_until is not None and on < self.held_until

    # The walk

    @transaction.atomic
    def advance(self, *, at):
        """End when what it is about is paid, else take the next rung if it is time: 1 if it was."""
        standing = Standing.lock(self.organization)
        self._lock(standing)
        if self.ended_at:
            return 0
        today = self.organization.local_date(at)
        arrears = Arrears.of(standing, on=today)
        if not self.is_about(arrears):
            self._end(self.End.PAID, standing, by=SYSTEM, at=at)
            return 0
        is_free = self._watch(arrears, at=at)
        if not (is_free and self._is_time(on=today)) or arrears.waits_for_customer():
            return 0
        if arrears.tries_card and not arrears.is_refused_on(today):
            Payment.objects.begin(arrears.newest, at=at)  # with all that is older
            return 0
        self._take(self.rung + 1, standing, arrears, at=at)
        return 1

    def is_about(self, arrears):
        """Is what it began with still owed?"""
        return arrears.is_owed and self.invoice_id in {each.pk for each in arrears.invoices}

    def may_release(self, standing, *, on):
        """Is the last rung taken, nobody holds it, and it is still unpaid, as far as anybody knows?"""
        if self.rung != LAST or self.is_held(on=on):
            return False
        arrears = Arrears.of(standing, on=on)
        return self.is_about(arrears) and not arrears.is_being_checked()

    def _lock(self, standing):
        self.refresh_from_db(from_queryset=Dunning.objects.select_for_update(no_key=True))
        self.organization = standing.organization
        self.__dict__.pop("last_step", None)

    def _watch(self, arrears, *, at):
        """Count the time since the last walk, if it counts; True when nothing is in the way now."""
        today = self.organization.local_date(at)
        is_free = not (
            self.is_held(on=today) or arrears.is_being_checked() or arrears.gateway_is_silent(at=at)
        )
        passed = at - self.watched_at if self.watched_at else NO_TIME
        if is_free and NO_TIME < passed <= ASLEEP and self._was_announced(by=self.watched_at):
            self.waited += passed
        self.watched_at = at if is_free else None
        self._plan(at=at)
        self.save(update_fields=["waited", "watched_at", "next_on"])
        return is_free

    @cached_property
    def last_step(self):
        return self.steps.select_related("notice").get(rung=self.rung)

    def _was_announced(self, *, by):
        notice = self.last_step.notice
        return bool(notice and notice.sent_at and notice.sent_at <= by)

    def _is_time(self, *, on):
        """Has the whole interval since the last rung passed, in time that counts and in days?"""
        if self.rung >= LAST or self.waited < interval(self.rung + 1):
            return False
        return on >= self.last_step.taken_on + interval(self.rung + 1)

    def _plan(self, *, at):
        """Work out the earliest day of the next rung."""
        if self.rung >= LAST:
            self.next_on = None
            return
        needed = interval(self.rung + 1)
        today = self.organization.local_date(at)
        held = self.held_until - today if self.is_held(on=today) else NO_TIME
        counted = self.organization.local_date(at + max(needed - self.waited, NO_TIME)) + held
        self.next_on = max(counted, self.last_step.taken_on + needed)

    def _take(self, rung, standing, arrears, *, at):
        """Take `rung`: its act, its notice with all later dates, its row, in one transaction."""
        today = self.organization.local_date(at)
        self.rung, self.waited, self.watched_at = rung, NO_TIME, at
        self.next_on = None if rung == LAST else today + interval(rung + 1)
        if RUNGS[rung].act is Act.STOP_PURCHASES:
            standing.purchases_stopped_at = at
        elif RUNGS[rung].act is Act.SUSPEND:
            standing.suspended_at = at
        standing.save(update_fields=["purchases_stopped_at", "suspended_at"])
        notice = self._tell(RUNGS[rung].mail, rung, arrears, at=at)
        self.last_step = self.steps.create(rung=rung, taken_on=today, at=at, notice=notice)
        self.save()
        self._note(
            VERBS[RUNGS[rung].act], by=SYSTEM, at=at,
            after={"amount": arrears.amount, "due_on": str(self.due_on)},
        )  # fmt: skip

    def _end(self, because, standing, *, by, at, reason=""):
        """End it and restore everything it took."""
        self.ended_at, self.ended_because = at, because
        self.next_on = self.held_until = None
        self.save()
        standing.purchases_stopped_at = standing.suspended_at = None
        standing.save(update_fields=["purchases_stopped_at", "suspended_at"])
        arrears = Arrears.of(standing, on=self.organization.local_date(at))
        self._tell("dunning_ended", "ended", arrears, at=at)
        after = {"because": because} | ({"reason": reason} if reason else {})
        self._note("dunning_ended", by=by, at=at, after=after)

    def _tell(self, kind, what, arrears, *, at):
        """Write the mail that announces it; the next rung waits until it has been sent."""
        tries_card = arrears.tries_card
        collects = arrears.gateway.collects_invoices
        planned = coming(self.rung, on=self.next_on, collects=collects) if self.next_on else []
        return Mail.objects.write(
            self.organization, kind, key=f"dunning-{self.pk}-{what}", at=at,
            today=self.organization.local_date(at), dunning=self, arrears=arrears,
            coming=planned, tries_card=tries_card, is_paid_by_transfer=not collects,
        )  # fmt: skip

    def _note(self, verb, *, by, at, after):
        Activity.objects.record(
            self.organization, verb, subject=self.invoice, by=by, at=at, after=after
        )

    # The operator

    @transaction.atomic
    def hold(self, until, reason, *, by, at):
        """Take no further rung before the local date `until`; what was taken stays taken."""
        standing, reason = self._lock_open(), self._checked(reason)
        today = standing.organization.local_date(at)
        if until <= today:
            raise DunningRefused(f"It is {day(today)} there; hold it until a later day.")
        self.held_until, self.held_reason = until, reason
        self._plan(at=at)
        self.save(update_fields=["held_until", "held_reason", "next_on"])
        self._note("dunning_held", by=by, at=at, after={"until": str(until), "reason": reason})

    @transaction.atomic
    def resume(self, *, by, at):
        """Let it go on from where it was held; the time it was held does not count."""
        self._lock_open()
        if not self.is_held(on=self.organization.local_date(at)):
            raise DunningRefused(f"{self} is not held.")
        self.held_until = self.watched_at = None
        self._plan(at=at)
        self.save(update_fields=["held_until", "watched_at", "next_on"])
        self._note("dunning_resumed", by=by, at=at, after={})

    @transaction.atomic
    def end_by_operator(self, reason, *, by, at):
        """End it and restore everything; what is due by now is dunned no more."""
        standing, reason = self._lock_open(), self._checked(reason)
        self._end(self.End.OPERATOR, standing, by=by, at=at, reason=reason)

    def _lock_open(self):
        standing = Standing.lock(self.organization)
        self._lock(standing)
        if self.ended_at:
            raise DunningRefused(f"{self} has ended already.")
        return standing

    @staticmethod
    def _checked(reason):
        reason = " ".join(reason.split())
        if not reason:
            raise DunningRefused("Write why; it is kept in the history.")
        if len(reason) > LONGEST_REASON:
            raise DunningRefused(f"A reason has at most {LONGEST_REASON} characters.")
        return reason


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
