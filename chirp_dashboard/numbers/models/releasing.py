"""Giving a number back, thinking better of it, and bringing it back (design §6)."""

from dataclasses import dataclass, replace
from datetime import date, timedelta

from django.apps import apps
from django.db import transaction

from chirp_dashboard.billing.models import Charge, Rental, RentalPrice, Standing
from chirp_dashboard.billing.models.starting import RentalTerms
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.numbers.carriers import carrier_named
from chirp_dashboard.organizations.models import Actor, WebhookEvent
from chirp_dashboard.organizations.refusals import Refused

UNDO_FOR = timedelta(days=14)
NOW, PERIOD_END = "now", "period_end"
SYSTEM = Actor.system("releases")


class ReleaseRefused(Refused):
    """The number cannot be released, or its release not be changed; the text says why."""


@dataclass(frozen=True)
class ReleasePreview:
    """What a release would end and cost, before anybody clicks. Sums are in the minor unit."""

    applications: list
    today: date
    period_end: date
    monthly: int
    refund: int = 0  # the running period is not refunded
    undo_days: int = UNDO_FOR.days


@dataclass(frozen=True)
class UndoPreview:
    """What bringing a released number back costs and restores."""

    terms: RentalTerms
    restored: list
    not_restored: list

    @property
    def cost(self):
        return self.terms.first_amount

    @property
    def is_paid_already(self):
        return self.terms.first_amount == 0 and self.terms.amount > 0


