"""What gateways tell us, and how our books compare with theirs."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import InboxEvent, Reconciliation
from chirp_dashboard.organizations.operating import Kept

from .asking import Asks

REPLAYS = 1_000


@admin.register(InboxEvent)
class InboxEventAdmin(Asks, Kept):
    """Stored as delivered. Working an event asks the gateway for the object, so a replay is safe."""

    list_display = ("event_id", "type", "gateway", "object_id", "state", "tries", "received_at",
                    "worked_at", "error")  # fmt: skip
    list_filter = ("state", "gateway", "received_at")
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
        return "will be worked again."


@admin.register(Reconciliation)
class ReconciliationAdmin(Kept):
    """Each comparison, difference by difference."""

    list_display = ("started_at", "gateway", "state", "compared", "found", "repaired")
    list_filter = ("gateway", "started_at")
    search_fields = ("differences",)
    search_help_text = "Part of a difference, such as a reference"
    ordering = ("-id",)

    @admin.display
    def state(self, reconciliation):
        return "Finished" if reconciliation.finished_at else "Not finished"

    @admin.display(description="differences")
    def found(self, reconciliation):
        return len(reconciliation.differences)
