"""Rental periods: each charged once, at its price, without a gap."""

from .rules import Check


def periods(anchor, on, months):
    """SQL: how many whole intervals lie between `anchor` and `on`."""
    raw = (
        f"((extract(year FROM {on}) - extract(year FROM {anchor})) * 12"
        f" + extract(month FROM {on}) - extract(month FROM {anchor}))::int"
    )
    late = f"(({anchor} + make_interval(months => {raw}))::date > {on})::int"
    return f"(({raw} - {late}) / {months})"


CHECKS = [
    Check(
        "I2",
        "A rental period is charged once",
        """
        SELECT 'rental ' || rental_id || ' from ' || period_start || ': ' || count(*) || ' charges'
        FROM billing_charge WHERE kind = 'rental'
        GROUP BY rental_id, period_start HAVING count(*) > 1
        """,
    ),
    Check(
        "I2",
        "No period is charged before it begins",
        """
        SELECT 'charge ' || charge.id || ': rental ' || rental_id || ' from ' || period_start
        FROM billing_charge charge
        JOIN organizations_organization organization ON organization.id = organization_id
        WHERE kind = 'rental'
          AND period_start > greatest(%(begun)s, (%(at)s AT TIME ZONE time_zone)::date)
        """,
    ),
    Check(
        "I2",
        "No period is charged outside its rental",
        """
        SELECT 'charge ' || charge.id || ': rental ' || rental.id || ' from ' || period_start
        FROM billing_charge charge JOIN billing_rental rental ON rental.id = rental_id
        WHERE kind = 'rental' AND (
            period_start < starts_on
            OR period_start > starts_on AND period_start >= ends_on AND NOT (
                -- a number that is given back on the day a period begins owes that period
                period_start = ends_on AND EXISTS (
                    SELECT FROM numbers_phonenumber number
                    JOIN organizations_activity activity
                      ON activity.organization_id = number.organization_id
                     AND subject = number.public_id AND verb = 'released'
                    WHERE number.id = rental.phone_number_id
                      AND after ->> 'releases_on' = ends_on::text
                      AND before ->> 'releases_on' IS DISTINCT FROM ends_on::text
                )
            )
        )
        """,
    ),
    Check(
        "I2",
        "Every period that had begun at the last run is charged",
        f"""
        WITH begun AS (
            SELECT *, greatest(starts_on, least(%(due)s, coalesce(ends_on - 1, %(due)s))) AS until
            FROM billing_rental
        ),
        written AS (
            SELECT begun.id, count(*) AS periods
            FROM begun JOIN billing_charge charge
              ON charge.rental_id = begun.id AND kind = 'rental' AND period_start <= until
            GROUP BY begun.id
        ),
        compared AS (
            SELECT begun.*, coalesce(written.periods, 0) AS charged,
                   1 + {periods("anchor", "until", "interval_months")}
                     - {periods("anchor", "starts_on", "interval_months")} AS due
            FROM begun LEFT JOIN written USING (id)
        )
        SELECT 'rental ' || compared.id || ' of ' || number.public_id || ': ' || charged || ' of '
               || due || ' periods by ' || until
        FROM compared JOIN numbers_phonenumber number ON number.id = phone_number_id
        WHERE charged <> due
        """,  # noqa: S608
    ),
    Check(
        "I2",
        "A whole period costs what the rental's price was when it began",
        """
        SELECT 'charge ' || charge.id || ': ' || charge.amount || ' for rental ' || rental.id
               || ' from ' || period_start
        FROM billing_charge charge JOIN billing_rental rental ON rental.id = rental_id
        LEFT JOIN LATERAL (
            SELECT price.amount
            FROM billing_rentalprice price JOIN billing_pricechange change ON change.id = change_id
            WHERE price.rental_id = rental.id AND withdrawn_at IS NULL
              AND applies_from <= period_start
            ORDER BY applies_from DESC, change.id DESC LIMIT 1
        ) AS announced ON true
        WHERE kind = 'rental' AND period_start > starts_on
          AND charge.amount <> coalesce(announced.amount, rental.amount)
        """,
    ),
    Check(
        "I11",
        "Periods begin and end on the dates of the rental's anchor",
        f"""
        SELECT 'charge ' || id || ': rental ' || rental_id || ', ' || period_start || ' to '
               || period_end
        FROM (
            SELECT charge.*, anchor, starts_on, interval_months AS months,
                   {periods("anchor", "period_start", "interval_months")} AS n
            FROM billing_charge charge JOIN billing_rental rental ON rental.id = rental_id
            WHERE kind = 'rental'
        ) AS charged
        WHERE period_end <> (anchor + make_interval(months => (n + 1) * months))::date
           OR period_start <> starts_on
              AND period_start <> (anchor + make_interval(months => n * months))::date
        """,  # noqa: S608
    ),
    Check(
        "I11",
        "Periods of a rental leave no gap and do not overlap",
        """
        SELECT 'rental ' || rental_id || ': ' || period_end || ', then ' || following
        FROM (
            SELECT rental_id, period_end,
                   lead(period_start) OVER (PARTITION BY rental_id ORDER BY period_start) AS following
            FROM billing_charge WHERE kind = 'rental'
        ) AS charged
        WHERE period_end <> following
        """,
    ),
    Check(
        "I11",
        "Rentals of a number do not overlap",
        """
        SELECT public_id || ': ' || coalesce(ends_on::text, 'open') || ', then ' || following
        FROM (
            SELECT phone_number_id, ends_on,
                   lead(starts_on) OVER (PARTITION BY phone_number_id ORDER BY starts_on, id)
                   AS following
            FROM billing_rental
        ) AS rented JOIN numbers_phonenumber number ON number.id = phone_number_id
        WHERE following IS NOT NULL AND (ends_on IS NULL OR ends_on > following)
        """,
    ),
]