class Releases:
    """What `PhoneNumber` does to end and to begin again."""

    @property
    def undo_until(self):
        """The moment after which a release is final; None for a number that is not released.

        That of a test number is final at once: it is added again as cheaply. So is that of a refunded one.
        """
        is_final = self.released_at is None or self.is_test or self.was_refunded
        return None if is_final else self.released_at + UNDO_FOR

    def is_over(self, *, at):
        """Has the last day of a scheduled release passed where the organization is?"""
        return self.is_releasing and self.releases_on <= self.organization.local_date(at)

    def open_rental(self):
        return self.rentals.order_by("-id").first()

    def preview_release(self, *, on):
        """What releasing on the local date `on` ends and costs."""
        _, period_end = (on, on) if self.is_test else self.open_rental().period_containing(on)
        return ReleasePreview(
            applications=[a.application for a in self._open_assignments()],
            today=on,
            period_end=self.releases_on or period_end,
            monthly=self.rental_amount,
        )

    @transaction.atomic
    def release(self, *, when, by, at, expected_end=None):
        """Give this number back at the end of the running period, or `when="now"`.

        Raises ReleaseRefused for a locked, released, or (at period end) already releasing number,
        and when the period the person saw, which ends on `expected_end`, is no longer the running one.
        A period that has begun is owed; nothing that has been paid is refunded.
        """
        Standing.lock(self.organization)
        self.lock()
        self._check_releasable(when)
        today = self.organization.local_date(at)
        if self.is_test:  # nothing was paid, so there is no period to wait for
            self._finish_release(today, by=by, at=at)
            return
        rental = self.open_rental()
        self._check_period_seen(rental, expected_end, on=today)
        if when == NOW:
            rental.charge_periods_begun(today, at=at)
            ends_on = min(today, rental.ends_on or today)  # the last day may have passed unswept
        else:
            _, ends_on = rental.period_containing(today)
        self._end_rental(rental, ends_on)
        if ends_on <= today:
            self._finish_release(ends_on, by=by, at=at)
        else:
            self._change("releasing", {"releases_on": ends_on}, by=by, at=at)
            self._tell(WebhookEvent.RELEASING, at=at)

    @transaction.atomic
    def cancel_release(self, *, by, at):
        """Keep the number after all; possible until the local midnight it was to end at."""
        Standing.lock(self.organization)
        self.lock()
        if not self.is_releasing:
            raise ReleaseRefused(f"{self} is not being released.")
        if self.organization.local_date(at) >= self.releases_on:
            raise ReleaseRefused(f"{self} has reached its last day. Undo the release instead.")
        self._end_rental(self.open_rental(), None)
        self._change("kept", {"releases_on": None}, by=by, at=at)

    @transaction.atomic
    def complete_release(self, *, at):
        """Finish a scheduled release whose last day has come; True if there was one to finish."""
        Standing.lock(self.organization)
        self.lock()
        if not self.is_over(at=at):
            return False
        self._finish_release(self.releases_on, by=SYSTEM, at=at)
        return True

    def end_for_good(self, *, by, at):
        """Give this number back now, locked or not, and charge what the run has not charged of it yet.

        In the caller's transaction, under `Standing.lock()`.
        """
        self.lock()
        today = self.organization.local_date(at)
        if not self.is_released:
            rental = self.open_rental()
            self._end_rental(rental, min(today, rental.ends_on or today))
            self._finish_release(today, by=by, at=at)
        for rental in self.rentals.all():
            rental.charge_periods_begun(today, at=at)

    @property
    def was_refunded(self):
        line = getattr(self, "order_line", None)
        return line is not None and line.is_refunded

    def preview_undo(self, *, on):
        """What undoing the release on the local date `on` costs and restores."""
        ended = self._assignments_ended_by_release()
        return UndoPreview(
            terms=self._terms_of_return(on),
            restored=[a.application for a in ended if not a.application.is_archived],
            not_restored=[a.application for a in ended if a.application.is_archived],
        )

    @transaction.atomic
    def undo_release(self, *, by, at, expected_cost=None):
        """Bring the number back with label and assignments, without a new purchase fee.

        A new rental starts today at the price the number would have by now, and what is announced for
        later applies to it; days already paid for are not charged again, and the gap never is.
        Assignments to archived applications stay ended: returned in the UndoPreview as
        `not_restored`. Raises ReleaseRefused, also when it no longer costs what the
        person saw (`expected_cost`, minor unit), CreditLimitReached, or Refused when the number is
        gone.
        """
        standing = Standing.lock(self.organization)
        self._lock_applications_to_restore()
        self.lock()
        self._check_returnable(at=at)
        today = self.organization.local_date(at)
        undo = self.preview_undo(on=today)
        if expected_cost not in {None, undo.cost}:
            raise ReleaseRefused(f"What it costs to bring {self} back changed since you looked.")
        total = undo.cost + tax_on(undo.cost, standing.organization.tax_rate)
        standing.check_purchase(total, on=today)
        carrier_named(self.carrier).take_back(self, at=at)
        released_at, last = self.released_at, self.open_rental()
        values = self._state_of_return(standing) | {"releases_on": None, "released_at": None}
        if undo.terms.amount != self.rental_amount:
            values["rental_amount"] = undo.terms.amount
        self._change(
            "undone",
            values,
            by=by,
            at=at,
            note={
                "restored": [application.name for application in undo.restored],
                "not_restored": [application.name for application in undo.not_restored],
            },
        )
        standing.spend(total, on=today)
        Rental.objects.start(
            self.organization,
            [undo.terms],
            on=standing.posting_date(today),
            at=at,
            description=f"Release of {self.organization.local_date(released_at):%-d %b %Y} undone",
        )
        RentalPrice.objects.carry_over(last, to=self.open_rental(), on=today)
        self._add_to_totals(+1)
        for application in undo.restored:
            self._assign(application, by=by, at=at, note=False, tell=False)
        self._tell(WebhookEvent.RESTORED, at=at)
        return undo

    # parts

    def _check_releasable(self, when):
        if when not in {NOW, PERIOD_END}:
            raise ValueError(f"release(when={when!r})")
        if self.is_released:
            raise ReleaseRefused(f"{self} was released already.")
        if self.release_locked:
            raise ReleaseRefused(f"{self} is locked against release. Switch the lock off first.")
        if when == PERIOD_END and self.is_releasing:
            raise ReleaseRefused(
                f"{self} is being released on {self.releases_on:%-d %b %Y} already."
            )

    def _check_period_seen(self, rental, expected_end, *, on):
        end = self.releases_on or rental.period_containing(on)[1]
        if expected_end not in {None, end}:
            raise ReleaseRefused(f"The running period of {self} is another since you looked.")

    def _check_returnable(self, *, at):
        if not self.is_released:
            raise ReleaseRefused(f"{self} is not released.")
        if self.is_test:
            raise ReleaseRefused("A test number is not brought back. Add it again; it is free.")
        if self.was_refunded:
            raise ReleaseRefused(f"{self} was refunded, so it is not brought back.")
        if at >= self.undo_until:
            raise ReleaseRefused(
                f"{self} was released more than {UNDO_FOR.days} days ago and cannot be brought back."
            )

    def _lock_applications_to_restore(self):
        """Lock them before the number, so that none is archived meanwhile.

        A released number is brought back only under `Standing.lock()`, so they stay the same.
        """
        self.refresh_from_db()
        for assignment in sorted(
            self._assignments_ended_by_release(), key=lambda each: each.application_id
        ):
            assignment.application.lock()

    def _end_rental(self, rental, ends_on):
        rental.ends_on = ends_on
        rental.save(update_fields=["ends_on"])

    def _finish_release(self, ends_on, *, by, at):
        """The number is given back: assignments end, the carrier is told, totals fall."""
        self._tell(WebhookEvent.RELEASED, at=at)
        ended = self.assignments.open().update(ended_at=at, ended_because="released")
        self._add_to_totals(-1)
        carrier_named(self.carrier).release(self, at=at)
        self._change(
            "released",
            {
                "state": self.State.RELEASED,
                "releases_on": ends_on,
                "released_at": at,
                "assignment_count": 0,
            },
            by=by,
            at=at,
            note={"assignments_ended": ended},
        )

    def _terms_of_return(self, on):
        """The rental after an undo on `on`: nothing for days that are paid, else like a purchase."""
        last = self.rentals.order_by("-id").first()
        paid_until = (
            Charge.objects.filter(phone_number=self, kind=Charge.Kind.RENTAL)
            .order_by("-period_end")
            .values_list("period_end", flat=True)
            .first()
        )
        terms = RentalTerms.from_purchase(
            self.pk,
            fee=None,
            amount=last.price_for(on),
            interval_months=self.interval_months,
            billing_day=self.organization.billing_day,
            on=on,
        )
        if paid_until is None or paid_until <= on:
            return terms
        return replace(terms, anchor=last.anchor, first_end=paid_until, first_amount=0)

    def _state_of_return(self, standing):
        """Active, whatever it was before; suspended where everything of the organization is."""
        if standing.suspended_at is None:
            return {"state": self.State.ACTIVE, "suspended_on": None}
        on = self.organization.local_date(standing.suspended_at)
        return {"state": self.State.SUSPENDED, "suspended_on": on}

    def _assignments_ended_by_release(self):
        return list(
            self.assignments.filter(ended_at=self.released_at, ended_because="released")
            .select_related("application")
            .order_by("id")
        )

    def _open_assignments(self):
        return self.assignments.open().select_related("application").order_by("id")

    def _add_to_totals(self, change):
        apps.get_model("numbers", "Totals").objects.change(
            self.organization,
            numbers=change,
            monthly=change * self.rental_amount if self.interval_months == 1 else 0,
        )
