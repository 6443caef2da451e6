"""Mail: written in the transaction of what it tells about, sent by the worker."""

import hashlib
import logging
import smtplib
from datetime import timedelta
from email.utils import parseaddr

import pgtrigger
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import models, transaction
from django.db.models import Q
from django.template import Context
from django.template.loader import get_template

from .activity import Activity
from .rules import refuse

logger = logging.getLogger(__name__)

BATCH = 10  # mails sent over one connection
LEASE = timedelta(minutes=10)
"""How long a worker has a mail to itself; a killed one's mail is sent by another afterwards."""

WAITS = [
    timedelta(minutes=1), timedelta(minutes=5), timedelta(minutes=15), timedelta(hours=1),
    timedelta(hours=3), timedelta(hours=6), timedelta(hours=12), timedelta(days=1),
    timedelta(days=1),
]  # fmt: skip
"""Before each new attempt, three days in all; then the mail waits for an operator."""

NOBODY = "Nobody to write to: no e-mail address is known."


def rendered(name, context):
    """`templates/mail/<name>.txt` as plain text, where nothing is escaped."""
    template = get_template(f"mail/{name}.txt").template
    return template.render(Context(context, autoescape=False)).strip()


def in_words(error):
    """What the mail server or the network said, in one line."""
    if isinstance(error, smtplib.SMTPRecipientsRefused):
        return "; ".join(
            f"{address}: {said(*reply)}" for address, reply in error.recipients.items()
        )
    if isinstance(error, smtplib.SMTPResponseException):
        return said(error.smtp_code, error.smtp_error)
    return f"{type(error).__name__}: {error}"


def said(code, text):
    if isinstance(text, bytes):
        text = text.decode(errors="replace")
    return f"{code} {' '.join(text.split())}"


def leaves_the_connection(error):
    """Whether other mails can be sent over the same connection after `error`."""
    about_this_mail = isinstance(error, smtplib.SMTPSenderRefused | smtplib.SMTPDataError)
    if about_this_mail:
        return error.smtp_code != 421  # "closing the connection"
    return not isinstance(error, OSError)


class MailQuerySet(models.QuerySet):
    @transaction.atomic
    def write(self, organization, kind, *, key, at, to=None, **context):
        """Write the mail `templates/mail/<kind>.txt` in the caller's transaction; None if told before.

        Its first line is the subject. `to` is who gets it, else the organization's people of billing.
        """
        if self.filter(key=key).exists():
            return None
        context |= {
            "organization": organization,
            "base_url": settings.BASE_URL,
            "seller_name": settings.SELLER_NAME,
            "bank": settings.SELLER_BANK,
        }
        subject, _, text = rendered(kind, context).partition("\n")
        facts = {
            "organization": organization,
            "kind": kind,
            "to": organization.billing_recipients() if to is None else list(to),
            "subject": " ".join(subject.split())[:200],
            "text": f"{text.strip()}\n\n{rendered('_foot', context)}\n",
            "created_at": at,
        }
        mail, is_new = self.get_or_create(key=key, defaults=facts | {"next_try_at": at})
        if not is_new:
            return None
        if not mail.to:
            mail.give_up(NOBODY, at=at)
        return mail

    def alarm(self, kind, *, key, at, **context):
        """Write a mail to whoever operates this deployment, and its subject into the log."""
        mail = self.write(None, kind, key=key, at=at, to=settings.OPERATOR_EMAILS, **context)
        if mail:
            logger.error("Alarm: %s", mail.subject)
        return mail

    def due(self, *, at):
        return self.filter(sent_at=None, next_try_at__lte=at).order_by("next_try_at", "pk")

    def waiting(self):
        """Not sent, and no attempt is planned: these wait for an operator."""
        return self.filter(sent_at=None, next_try_at=None)

    def send_due(self, *, at):
        """Send some of the mails that are due; returns whether there may be more to send at once.

        Every mail is sent at least once, and by one worker at a time. A server that cannot be reached
        costs one mail one attempt; the others stay due. Call outside every transaction.
        """
        connection = get_connection()
        try:
            for _ in range(BATCH):
                mail = self._claim(at=at)
                if mail is None:
                    return False
                if not mail._send(connection, at=at):
                    return False
        finally:
            close(connection)
        return True

    @transaction.atomic
    def _claim(self, *, at):
        """Take the mail that has been due longest; no other worker gets it before the lease has ended."""
        mail = self.due(at=at).select_for_update(skip_locked=True).first()
        if mail:
            mail.tries += 1
            mail.next_try_at = at + LEASE
            mail.save(update_fields=["tries", "next_try_at"])
        return mail


