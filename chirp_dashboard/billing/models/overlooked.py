"""Who was due and got nothing: a second opinion on the run, by other means than the run's own.

Local dates and billing dates are PostgreSQL's here, and nothing is read of what a run says it did.
"""

from datetime import timedelta

from django.db import connection

GRACE = timedelta(hours=1)
"""PostgreSQL may know a time zone by other rules than Python, as when a country has just changed them.
They differ by an hour at most, and one of them must not raise a false alarm."""

# Each probe ends at the first row of an index, so that an organization of a million costs no more.
OVERLOOKED = """
    WITH today AS (
        SELECT id, slug, billing_day,
               coalesce(%(on)s::date, (%(at)s::timestamptz AT TIME ZONE time_zone)::date) AS day
        FROM organizations_organization
    ),
    reached AS (
        SELECT today.*, (
            SELECT max(due) FROM (
                SELECT least(
                    (month + make_interval(days => billing_day - 1))::date,
                    (month + interval '1 month - 1 day')::date
                ) AS due
                FROM generate_series(
                    date_trunc('month', day::timestamp) - interval '1 month',
                    date_trunc('month', day::timestamp), interval '1 month'
                ) AS month
            ) AS dates WHERE due <= day
        ) AS billing_date
        FROM today
    ),
    judged AS (
        SELECT slug, billing_date, (
            SELECT true FROM billing_rental rental
            WHERE rental.organization_id = reached.id AND interval_months = 1
              AND starts_on < billing_date AND (ends_on IS NULL OR ends_on > billing_date)
            LIMIT 1
        ) AS is_due, (
            SELECT true FROM billing_charge charge
            WHERE charge.organization_id = reached.id AND charge."on" >= reached.billing_date
              AND period_start = reached.billing_date AND kind = 'rental'
            LIMIT 1
        ) AS is_charged, (
            SELECT closed_through >= reached.billing_date FROM billing_standing standing
            WHERE standing.organization_id = reached.id
        ) AS is_invoiced, (
            SELECT true FROM billing_rental lease, LATERAL (
                SELECT max(starts) AS starts FROM (
                    SELECT (anchor + make_interval(months => n * interval_months))::date AS starts
                    FROM generate_series(0, (
                        (extract(year FROM day) - extract(year FROM anchor))::int * 12 + 12
                    ) / interval_months) AS n
                ) AS periods WHERE starts <= day
            ) AS begun
            WHERE lease.organization_id = reached.id AND interval_months > 1
              AND begun.starts > starts_on AND (ends_on IS NULL OR ends_on > begun.starts)
              AND NOT EXISTS (
                  SELECT FROM billing_charge charge
                  WHERE charge.rental_id = lease.id AND charge.period_start = begun.starts
                    AND charge.kind = 'rental'
              )
            LIMIT 1
        ) AS lacks_lease
        FROM reached
    )
    SELECT slug, billing_date::text,
           CASE WHEN is_due AND is_charged IS NULL THEN 'Rentals were due and nothing was charged.'
                WHEN is_due AND is_invoiced IS NOT TRUE THEN 'Rentals were due and nothing was invoiced.'
                ELSE 'A lease was due and was not charged.' END
    FROM judged
    WHERE is_due AND (is_charged IS NULL OR is_invoiced IS NOT TRUE) OR lacks_lease
    ORDER BY slug
"""


def overlooked(*, at, on=None):
    """`[{organization, billing_date, reason}]` of those that are due by `on` and got nothing.

    Without `on`, by each organization's own date an hour before `at`.
    """
    with connection.cursor() as cursor:
        cursor.execute(OVERLOOKED, {"at": at - GRACE, "on": on})
        return [
            {"organization": slug, "billing_date": billing_date, "reason": reason}
            for slug, billing_date, reason in cursor.fetchall()
        ]
