"""Activity: who did what, from what, to what, when."""

from django.conf import settings
from django.db import models

from .rules import INSERT_ONLY


class Actor:
    """Who does something: a person, or the system in the name of a job."""

    def __init__(self, *, kind, name, user=None):
        self.kind, self.name, self.user = kind, name, user

    @classmethod
    def person(cls, user):
        return cls(kind=Activity.ActorKind.PERSON, name=str(user), user=user)

    @classmethod
    def system(cls, job):
        return cls(kind=Activity.ActorKind.SYSTEM, name=job)


def person_of(by):
    """The person of a User or an Actor; None where a program or a job acts."""
    return by.user if isinstance(by, Actor) else by


class ActivityManager(models.Manager):
    def record(self, organization, verb, *, subject, by, at, before=None, after=None):
        """Write that `by` (a User or an Actor) did `verb` to `subject`, in the caller's transaction."""
        return self.bulk_record(organization, verb, [(subject, before, after)], by=by, at=at)[0]

    def bulk_record(self, organization, verb, changes, *, by, at):
        """One row for each `(subject, before, after)`, in one statement."""
        actor = by if isinstance(by, Actor) else Actor.person(by)
        return self.bulk_create(
            Activity(
                organization=organization,
                verb=verb,
                subject=subject if isinstance(subject, str) else subject.public_id,
                subject_name=str(subject),
                actor_kind=actor.kind,
                actor_name=actor.name,
                actor=actor.user,
                before=before or {},
                after=after or {},
                at=at,
            )
            for subject, before, after in changes
        )


class Activity(models.Model):
    """One change of state: who, what, from what, to what, when. Insert-only, kept for ever."""

    class ActorKind(models.TextChoices):
        PERSON = "person", "Person"
        KEY = "key", "API key"
        SYSTEM = "system", "System"

    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.PROTECT, related_name="activity"
    )
    at = models.DateTimeField()
    verb = models.CharField(max_length=40)
    subject = models.CharField(
        max_length=254, help_text="Public id of what changed, or e-mail address of a person."
    )
    subject_name = models.CharField(max_length=254)
    actor_kind = models.CharField(max_length=6, choices=ActorKind)
    actor_name = models.CharField(max_length=254)
    actor = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)

    objects = ActivityManager()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "subject", "-id"], name="activity_timeline"),
            models.Index(fields=["organization", "-id"], name="activity_newest"),
        ]
        triggers = [INSERT_ONLY]
        verbose_name_plural = "activity"

    def __str__(self):
        return f"{self.actor_name} {self.verb} {self.subject_name}"
