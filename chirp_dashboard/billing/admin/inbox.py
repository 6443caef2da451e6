"""What gateways tell us, and how our books compare with theirs."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.models import InboxEvent, Reconciliation
from chirp_dashboard.organizations.operating import Kept

from .asking import Asks
from .waking import WakesWorker

REPLAYS = 1_000


@admin.register(InboxEvent)
class InboxEventAdmin(Asks, Kept):
    """Stored as delivered. Working an event asks the gateway for the object, so a replay is safe."""

    list_display = ("event_id", "type", "gateway", "object_id", "state", "tries", "received_at",
                    "worked_at", "error")  # fmt: skip
    list_filter = ("state", "received_at")
    search_fields = ("=event_id", "=object_id", "=type")
    search_help_text = "Id of the event or its object at the gateway, or its type"
    ordering = ("-id",)
    actions = ("replay",)

    def has_replay_permission(self, request):
        return request.user.has_perm("billing.change_inboxevent")

    @admin.action(description="Work again", permissions=["replay"])
    def replay(self, request, queryset):
        self.each(request, queryset, lambda event: self._replay(request, event), most=REPLAYS)

    def _replay(self, request, event):
        event.replay(by=request.user, at=timezone.now())
        return f"Event {event.event_id} will be worked again."


@admin.register(Reconciliation)
class ReconciliationAdmin(WakesWorker, Kept):
    """Each comparison, difference by difference."""

    task, queueing_lock = "chirp_dashboard.billing.tasks.reconcile_stripe", "reconcile_stripe"
    asked = "A worker compares now. Reload to see what it found."
    asked_before = "A comparison waits for a worker already."

    list_display = ("started_at", "gateway", "state", "compared", "found", "repaired")
    list_filter = ("gateway", "started_at")
    search_fields = ("differences",)
    search_help_text = "Part of a difference, such as a reference"
    ordering = ("-id",)

    def may_wake(self, request):
        return "stripe" in GATEWAYS and super().may_wake(request)

    @admin.display
    def state(self, reconciliation):
        return "Finished" if reconciliation.finished_at else "Not finished"

    @admin.display(description="differences")
    def found(self, reconciliation):
        return len(reconciliation.differences)

    def change_view(self, request, object_id, form_url="", extra_context=None):
        context = {"comparison": self.get_object(request, object_id)} | (extra_context or {})
        return super().change_view(request, object_id, form_url, context)
