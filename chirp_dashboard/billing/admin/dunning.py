"""The ladder: who is on it, what was done, and an operator's hand on it."""

from django.contrib import admin
from django.utils import timezone

from chirp_dashboard.billing.models import Dunning, DunningStep
from chirp_dashboard.organizations.operating import Kept, KeptInline
from chirp_dashboard.organizations.templatetags.ui import day

from .asking import Asks
from .forms import HoldForm, ReasonForm

RESUMED = 100


class StepsOfDunning(KeptInline):
    model = DunningStep
    fields = ("rung", "taken_on", "at", "notice")

    def get_queryset(self, request):
        return super().get_queryset(request).select_related("notice")


@admin.register(Dunning)
class DunningAdmin(Asks, Kept):
    list_display = ("organization", "invoice", "due_on", "rung", "next_on", "held_until",
                    "started_at", "ended_at", "ended_because")  # fmt: skip
    list_filter = (("ended_at", admin.EmptyFieldListFilter), "ended_because", "due_on")
    list_select_related = ("organization", "invoice")
    search_fields = ("organization__name", "organization__slug", "=invoice__number")
    ordering = ("-id",)
    inlines = (StepsOfDunning,)
    actions = ("hold", "resume", "end")

    def has_hold_permission(self, request):
        return request.user.has_perm("billing.change_dunning")

    def has_end_permission(self, request):
        return request.user.has_perm("billing.delete_dunning")

    def asked(self, request, queryset, **options):
        rows = queryset.select_related("organization")
        return self.ask(request, rows, organization_of=lambda row: row.organization, **options)

    @admin.action(description="Hold…", permissions=["hold"])
    def hold(self, request, queryset):
        return self.asked(
            request, queryset, action="hold", title="Hold dunning", form_class=HoldForm,
            do=lambda dunning, answer: self._hold(request, dunning, answer),
        )  # fmt: skip

    def _hold(self, request, dunning, answer):
        dunning.hold(answer["until"], answer["reason"], by=request.user, at=timezone.now())
        return f"{dunning} is held until {day(dunning.held_until)}."

    @admin.action(description="Resume", permissions=["hold"])
    def resume(self, request, queryset):
        rows = queryset.select_related("organization")
        self.each(request, rows, lambda dunning: self._resume(request, dunning), most=RESUMED)

    def _resume(self, request, dunning):
        dunning.resume(by=request.user, at=timezone.now())
        return f"{dunning} goes on."

    @admin.action(description="End…", permissions=["end"])
    def end(self, request, queryset):
        return self.asked(
            request, queryset, action="end", title="End dunning", form_class=ReasonForm,
            do=lambda dunning, answer: self._end(request, dunning, answer),
        )  # fmt: skip

    def _end(self, request, dunning, answer):
        dunning.end_by_operator(answer["reason"], by=request.user, at=timezone.now())
        return f"{dunning} is ended; what was suspended comes back."


@admin.register(DunningStep)
class DunningStepAdmin(Kept):
    list_display = ("dunning", "rung", "taken_on", "at", "notice")
    list_filter = ("taken_on",)
    list_select_related = ("dunning__organization", "notice")
    search_fields = ("dunning__organization__name", "dunning__organization__slug")
    ordering = ("-id",)
