"""Writing an order: its row, its lines, the reserved money and the activity row, in one statement."""

import json

from django.apps import apps

from chirp_dashboard.organizations.public_ids import public_id
from chirp_dashboard.postgres.prepared import prepared_cursor

from .inventory import NumberFacts

WRITE = """
WITH line AS (
    SELECT * FROM jsonb_to_recordset(%(lines)s::jsonb) AS line (
        public_id text, country text, number text, number_type text, region text, city text,
        area_code text, capabilities text[], carrier text, purchase_fee bigint, rental bigint,
        interval_months smallint, first_period_end date, first_rental bigint
    )
),
placed AS (
    INSERT INTO numbers_order
        (public_id, organization_id, placed_by_id, placed_by_key_id, placed_at, placed_on, application_id, gateway,
         total, tax_rate, currency, idempotency_key, state, reason, attempts, next_look_at, settled_at)
    VALUES
        (%(public_id)s::text, %(organization)s::bigint, %(person)s::bigint, %(key)s::bigint,
         %(at)s::timestamptz, %(on)s::date, %(application)s::bigint, %(gateway)s::text, %(total)s::bigint,
         %(tax_rate)s::numeric, %(currency)s::text, %(idempotency_key)s::text, %(state)s::text, '', 0,
         %(next_look_at)s::timestamptz, %(settled_at)s::timestamptz)
    RETURNING id
),
lined AS (
    INSERT INTO numbers_orderline
        (public_id, order_id, country, number, number_type, region, city, area_code, capabilities,
         carrier, purchase_fee, rental, interval_months, first_period_end, first_rental, state, reason)
    SELECT line.public_id, placed.id, country, number, number_type, region, city, area_code,
           capabilities, carrier, purchase_fee, rental, interval_months, first_period_end,
           first_rental, 'placed', ''
    FROM placed, line
),
freed AS (
    DELETE FROM numbers_hold hold USING line
    WHERE hold.country = line.country AND hold.number = line.number
),
spent AS (
    UPDATE billing_standing
    SET unsettled = unsettled + %(unsettled)s::bigint,
        spent = CASE WHEN spent_on = %(on)s::date THEN spent ELSE 0 END + %(total)s::bigint,
        spent_on = %(on)s::date
    WHERE organization_id = %(organization)s::bigint
),
noted AS (
    INSERT INTO organizations_activity
        (organization_id, at, verb, subject, subject_name, actor_kind, actor_name, actor_id, before, after)
    VALUES
        (%(organization)s::bigint, %(at)s::timestamptz, 'order', %(public_id)s::text,
         %(public_id)s::text, %(actor_kind)s::text, %(actor_name)s::text, %(person)s::bigint, '{}',
         jsonb_build_object('state', %(state)s::text))
)
SELECT id FROM placed
"""


def write(order, quote, *, unsettled=0):
    """Write the unsaved `order` with a line per line of `quote`; return the lines, without row ids.

    Runs in the caller's transaction, under `Standing.lock()`. `unsettled` (minor unit) stays reserved
    against the credit limit until the order is settled.
    """
    lines = _lines_of(order, quote)
    with prepared_cursor() as cursor:
        cursor.execute(WRITE, _order_values(order, unsettled) | {"lines": _as_json(lines)})
        order.pk = cursor.fetchone()[0]
    order._state.adding, order._state.db = False, "default"
    return lines


def _lines_of(order, quote):
    OrderLine = apps.get_model("numbers", "OrderLine")
    return [
        OrderLine(
            public_id=public_id("ph_purch"),
            order=order,
            carrier=line.carrier,
            purchase_fee=line.purchase_fee,
            rental=line.rental,
            interval_months=line.interval_months,
            first_period_end=line.first.end,
            first_rental=line.first.amount,
            **line.facts.facts,
        )
        for line in quote.lines
    ]


def _order_values(order, unsettled):
    return {
        "public_id": order.public_id,
        "organization": order.organization_id,
        "person": order.placed_by_id,
        "key": order.placed_by_key_id,
        "at": order.placed_at,
        "on": order.placed_on,
        "application": order.application_id,
        "gateway": order.gateway,
        "total": order.total,
        "tax_rate": order.tax_rate,
        "currency": order.currency,
        "idempotency_key": order.idempotency_key,
        "state": str(order.state),
        "next_look_at": order.next_look_at,
        "settled_at": order.settled_at,
        "unsettled": unsettled,
        "actor_kind": str(order.actor.kind),
        "actor_name": order.actor.name,
    }


LINE = (
    "public_id",
    *NumberFacts.FACTS,
    "carrier",
    "purchase_fee",
    "rental",
    "interval_months",
    "first_period_end",
    "first_rental",
)


def _as_json(lines):
    return json.dumps([{name: getattr(line, name) for name in LINE} for line in lines], default=str)
