"""Who: people, organizations, their memberships and applications, what they did and were told."""

from .activity import Activity, Actor, person_of
from .applications import (
    COUNTED_TO,
    Application,
    ApplicationArchived,
    SlugTaken,
    Webhook,
    WebhookEvent,
)
from .deliveries import (
    Delivery,
    DeliveryAttempt,
    both_secrets_until,
    rotate_secret,
    secret_of,
)
from .keys import ApiKey
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
    "ApiKey",
    "Application",
    "ApplicationArchived",
    "Delivery",
    "DeliveryAttempt",
    "Mail",
    "Membership",
    "Organization",
    "PaymentsUnderWay",
    "SlugTaken",
    "TermsFixed",
    "User",
    "Webhook",
    "WebhookEvent",
    "both_secrets_until",
    "person_of",
    "refuse",
    "rotate_secret",
    "secret_of",
    "validate_slug",
    "validate_time_zone",
]
