"""Telling applications what happens to their numbers: deliveries written with the change itself."""

from django.db import connection

from chirp_dashboard.organizations.models import WebhookEvent

# One statement whatever the numbers; where nobody listens it writes nothing. A webhook that is being removed
# is waited for: else the change would fail with the event, whose webhook is gone when it is committed.
WRITE = """
    INSERT INTO organizations_delivery
        (message_id, webhook_id, event, body, happened_at, state, tries, next_try_at)
    SELECT 'msg_' || replace(gen_random_uuid()::text, '-', ''), webhook.id, %(event)s,
           jsonb_build_object(
               'event', %(event)s::text,
               'timestamp', %(timestamp)s::text,
               'data', jsonb_build_object(
                   'message', %(message)s::text,
                   'app', jsonb_build_object('id', application.public_id, 'name', application.name),
                   'phoneNumber', jsonb_build_object(
                       'phoneNumberId', number.public_id, 'number', number.number,
                       'numberType', number.number_type, 'features', to_jsonb(number.capabilities),
                       'location', concat_ws(', ', nullif(number.city, ''), nullif(number.region, ''))
                   )
               )
           ),
           %(at)s, 'pending', 0, %(at)s
    FROM numbers_phonenumber number
    JOIN numbers_assignment assignment ON assignment.phone_number_id = number.id
    JOIN organizations_application application ON application.id = assignment.application_id
    JOIN organizations_webhook webhook ON webhook.application_id = application.id
    WHERE number.id = ANY(%(numbers)s) AND webhook.disabled_at IS NULL
      AND webhook.events @> to_jsonb(%(event)s::text)
      AND (assignment.ended_at IS NULL OR assignment.ended_at = %(ended_at)s)
      AND (%(application)s::bigint IS NULL OR application.id = %(application)s::bigint)
    FOR KEY SHARE OF webhook
"""
MESSAGES = {event.value: event.label for event in WebhookEvent}


def notify(event, numbers, *, at, application=None, ended_at=None):
    """Write `event` for every application that has `numbers` (ids), in the caller's transaction.

    With `application` only for that one; with `ended_at` also for assignments that ended just then.
    """
    with connection.cursor() as cursor:
        cursor.execute(
            WRITE,
            {
                "event": event.value,
                "timestamp": at.isoformat(),
                "message": MESSAGES[event.value],
                "numbers": list(numbers),
                "at": at,
                "ended_at": ended_at,
                "application": application and application.pk,
            },
        )
        return cursor.rowcount
