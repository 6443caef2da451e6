"""Starting rentals: the contract, its purchase fee and its first period, in one statement."""

import json
from dataclasses import asdict, dataclass
from datetime import date

from django.db import models

from chirp_dashboard.billing.periods import anchor_of, first_period
from chirp_dashboard.postgres.prepared import prepared_cursor

# One round trip however many numbers are delivered. Postings of one entry are written by one INSERT,
# because the `balanced` trigger looks at whole statements.
START = """
WITH asked AS (
    SELECT * FROM jsonb_to_recordset(%(terms)s::jsonb) AS terms (
        phone_number_id bigint, amount bigint, interval_months smallint, anchor date,
        starts_on date, first_end date, first_amount bigint, fee bigint
    )
),
started AS (
    INSERT INTO billing_rental
        (organization_id, phone_number_id, amount, currency, interval_months, anchor, starts_on, created_at)
    SELECT %(organization)s::bigint, phone_number_id, amount, %(currency)s::text, interval_months,
           anchor, starts_on, %(at)s::timestamptz
    FROM asked
    RETURNING id, phone_number_id
),
entry AS (
    INSERT INTO billing_entry (organization_id, kind, description, at)
    VALUES (%(organization)s::bigint, 'purchase', %(description)s::text, %(at)s::timestamptz)
    RETURNING id
),
owed AS (
    SELECT 'rental' AS kind, started.id AS rental, phone_number_id, starts_on AS starts,
           first_end AS ends, first_amount AS amount
    FROM asked JOIN started USING (phone_number_id)
    UNION ALL
    SELECT 'purchase_fee', NULL, phone_number_id, NULL, NULL, fee FROM asked WHERE fee IS NOT NULL
),
charged AS (
    INSERT INTO billing_charge
        (organization_id, entry_id, kind, rental_id, phone_number_id, order_id, "on",
         period_start, period_end, amount, currency, description, created_at)
    SELECT %(organization)s::bigint, entry.id, kind, rental, phone_number_id, %(order)s::bigint,
           %(on)s::date, starts, ends, amount, %(currency)s::text, %(description)s::text, %(at)s::timestamptz
    FROM owed, entry
),
posted AS (
    INSERT INTO billing_posting (entry_id, organization_id, account, amount, currency)
    SELECT entry.id, %(organization)s::bigint, account, amount, %(currency)s::text
    FROM entry, (
        SELECT 'receivable' AS account, sum(amount) AS amount FROM owed
        UNION ALL
        SELECT CASE kind WHEN 'rental' THEN 'rentals' ELSE 'purchase_fees' END, -sum(amount)
        FROM owed GROUP BY kind
    ) AS sums
    WHERE amount <> 0
)
UPDATE billing_standing SET balance = balance + (SELECT sum(amount) FROM owed)
WHERE organization_id = %(organization)s::bigint
RETURNING (SELECT sum(amount) FROM owed)
"""


@dataclass(frozen=True)
class RentalTerms:
    """What one number costs from `starts_on`. `fee` is None where there is none to pay, as on undo.

    The first period ends on `first_end`; later ones begin on `anchor` + n · `interval_months`.
    """

    phone_number_id: int
    amount: int
    interval_months: int
    starts_on: date
    anchor: date
    first_end: date
    first_amount: int
    fee: int | None = None

    @classmethod
    def from_purchase(cls, phone_number_id, *, fee, amount, interval_months, billing_day, on):
        """The terms of a number purchased on the local date `on` (design §8, first period)."""
        first = first_period(billing_day, amount, on=on, interval_months=interval_months)
        return cls(
            phone_number_id=phone_number_id,
            amount=amount,
            interval_months=interval_months,
            starts_on=on,
            anchor=anchor_of(billing_day) if interval_months == 1 else on,
            first_end=first.end,
            first_amount=first.amount,
            fee=fee,
        )


class StartsRentals(models.QuerySet):
    def start(self, organization, terms, *, on, at, description="", order=None):
        """Start a rental per RentalTerms and write fee and first period; return the sum charged.

        The caller holds `Standing.lock(organization)`; `on` is the posting date. `order` is given
        when the order's own payment collects these charges.
        """
        with prepared_cursor() as cursor:
            cursor.execute(
                START,
                {
                    "organization": organization.pk,
                    "currency": organization.currency,
                    "terms": json.dumps([asdict(each) for each in terms], default=str),
                    "description": description,
                    "order": order and order.pk,
                    "on": on,
                    "at": at,
                },
            )
            return int(cursor.fetchone()[0])
