"""Assignments: which applications a number belongs to, since when, and until when."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import Application, Organization

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
