"""What the /v1 door remembers: answers given under an idempotency key, and how often a key asked."""

from datetime import timedelta

from django.db import connection, models

from chirp_dashboard.organizations.models import ApiKey

KEPT_FOR = timedelta(hours=24)


class AnswerQuerySet(models.QuerySet):
    def forget_old(self, *, at):
        """Delete the answers whose keys may be used again."""
        return self.filter(given_at__lt=at - KEPT_FOR).delete()[0]


class Answer(models.Model):
    """The answer to one POST with an Idempotency-Key, given again to its repeats for a day."""

    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    idempotency_key = models.CharField(max_length=255)
    fingerprint = models.CharField(max_length=64, help_text="Of method, address and body.")
    status = models.PositiveSmallIntegerField()
    body = models.TextField()
    given_at = models.DateTimeField()

    objects = AnswerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "idempotency_key"], name="answer_once"),
        ]
        indexes = [models.Index(fields=["given_at"], name="answer_age")]

    def __str__(self):
        return f"{self.status} for {self.idempotency_key}"


class WindowManager(models.Manager):
    def count(self, key, *, bucket, minute):
        """Count one request of `key` in `minute` (since 1970) and return how many that makes."""
        with connection.cursor() as cursor:
            cursor.execute(
                "INSERT INTO api_window AS seen (key_id, bucket, minute, requests) VALUES (%s, %s, %s, 1)"
                " ON CONFLICT (key_id, bucket, minute) DO UPDATE SET requests = seen.requests + 1"
                " RETURNING requests",
                [key.pk, bucket, minute],
            )
            return cursor.fetchone()[0]

    def forget_old(self, *, minute):
        return self.filter(minute__lt=minute).delete()[0]


class Window(models.Model):
    """How many requests a key made in one minute, of one kind."""

    key = models.ForeignKey(ApiKey, on_delete=models.PROTECT, related_name="+", db_index=False)
    bucket = models.CharField(max_length=12)
    minute = models.BigIntegerField()
    requests = models.PositiveIntegerField()

    objects = WindowManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["key", "bucket", "minute"], name="window_once"),
        ]
        indexes = [models.Index(fields=["minute"], name="window_age")]

    def __str__(self):
        return f"{self.requests} in minute {self.minute}"
