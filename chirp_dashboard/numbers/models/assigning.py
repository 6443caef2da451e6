"""What a phone number does with applications: assign, remove, move."""

from django.apps import apps
from django.db import transaction
from django.db.models import F

from chirp_dashboard.numbers.notifying import notify
from chirp_dashboard.organizations.models import WebhookEvent, person_of
from chirp_dashboard.organizations.refusals import Refused


class AssignmentRefused(Refused):
    """The number cannot be assigned to that application; the text says why."""


class NotAssigned(Refused):
    """The number was not, or is no longer, assigned to that application."""


class Assigns:
    """What `PhoneNumber` does with assignments, under locks in the order of `PhoneNumber.lock()`."""

    @transaction.atomic
    def assign(self, application, *, by, at):
        """Assign this number to `application` of the same organization; it may have others as well."""
        application.lock()
        self.lock()
        return self._assign(application, by=by, at=at)

    @transaction.atomic
    def remove(self, application, *, by, at, because="removed"):
        """End the assignment to `application`. The organization keeps the number and goes on paying for it."""
        self.lock()
        ended = self.assignments.open().filter(application=application)
        if not ended.update(ended_at=at, ended_because=because):
            raise NotAssigned(f"{self} is not assigned to {application}.")
        self._count(-1)
        self._tell(WebhookEvent.REMOVED, application, at=at, ended_at=at)
        if because == "removed":
            self._note("removed", by=by, at=at, before={"application": application.name})

    @transaction.atomic
    def move(self, source, target, *, by, at):
        """Remove this number from `source` and assign it to `target` in one step, without a gap."""
        if source == target:
            raise AssignmentRefused(f"{self} is in {target} already. Choose another application.")
        for application in sorted([source, target], key=lambda each: each.pk):
            application.lock()
        self.remove(source, by=by, at=at, because="moved")
        self._assign(target, by=by, at=at, note=False)
        self._note(
            "moved", by=by, at=at,
            before={"application": source.name}, after={"application": target.name},
        )  # fmt: skip

    def _tell(self, event, application=None, *, at, ended_at=None):
        """Let `application`, or every one this number is assigned to, hear of `event`."""
        notify(event, [self.pk], application=application, at=at, ended_at=ended_at)

    def _assign(self, application, *, by, at, note=True, tell=True):
        self._check_assignable(application)
        assignment = apps.get_model("numbers", "Assignment").objects.create(
            organization=self.organization,
            phone_number=self,
            application=application,
            number=self.number,
            assigned_at=at,
            assigned_by=person_of(by),
        )
        self._count(+1)
        if tell:
            self._tell(WebhookEvent.ASSIGNED, application, at=at)
        if note:
            self._note("assigned", by=by, at=at, after={"application": application.name})
        return assignment

    def _check_assignable(self, application):
        """Every reason against an assignment, under the locks of both rows."""
        if application.organization_id != self.organization_id:
            raise AssignmentRefused("That application belongs to another organization.")
        if application.is_archived:
            raise AssignmentRefused(f"{application} is archived.")
        if application.is_paused:
            raise AssignmentRefused(f"{application} is suspended until what is due is paid.")
        if self.is_released:
            raise AssignmentRefused(f"{self} was released. Undo the release first.")
        if self.is_suspended:
            raise AssignmentRefused(f"{self} is suspended until the open invoice is paid.")
        if self.is_test != (application.kind == "test"):
            raise AssignmentRefused(
                "Live numbers go to live applications, test numbers to test applications."
            )
        if self.assignments.open().filter(application=application).exists():
            raise AssignmentRefused(f"{self} is already assigned to {application}.")

    def _count(self, change):
        type(self).objects.filter(pk=self.pk).update(
            assignment_count=F("assignment_count") + change
        )
        self.assignment_count += change
