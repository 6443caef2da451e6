"""Do the books balance? The checks, what they found, and a button that has the worker check now."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import BooksCheck
from chirp_dashboard.organizations.operating import Kept

from .waking import WakesWorker

CHECK_BOOKS = "chirp_dashboard.numbers.tasks.check_books"
"""The job by its name: it looks at numbers too, of which billing knows nothing."""


@admin.register(BooksCheck)
class BooksCheckAdmin(WakesWorker, Kept):
    task, queueing_lock = CHECK_BOOKS, "check_books"
    asked = "A worker checks the books now. Reload to see what it found."
    asked_before = "A check waits for a worker already."
    list_display = ("started_at", "shown_state", "rules", "violations", "took")
    list_filter = ("started_at",)
    search_fields = ("findings",)
    search_help_text = "An invariant, a rule, or the public id of a row"
    ordering = ("-id",)

    @admin.display(description="state")
    def shown_state(self, check):
        return check.state(timezone.now()).capitalize()

    @admin.display(description="seconds")
    def took(self, check):
        if check.finished_at is None:
            return "–"
        return f"{(check.finished_at - check.started_at).total_seconds():.1f}"

    def changelist_view(self, request, extra_context=None):
        latest = BooksCheck.objects.first()
        return super().changelist_view(
            request,
            {
                "title": "Books",
                "latest": latest,
                "state": latest.state(timezone.now()) if latest else "never",
                **(extra_context or {}),
            },
        )

    def change_view(self, request, object_id, form_url="", extra_context=None):
        check = self.get_object(request, object_id)
        return super().change_view(
            request,
            object_id,
            form_url,
            {
                "check": check,
                "state": check.state(timezone.now()) if check else "",
                **(extra_context or {}),
            },
        )
