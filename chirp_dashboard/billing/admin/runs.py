"""What the billing runs did."""

from django.contrib import admin

from chirp_dashboard.billing.models import BillingRun
from chirp_dashboard.organizations.operating import Kept


@admin.register(BillingRun)
class BillingRunAdmin(Kept):
    list_display = ("as_of", "started_at", "finished_at", "organizations", "charges", "invoices",
                    "failed")  # fmt: skip
    list_filter = ("as_of",)
    search_fields = ("failures",)
    ordering = ("-id",)

    @admin.display(description="failures")
    def failed(self, run):
        return ", ".join(failure["organization"] for failure in run.failures) or "none"
