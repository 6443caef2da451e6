"""Mail through SMTP that says when only some recipients were refused; Django's keeps that to itself."""

import smtplib

from django.core.mail.backends import smtp


class Outspoken:
    """Of a connection: raises when a recipient was refused, though others got the mail."""

    def sendmail(self, *arguments, **options):
        refused = super().sendmail(*arguments, **options)
        if refused:
            raise smtplib.SMTPRecipientsRefused(refused)
        return refused


class Plain(Outspoken, smtplib.SMTP):
    pass


class Encrypted(Outspoken, smtplib.SMTP_SSL):
    pass


class EmailBackend(smtp.EmailBackend):
    @property
    def connection_class(self):
        return Encrypted if self.use_ssl else Plain
