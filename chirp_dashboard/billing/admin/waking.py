"""Pages with a button that hands their nightly job to a worker now."""

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.http import HttpResponseRedirect
from django.urls import path, reverse
from django.views.decorators.http import require_POST
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued


class WakesWorker:
    """For a page of what the job `task` writes; whoever may add such a row may ask for it."""

    task = queueing_lock = asked = asked_before = None

    def may_wake(self, request):
        return request.user.has_perm(f"{self.opts.app_label}.add_{self.opts.model_name}")

    def get_urls(self):
        now = path(
            "now/", self.admin_site.admin_view(require_POST(self.wake)),
            name=f"{self.opts.app_label}_{self.opts.model_name}_now",
        )  # fmt: skip
        return [now, *super().get_urls()]

    def wake(self, request):
        if not self.may_wake(request):
            raise PermissionDenied
        try:
            with transaction.atomic():
                app.configure_task(self.task, queueing_lock=self.queueing_lock).defer(timestamp=0)
        except AlreadyEnqueued:
            self.message_user(request, self.asked_before, messages.WARNING)
        else:
            self.message_user(request, self.asked)
        return HttpResponseRedirect(
            reverse(f"admin:{self.opts.app_label}_{self.opts.model_name}_changelist")
        )

    def changelist_view(self, request, extra_context=None):
        waiting = ProcrastinateJob.objects.filter(queueing_lock=self.queueing_lock, status="todo")
        context = {"is_waiting": waiting.exists(), "may_wake": self.may_wake(request)}
        return super().changelist_view(request, context | (extra_context or {}))
