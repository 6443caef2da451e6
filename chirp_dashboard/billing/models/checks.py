"""What the checks found: of the books by themselves, and of the books against a gateway."""

import logging
from datetime import timedelta

from django.db import models, transaction

from chirp_dashboard.organizations.models import Mail

logger = logging.getLogger(__name__)

KEPT = 1_000
"""Findings written down of one check; the log has all of them."""

LONGEST = timedelta(hours=1)
"""A check that has not finished by then was interrupted."""


class BooksBroken(Exception):
    """A check found rows that break a rule: money or numbers are not what they should be."""


class BooksCheck(models.Model):
    """One run of `check_books`: how many rules were asked and which rows broke one.

    Written before it begins, so that it is seen to be running, and again when it is finished.
    """

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

    @transaction.atomic
    def finish(self, broken, *, at):
        """Keep what was found, row by row, and alarm."""
        for row in broken:
            logger.error("%s", row)
        self.finished_at, self.violations = at, len(broken)
        self.findings = [
            {"invariant": row.invariant, "rule": row.rule, "row": row.what} for row in broken[:KEPT]
        ]
        self.save(update_fields=["finished_at", "violations", "findings"])
        if broken:
            Mail.objects.alarm("books_broken", key=f"books-broken-{self.pk}", at=at, check=self)

    def state(self, at):
        """`running`, `interrupted`, `clean` or `broken`."""
        if self.finished_at is None:
            return "running" if at - self.started_at < LONGEST else "interrupted"
        return "broken" if self.violations else "clean"

    @property
    def by_invariant(self):
        """`[(invariant, [(rule, [row, …]), …]), …]` in the order they were found."""
        found = {}
        for finding in self.findings:
            rules = found.setdefault(finding["invariant"], {})
            rules.setdefault(finding["rule"], []).append(finding["row"])
        return [(invariant, list(rules.items())) for invariant, rules in found.items()]

    @property
    def not_kept(self):
        """How many rows the log has and this check does not."""
        return self.violations - len(self.findings)


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
