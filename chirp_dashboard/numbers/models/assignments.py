"""Assignments: which applications a number belongs to, since when, and until when."""

import pgtrigger
from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q

from chirp_dashboard.numbers.notifying import notify
from chirp_dashboard.organizations.models import (
    Activity,
    Application,
    Organization,
    WebhookEvent,
)
from chirp_dashboard.organizations.refusals import Refused

from .phone_numbers import PhoneNumber

FITTING = pgtrigger.Trigger(
    name="fitting",
    level=pgtrigger.Statement,
    when=pgtrigger.After,
    operation=pgtrigger.Insert,
    referencing=pgtrigger.Referencing(new="written"),
    func="""
        IF EXISTS (
            SELECT FROM written
            JOIN numbers_phonenumber number ON number.id = written.phone_number_id
            JOIN organizations_application application ON application.id = written.application_id
            WHERE number.organization_id <> written.organization_id
               OR application.organization_id <> written.organization_id
               OR number.is_test <> (application.kind = 'test')
        ) THEN
            RAISE EXCEPTION 'a number is assigned within its organization, live to live, test to test'
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    """,
)


class AssignmentQuerySet(models.QuerySet):
    def open(self):
        return self.filter(ended_at=None)

    @transaction.atomic
    def archive(self, application, *, by, at):
        """Archive `application`: its assignments end, its numbers stay in the organization.

        Returns how many assignments ended. Its slug stays taken. Raises Refused when it is archived.
        """
        application.lock()
        if application.is_archived:
            raise Refused(f"{application} is archived already.")
        numbers = self._lock_numbers(application)
        ids = [number.pk for number in numbers]
        notify(WebhookEvent.REMOVED, ids, application=application, at=at)
        self.open().filter(application=application).update(
            ended_at=at, ended_because=Assignment.Ended.ARCHIVED
        )
        PhoneNumber.objects.filter(pk__in=[number.pk for number in numbers]).update(
            assignment_count=F("assignment_count") - 1
        )
        application.archived_at = at
        application.save(update_fields=["archived_at"])
        ended = [(number, {"application": application.name}, None) for number in numbers]
        Activity.objects.bulk_record(application.organization, "removed", ended, by=by, at=at)
        Activity.objects.record(
            application.organization,
            "archived",
            subject=application,
            by=by,
            at=at,
            after={"assignments_ended": len(numbers)},
        )
        return len(numbers)

    def _lock_numbers(self, application):
        """Lock the numbers assigned to the locked `application`; those removed meanwhile do not count."""
        assigned = self.open().filter(application=application)
        numbers = list(
            PhoneNumber.objects.select_for_update(no_key=True)
            .filter(pk__in=assigned.values("phone_number"))
            .order_by("id")
        )
        still = set(assigned.values_list("phone_number", flat=True))
        return [number for number in numbers if number.pk in still]


class Assignment(models.Model):
    """Phone number ↔ application. Ended, never deleted.

    `number` repeats the phone number's, so that an application's list is read by index.
    """

    class Ended(models.TextChoices):
        REMOVED = "removed", "Removed"
        MOVED = "moved", "Moved"
        RELEASED = "released", "Number released"
        ARCHIVED = "archived", "Application archived"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    phone_number = models.ForeignKey(
        PhoneNumber, on_delete=models.PROTECT, related_name="assignments"
    )
    application = models.ForeignKey(
        Application, on_delete=models.PROTECT, related_name="assignments"
    )
    number = models.CharField(max_length=16, db_collation="C")
    assigned_at = models.DateTimeField()
    assigned_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    ended_at = models.DateTimeField(null=True)
    ended_because = models.CharField(max_length=8, choices=Ended, blank=True)

    objects = AssignmentQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["phone_number", "application"],
                condition=Q(ended_at=None),
                name="assignment_open_once",
            ),
        ]
        indexes = [
            models.Index(
                fields=["application", "number", "id"],
                condition=Q(ended_at=None),
                name="assignment_open_by_number",
            ),
        ]
        triggers = [FITTING]

    def __str__(self):
        return f"{self.number} → {self.application}"