def close(connection):
    """Leave the mail server; whatever it answers to that changes nothing."""
    try:
        connection.close()
    except OSError as error:
        logger.info("The mail server did not say goodbye: %s", error)


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
    told = models.JSONField(
        default=list, help_text="Those of `to` for whom the mail server has taken it."
    )
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
                name="written", exclude=["to", "sent_at", "told", "tries", "next_try_at", "error"]
            ),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]

    def __str__(self):
        return self.subject

    @property
    def state(self):
        """`sent`, `due` or `failed`."""
        if self.sent_at:
            return "sent"
        return "due" if self.next_try_at else "failed"

    @property
    def message_id(self):
        """The same at every attempt, so that a mail that was sent twice can be seen to be one."""
        domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2] or "localhost"
        return f"<{hashlib.sha256(self.key.encode()).hexdigest()[:40]}@{domain}>"

    def message(self, connection):
        """For those of `to` who were not told yet; everybody stands in its head."""
        return EmailMessage(
            self.subject,
            self.text,
            to=[address for address in self.to if address not in self.told],
            headers={
                "To": ", ".join(self.to),
                "Message-ID": self.message_id,
                "Auto-Submitted": "auto-generated",
            },
            connection=connection,
        )

    def _send(self, connection, *, at):
        """Make one attempt; False when the connection is of no use any more."""
        message = self.message(connection)
        try:
            connection.open()
            message.send()
        except smtplib.SMTPRecipientsRefused as error:
            self._refused(message, error, at=at)
        except Exception as error:
            logger.warning("Mail %s was not sent: %s", self.pk, in_words(error))
            self._failed(in_words(error), at=at)
            return leaves_the_connection(error)
        else:
            self._sent(told=self.to, at=at)
        return True

    def _sent(self, *, told, at, error=""):
        Mail.objects.filter(pk=self.pk).update(
            sent_at=at, told=told, next_try_at=None, error=error[:200]
        )

    def _refused(self, message, error, *, at):
        """Some or all recipients were refused: for ever (5xx), or for now."""
        refused = error.recipients
        told = self.told + [address for address in message.to if address not in refused]
        for_now = [address for address, (code, _) in refused.items() if code < 500]
        words = in_words(error)
        logger.warning("Mail %s was refused: %s", self.pk, words)
        if for_now:
            self._failed(words, told=told, at=at)
        elif told:
            self._sent(told=told, error=words, at=at)
        else:
            self.give_up(words, at=at)

    def _failed(self, error, *, at, told=None):
        """Try again later, unless it was tried for three days or somebody else has it by now."""
        if self.tries > len(WAITS):
            self.give_up(error, at=at)
            return
        mine = Mail.objects.filter(pk=self.pk, sent_at=None, tries=self.tries)
        mine.update(
            next_try_at=at + WAITS[self.tries - 1],
            error=error[:200],
            told=self.told if told is None else told,
        )

    @transaction.atomic
    def give_up(self, error, *, at):
        """Plan no further attempt and tell the operators, at most once a day."""
        self.error, self.next_try_at = error[:200], None
        Mail.objects.filter(pk=self.pk, sent_at=None).update(error=self.error, next_try_at=None)
        logger.error("Mail %s waits for an operator: %s", self.pk, self.error)
        if self.organization_id:
            Mail.objects.alarm("mail_failed", key=f"mail-failed-{at.date()}", at=at, mail=self)

    @transaction.atomic
    def resend(self, *, by, at):
        """Send it once more, as if it had never been tried.

        To the same people while they belong to the organization, else to those who hear of invoices now.
        """
        before = {"state": self.state, "to": self.to, "error": self.error}
        to = self._recipients_today()
        Mail.objects.filter(pk=self.pk).update(
            to=to, sent_at=None, told=[], tries=0, error="", next_try_at=at
        )
        self.refresh_from_db()
        if not to:
            self.give_up(NOBODY, at=at)
        if self.organization_id:
            Activity.objects.record(
                self.organization, "mail_resent", subject=self.key, by=by, at=at,
                before=before, after={"to": to},
            )  # fmt: skip

    def _recipients_today(self):
        if not self.organization_id:
            return settings.OPERATOR_EMAILS
        members = self.organization.memberships.filter(user__is_active=True)
        known = set(members.values_list("user__email", flat=True))
        if self.to and known.issuperset(self.to):
            return self.to
        return self.organization.billing_recipients()
