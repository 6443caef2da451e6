"""Calendar feeds: an address without a sign-in that shows what renews when, and nothing else."""

from django.conf import settings
from django.db import models

from chirp_dashboard.organizations.models import Organization


class CalendarFeed(models.Model):
    """One person's feed of one organization. Its secret is shown once and stored hashed."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="calendar_feeds"
    )
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="calendar_feeds"
    )
    secret_hash = models.CharField(max_length=64, unique=True)
    created_at = models.DateTimeField()
    used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "person"],
                condition=models.Q(revoked_at=None),
                name="calendar_feed_once",
            ),
        ]

    def __str__(self):
        return f"Feed of {self.person} for {self.organization}"
