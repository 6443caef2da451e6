"""What the checks found: of the books by themselves, and of the books against a gateway."""

from django.db import models


class BooksCheck(models.Model):
    """One run of `check_books`: how many rules were asked and which rows broke one."""

    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    rules = models.PositiveSmallIntegerField(default=0)
    violations = models.PositiveIntegerField(default=0)
    findings = models.JSONField(
        default=list, help_text="invariant, rule and row of each, up to a thousand."
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"Check of {self.started_at:%d %b %Y %H:%M}"


class Reconciliation(models.Model):
    """One comparison of our payments and refunds with what a gateway says."""

    gateway = models.CharField(max_length=20)
    started_at = models.DateTimeField()
    finished_at = models.DateTimeField(null=True)
    compared = models.PositiveIntegerField(default=0)
    repaired = models.PositiveIntegerField(default=0)
    differences = models.JSONField(
        default=list, help_text="kind, ours, theirs and what was done about each."
    )

    class Meta:
        ordering = ["-id"]

    def __str__(self):
        return f"{self.gateway}, {self.started_at:%d %b %Y %H:%M}"
