"""What the billing runs did: charged, skipped, failed, totals, and who was due and got nothing."""

from django.contrib import admin

from chirp_dashboard.billing.models import BillingRun
from chirp_dashboard.organizations.operating import Kept
from chirp_dashboard.organizations.templatetags.ui import money


class Outcome(admin.SimpleListFilter):
    title = "outcome"
    parameter_name = "outcome"

    def lookups(self, request, model_admin):
        return [
            ("failed", "Somebody failed"),
            ("alarm", "Somebody was due and got nothing"),
            ("unfinished", "Not finished"),
        ]

    def queryset(self, request, queryset):
        return {
            "failed": queryset.exclude(failures=[]),
            "alarm": queryset.exclude(alarms=[]),
            "unfinished": queryset.filter(finished_at=None),
        }.get(self.value(), queryset)


@admin.register(BillingRun)
class BillingRunAdmin(Kept):
    list_display = ("as_of", "failed", "alarmed", "organizations", "charges", "skipped",
                    "charged", "invoices", "invoiced", "started_at", "took")  # fmt: skip
    list_filter = (Outcome, "as_of")
    search_fields = ("failures", "alarms")
    search_help_text = "Slug of an organization that failed or got nothing, or part of the reason"
    ordering = ("-id",)

    @admin.display(description="seconds")
    def took(self, run):
        if run.finished_at is None:
            return "not finished"
        return f"{(run.finished_at - run.started_at).total_seconds():.1f}"

    @admin.display
    def charged(self, run):
        return totals(run, "charged")

    @admin.display
    def invoiced(self, run):
        return totals(run, "invoiced")

    @admin.display(description="failures")
    def failed(self, run):
        return ", ".join(failure["organization"] for failure in run.failures) or "none"

    @admin.display(description="due, got nothing")
    def alarmed(self, run):
        return ", ".join(alarm["organization"] for alarm in run.alarms) or "none"

    def change_view(self, request, object_id, form_url="", extra_context=None):
        run = self.get_object(request, object_id)
        if run:
            extra_context = {
                "run": run,
                "took": self.took(run),
                "totals": [
                    (currency, sums["charged"], sums["invoiced"])
                    for currency, sums in run.totals.items()
                ],
                **(extra_context or {}),
            }
        return super().change_view(request, object_id, form_url, extra_context)


def totals(run, kind):
    """The sums of one kind, currency by currency."""
    return ", ".join(money(sums[kind], currency) for currency, sums in run.totals.items()) or "–"
