"""Delivery: lines of an order become phone numbers, with everything that must come true at once."""

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.billing.models.starting import RentalTerms
from chirp_dashboard.numbers.notifying import notify
from chirp_dashboard.organizations.models import WebhookEvent
from chirp_dashboard.organizations.public_ids import public_id
from chirp_dashboard.postgres.prepared import prepared_cursor

# One round trip however many lines: the phone numbers, the lines' outcome, the stock, the assignments
# asked for, the totals and the activity rows. Guarded by the lines' state: what another worker has
# delivered meanwhile is not delivered again.
DELIVER = """
WITH due AS (
    SELECT line.*, given.new_public_id, given.display
    FROM numbers_orderline line
    JOIN unnest(%(lines)s::text[], %(public_ids)s::text[], %(displays)s::text[])
        AS given (line, new_public_id, display) ON given.line = line.public_id
    WHERE line.order_id = %(order)s::bigint AND line.state IN ('placed', 'ordered', 'unknown')
),
owned AS (
    INSERT INTO numbers_phonenumber
        (public_id, organization_id, country, number, number_type, region, city, area_code,
         capabilities, carrier, label, state, is_test, release_locked, no_fee_reason,
         rental_amount, interval_months, currency, assignment_count, purchased_at)
    SELECT new_public_id, %(organization)s::bigint, country, number, number_type, region, city, area_code,
           capabilities, carrier, '', 'active', false, false, '',
           rental, interval_months, %(currency)s::text, %(assignments)s::int, %(at)s::timestamptz
    FROM due ORDER BY due.id
    RETURNING id, public_id, country, number, rental_amount, interval_months
),
delivered AS (
    UPDATE numbers_orderline line SET state = 'delivered', reason = '', phone_number_id = owned.id
    FROM due, owned
    WHERE line.id = due.id AND due.country = owned.country AND due.number = owned.number
    RETURNING line.public_id, owned.id AS phone_number_id
),
sold AS (
    UPDATE numbers_inventorynumber stock SET status = 'sold', not_for_sale_until = NULL
    FROM due
    WHERE due.carrier = 'stock' AND stock.country = due.country AND stock.number = due.number
),
assigned AS (
    INSERT INTO numbers_assignment
        (organization_id, phone_number_id, application_id, number, assigned_at, assigned_by_id, ended_because)
    SELECT %(organization)s::bigint, owned.id, %(application)s::bigint, owned.number, %(at)s::timestamptz, %(person)s::bigint, ''
    FROM owned WHERE %(assignments)s::int = 1
),
totalled AS (
    INSERT INTO numbers_totals AS totals (organization_id, numbers, monthly)
    SELECT %(organization)s::bigint, count(*),
           coalesce(sum(rental_amount) FILTER (WHERE interval_months = 1), 0)
    FROM owned
    ON CONFLICT (organization_id) DO UPDATE
    SET numbers = totals.numbers + excluded.numbers, monthly = totals.monthly + excluded.monthly
),
noted AS (
    INSERT INTO organizations_activity
        (organization_id, at, verb, subject, subject_name, actor_kind, actor_name, actor_id, before, after)
    SELECT %(organization)s::bigint, %(at)s::timestamptz, verb, new_public_id, display, %(actor_kind)s::text, %(actor_name)s::text,
           %(actor)s::bigint, '{}', after
    FROM due, (
        SELECT 1 AS step, 'purchased' AS verb, jsonb_build_object('order', %(order_public_id)s::text) AS after
        UNION ALL
        SELECT 2, 'assigned', jsonb_build_object('application', %(application_name)s::text)
        WHERE %(assignments)s::int = 1
    ) AS steps
    ORDER BY step, due.id
)
SELECT public_id, phone_number_id FROM delivered
"""


def deliver(order, lines, *, standing, at):
    """Turn `lines` of `order` into phone numbers with rental and charges; return the sum charged.

    Runs in the caller's transaction, which got `standing` from `Standing.lock()`.
    """
    organization, application = order.organization, order.delivery_application()
    actor = order.actor
    with prepared_cursor() as cursor:
        cursor.execute(
            DELIVER,
            {
                "lines": [line.public_id for line in lines],
                "public_ids": [public_id("ph") for _ in lines],
                "displays": [line.display for line in lines],
                "order": order.pk,
                "order_public_id": order.public_id,
                "organization": organization.pk,
                "currency": order.currency,
                "application": application and application.pk,
                "application_name": application and application.name,
                "assignments": 1 if application else 0,
                "person": order.placed_by_id,
                "actor": order.placed_by_id,
                "actor_kind": actor.kind,
                "actor_name": actor.name,
                "at": at,
            },
        )
        phone_numbers = dict(cursor.fetchall())
    if application and phone_numbers:
        notify(WebhookEvent.PURCHASED, phone_numbers.values(), application=application, at=at)
    delivered = [line for line in lines if line.public_id in phone_numbers]
    for line in delivered:
        line.state, line.phone_number_id = line.State.DELIVERED, phone_numbers[line.public_id]
    return _start_rentals(order, delivered, standing=standing, at=at) if delivered else 0


def _start_rentals(order, lines, *, standing, at):
    """Start the rentals on the day the order was placed, so that a line costs what was quoted."""
    organization = order.organization
    today = organization.local_date(at)
    charged = Rental.objects.start(
        organization,
        [
            RentalTerms.from_purchase(
                line.phone_number_id,
                fee=line.purchase_fee,
                amount=line.rental,
                interval_months=line.interval_months,
                billing_day=organization.billing_day,
                on=order.placed_on,
            )
            for line in lines
        ],
        on=standing.posting_date(today),
        at=at,
        description=f"Order {order.public_id}",
        order=order if order.is_prepaid else None,
    )
    if order.placed_on < today:
        for line in lines:
            Rental.objects.get(phone_number=line.phone_number_id).charge_periods_begun(today, at=at)
    return charged
