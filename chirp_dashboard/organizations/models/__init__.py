"""Who: people, organizations, their memberships and applications, what they did and were told."""

from .activity import Activity, Actor
from .applications import (
    COUNTED_TO,
    Application,
    ApplicationArchived,
    SlugTaken,
    Webhook,
    WebhookEvent,
)
from .mail import Mail
from .people import (
    FRAMED_APPLICATIONS,
    Membership,
    Organization,
    PaymentsUnderWay,
    TermsFixed,
    User,
)
from .rules import INSERT_ONLY, refuse, validate_slug, validate_time_zone

__all__ = [
    "COUNTED_TO",
    "FRAMED_APPLICATIONS",
    "INSERT_ONLY",
    "Activity",
    "Actor",
    "Application",
    "ApplicationArchived",
    "Mail",
    "Membership",
    "Organization",
    "PaymentsUnderWay",
    "SlugTaken",
    "TermsFixed",
    "User",
    "Webhook",
    "WebhookEvent",
    "refuse",
    "validate_slug",
    "validate_time_zone",
]
