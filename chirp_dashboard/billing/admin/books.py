"""Do the books balance? The checks, what they found, and a button that has the worker check now."""

from django.contrib import admin, messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.utils import timezone
from django.views.decorators.http import require_POST
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued

from chirp_dashboard.billing.models import BooksCheck
from chirp_dashboard.organizations.operating import Kept

CHECK_BOOKS = "chirp_dashboard.numbers.tasks.check_books"
"""The job by its name: it looks at numbers too, of which billing knows nothing."""


def is_waiting():
    """Does a check wait for a worker?"""
    waiting = ProcrastinateJob.objects.filter(queueing_lock="check_books", status="todo")
    return waiting.exists()


def wake():
    """Have a worker check the books; False when one was asked for already."""
    try:
        with transaction.atomic():
            app.configure_task(CHECK_BOOKS, queueing_lock="check_books").defer(timestamp=0)
    except AlreadyEnqueued:
        return False
    return True


@admin.register(BooksCheck)
class BooksCheckAdmin(Kept):
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

    def has_check_permission(self, request):
        return request.user.has_perm("billing.add_bookscheck")

    def get_urls(self):
        check = path(
            "now/", self.admin_site.admin_view(require_POST(self.check_now)),
            name="billing_bookscheck_now",
        )  # fmt: skip
        return [check, *super().get_urls()]

    def check_now(self, request):
        if not self.has_check_permission(request):
            raise PermissionDenied
        if wake():
            self.message_user(
                request, "A worker checks the books now. Reload to see what it found."
            )
        else:
            self.message_user(request, "A check waits for a worker already.", messages.WARNING)
        return HttpResponseRedirect(reverse("admin:billing_bookscheck_changelist"))

    def changelist_view(self, request, extra_context=None):
        latest = BooksCheck.objects.first()
        return super().changelist_view(
            request,
            {
                "title": "Books",
                "latest": latest,
                "state": latest.state(timezone.now()) if latest else "never",
                "is_waiting": is_waiting(),
                "may_check": self.has_check_permission(request),
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
