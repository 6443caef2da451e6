"""Calendar feeds: who has one, and when it was read last."""

from django.contrib import admin

from chirp_dashboard.billing.models import CalendarFeed
from chirp_dashboard.organizations.operating import Kept


@admin.register(CalendarFeed)
class CalendarFeedAdmin(Kept):
    list_display = ("person", "organization", "created_at", "used_at", "revoked_at")
    list_filter = (("revoked_at", admin.EmptyFieldListFilter), "created_at", "organization")
    list_select_related = ("person", "organization")
    search_fields = ("person__email", "person__name", "organization__slug")
    ordering = ("-id",)
    exclude = ("secret_hash",)
