"""Attempts to move money outside our database: what payments and refunds share.

Write the intent and commit; call; write the outcome and commit. Before a call the row says `unknown`,
so whoever finds it after a crash asks by our reference before anything is repeated. A turn is a lease on
`next_look_at`: one process at a time advances an attempt, and a killed one's is looked at again when the
lease has run out.
"""

from datetime import timedelta

from django.db import transaction
from django.db.models import F, Q

from chirp_dashboard.billing.gateways import Outcome
from chirp_dashboard.organizations.models import Mail

from .books import Standing

LEASE = timedelta(seconds=60)
SILENCE = (timedelta(minutes=5), timedelta(hours=1), timedelta(days=1))
NO_ANSWER = "no answer"


class Moved(Exception):
    """The row is not in the state it was read in, or its state does not lead there."""


class TurnLost(Exception):
    """Another process has it: the lease ran out before the answer came."""


class Attempt:
    """Immutable facts and a guarded state; `move()` is the only way from one state to another."""

    LEADS_TO = {}
    WAITING = ()  # the states in which there is something to send or to ask
    ANSWERS = ()  # what a gateway may say of it that settles something; anything else is silence

    @transaction.atomic
    def move(self, to, *, at, detail="", **facts):
        """Go from the state this object was read in to `to`, and leave an event.

        Raises Moved when another process was here first, or when no such step exists.
        """
        if to not in self.LEADS_TO.get(self.state, ()):
            raise self.Moved(f"{self} does not go from {self.state} to {to}.")
        if to not in self.WAITING:
            facts = {"next_look_at": None} | facts
        found = type(self).objects.filter(pk=self.pk, state=self.state)
        if not found.update(state=to, **facts):
            raise self.Moved(f"{self} is no longer {self.state}.")
        self.events.create(from_state=self.state, to_state=to, detail=detail[:200], at=at)
        self.state = to
        for name, value in facts.items():
            setattr(self, name, value)

    @property
    def is_waiting(self):
        return self.state in self.WAITING

    def advance(self, *, at):
        """Take every step that can be taken now. Safe to repeat, to interrupt, and to run twice at once."""
        if self._take_turn(Q(next_look_at__lte=at), at=at):
            self._use_turn(at=at)

    def look_again(self, *, at):
        """Ask the gateway now, unless a process is at it or will be within the minute."""
        not_taken = Q(next_look_at__lte=at) | Q(next_look_at__gt=at + LEASE) | Q(next_look_at=None)
        if self._take_turn(not_taken, at=at):
            self._use_turn(at=at)

    def _take_turn(self, free, *, at):
        waiting = type(self).objects.filter(free, pk=self.pk, state__in=self.WAITING)
        taken = waiting.update(next_look_at=at + LEASE)
        self.refresh_from_db()
        return bool(taken)

    def _use_turn(self, *, at):
        try:
            while self.is_waiting and self._step(at=at):
                pass
        except TurnLost:
            self.refresh_from_db()

    def _keep_turn(self):
        """Lock this row in the caller's transaction, before anything is written of what was answered.

        Raises TurnLost when the lease ran out and another process has taken it.
        """
        ours = type(self).objects.select_for_update(no_key=True)
        if not ours.filter(pk=self.pk, state=self.state, next_look_at=self.next_look_at):
            raise TurnLost(f"{self} is advanced by another process.")

    def _write(self, answer, *, at):
        """Write what the gateway said; silence is waited out. Returns False: there is nothing to do now."""
        is_definite = answer.state in self.ANSWERS or answer.outcome is Outcome.NO
        if answer.outcome is Outcome.UNKNOWN or not is_definite:
            self._wait_in_silence(answer.reason, at=at)
            return False
        with transaction.atomic():
            Standing.lock(self.organization)
            self._keep_turn()
            self._become(answer, at=at)
        return False

    def _begin_anew(self, *, at):
        """What was sent is not known there: it is sent again, with the same key.

        The process that sent it may only be slow; with another key both would collect.
        """
        with transaction.atomic():
            self._keep_turn()
            self.move(
                self.State.CREATED,
                at=at,
                detail="the gateway does not know it",
                tries=self.tries + 1,
            )
        return True

    @transaction.atomic
    def _wait_in_silence(self, reason="", *, at):
        """Look again ever later; in the end an operator has to, and the state stays as unknown as it is."""
        self._keep_turn()
        silent = self.events.filter(from_state=F("to_state")).count()
        self.events.create(
            from_state=self.state, to_state=self.state, detail=(reason or NO_ANSWER)[:200], at=at
        )
        self._look_at(at + SILENCE[silent] if silent < len(SILENCE) else None)
        if self.next_look_at is None:
            self._alarm("gateway_silent", at=at, about=silent)

    def _look_at(self, moment):
        self.next_look_at = moment
        self.save(update_fields=["next_look_at"])

    def _alarm(self, kind, *, at, about=""):
        """Tell the operator, in the caller's transaction; once for the same thing."""
        Mail.objects.alarm(
            kind, key=f"{kind}-{self.public_id}-{about}"[:200], at=at, attempt=self, about=about,
            organization_name=self.organization.name, what=self._meta.verbose_name,
        )  # fmt: skip
