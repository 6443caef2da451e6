"""Mail: written in the transaction of what it tells about, sent by the worker."""

import pgtrigger
from django.conf import settings
from django.db import models
from django.db.models import Q
from django.template.loader import render_to_string

from .rules import refuse


class MailQuerySet(models.QuerySet):
    def write(self, organization, kind, *, key, at, to=None, **context):
        """Write the mail `templates/mail/<kind>.txt` in the caller's transaction; None if told before.

        Its first line is the subject. `to` is who gets it, else the organization's people of billing.
        """
        context |= {"organization": organization, "base_url": settings.BASE_URL}
        subject, _, text = render_to_string(f"mail/{kind}.txt", context).partition("\n")
        mail = self.model(
            organization=organization, key=key, kind=kind, subject=subject[:200], text=text.strip() + "\n",
            to=organization.billing_recipients() if to is None else to,
            created_at=at, next_try_at=at,
        )  # fmt: skip
        written = self.bulk_create([mail], ignore_conflicts=True)
        return self.filter(key=key, created_at=at).first() if written else None

    def alarm(self, kind, *, key, at, **context):
        """Write a mail to whoever operates this deployment."""
        return self.write(None, kind, key=key, at=at, to=settings.OPERATOR_EMAILS, **context)


class Mail(models.Model):
    """One mail, written in the transaction of what it tells about and sent by the worker.

    `key` says what it tells, so that the same thing is told once. At operators' when `organization`
    is empty.
    """

    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.PROTECT, null=True, related_name="mails"
    )
    key = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=40)
    to = models.JSONField(default=list)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    objects = MailQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(sent_at=None), name="mail_to_send"),
            models.Index(fields=["organization", "-id"], name="mail_of_organization"),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="written", exclude=["sent_at", "tries", "next_try_at", "error"]
            ),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]

    def __str__(self):
        return self.subject
