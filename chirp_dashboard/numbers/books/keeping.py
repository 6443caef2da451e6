"""What is kept twice, what must go on, and what must not be mixed or seen."""

from .rules import Check

CHECKS = [
    Check(
        "Kept twice",
        "A number shows the price and the end of its rental",
        """
        SELECT public_id FROM numbers_phonenumber number
        LEFT JOIN LATERAL (
            SELECT * FROM billing_rental WHERE phone_number_id = number.id
            ORDER BY starts_on DESC, id DESC LIMIT 1
        ) AS rental ON true
        LEFT JOIN LATERAL (
            SELECT price.amount
            FROM billing_rentalprice price JOIN billing_pricechange change ON change.id = change_id
            WHERE price.rental_id = rental.id AND withdrawn_at IS NULL AND applied_at IS NOT NULL
              AND (rental.ends_on IS NULL OR rental.ends_on >= applies_from)
            ORDER BY applies_from DESC, change.id DESC LIMIT 1
        ) AS announced ON true
        WHERE NOT number.is_test AND (number.rental_amount <> coalesce(announced.amount, rental.amount) AND NOT EXISTS (
                  -- the sweep is at work on it
                  SELECT FROM billing_rentalprice price
                  JOIN billing_pricechange change ON change.id = change_id
                  WHERE price.rental_id = rental.id AND price.amount = number.rental_amount
                    AND withdrawn_at IS NULL AND applied_at IS NULL
                    AND applies_from <= (%(at)s::timestamptz + interval '1 day')::date
              )
           OR (number.interval_months, number.currency, number.organization_id) IS DISTINCT FROM
              (rental.interval_months, rental.currency, rental.organization_id)
           OR releases_on IS DISTINCT FROM rental.ends_on
           OR state = 'released' AND rental.ends_on IS NULL)
        """,
    ),
    Check(
        "Kept twice",
        "A number counts its open assignments",
        """
        WITH assigned AS (
            SELECT phone_number_id, count(*) AS count FROM numbers_assignment
            WHERE ended_at IS NULL GROUP BY phone_number_id
        )
        SELECT public_id || ': counts ' || assignment_count || ', has ' || coalesce(count, 0)
        FROM numbers_phonenumber number LEFT JOIN assigned ON assigned.phone_number_id = number.id
        WHERE assignment_count <> coalesce(count, 0)
        """,
    ),
    Check(
        "Kept twice",
        "An organization counts its live numbers and what they rent for a month",
        """
        WITH live AS (
            SELECT organization_id, count(*) AS numbers,
                   coalesce(sum(rental_amount) FILTER (WHERE interval_months = 1), 0) AS monthly
            FROM numbers_phonenumber WHERE state <> 'released' GROUP BY organization_id
        )
        SELECT slug || ': counts ' || coalesce(totals.numbers, 0) || ' and '
               || coalesce(totals.monthly, 0) || ', has ' || coalesce(live.numbers, 0) || ' and '
               || coalesce(live.monthly, 0)
        FROM organizations_organization organization
        LEFT JOIN numbers_totals totals ON totals.organization_id = organization.id
        LEFT JOIN live ON live.organization_id = organization.id
        WHERE (coalesce(totals.numbers, 0), coalesce(totals.monthly, 0))
              <> (coalesce(live.numbers, 0), coalesce(live.monthly, 0))
        """,
    ),
    Check(
        "I8",
        "An idempotency key has one order, a reference one payment or refund",
        """
        SELECT 'order ' || idempotency_key || ': ' || count(*) FROM numbers_order
        GROUP BY organization_id, idempotency_key HAVING count(*) > 1
        UNION ALL
        SELECT 'payment ' || reference || ': ' || count(*) FROM billing_payment
        GROUP BY reference HAVING count(*) > 1
        UNION ALL
        SELECT 'refund ' || reference || ': ' || count(*) FROM billing_refund
        GROUP BY reference HAVING count(*) > 1
        UNION ALL
        SELECT gateway || ' ' || gateway_id || ': ' || count(*) FROM billing_payment
        WHERE gateway_id <> '' GROUP BY gateway, gateway_id HAVING count(*) > 1
        """,
    ),
    Check(
        "I9",
        "An order that is not settled is looked at again",
        """
        SELECT public_id || ': ' || state || ', next look '
               || coalesce(next_look_at::text, 'never')
        FROM numbers_order
        WHERE state IN ('placed', 'authorised', 'ordered')
          AND (next_look_at IS NULL OR next_look_at < %(at)s - interval '1 day')
        """,
    ),
    Check(
        "I12",
        "No more was spent in a day than the cap allowed",
        """
        SELECT slug || ' on ' || spent_on || ': ' || spent || ' of ' || allowed
        FROM billing_standing standing
        JOIN organizations_organization organization ON organization.id = organization_id,
        LATERAL (
            SELECT max((change.before ->> 'daily_spend_cap')::bigint) AS before,
                   bool_or(change.before -> 'daily_spend_cap' = 'null') AS was_unlimited
            FROM organizations_activity change
            WHERE change.organization_id = organization.id AND verb = 'settings_changed'
              AND change.before ? 'daily_spend_cap'
              AND (change.at AT TIME ZONE time_zone)::date >= spent_on
        ) AS caps,
        LATERAL (SELECT greatest(daily_spend_cap, caps.before) AS allowed) AS highest
        WHERE daily_spend_cap IS NOT NULL AND NOT coalesce(was_unlimited, false)
          AND spent > allowed
        """,
    ),
    Check(
        "I15",
        "No secret stands in activity, mail, jobs or errors",
        r"""
        WITH written AS (
            SELECT 'activity ' || id AS place, before::text || after::text AS text
            FROM organizations_activity WHERE at > %(at)s - interval '35 days'
            UNION ALL SELECT 'mail ' || id, subject || text || error FROM organizations_mail
            UNION ALL SELECT 'job ' || id, args::text FROM procrastinate_jobs
            UNION ALL SELECT 'event ' || id, error FROM billing_inboxevent
            UNION ALL SELECT 'payment ' || payment_id, detail FROM billing_paymentevent
            UNION ALL SELECT 'run ' || id, failures::text FROM billing_billingrun
        )
        SELECT place FROM written
        WHERE text ~ '(sk|rk)_(live|test)_[A-Za-z0-9_]{12,}|whsec_[A-Za-z0-9+/=]{12,}|argon2[id]{0,2}\$'
        """,
    ),
    Check(
        "I16",
        "Nothing joins things of two organizations",
        """
        SELECT 'charge ' || charge.id FROM billing_charge charge
        JOIN billing_rental rental ON rental.id = rental_id
        WHERE charge.organization_id <> rental.organization_id
           OR charge.phone_number_id <> rental.phone_number_id
        UNION ALL
        SELECT 'rental ' || rental.id FROM billing_rental rental
        JOIN numbers_phonenumber number ON number.id = phone_number_id
        WHERE rental.organization_id <> number.organization_id
        UNION ALL
        SELECT payment.public_id FROM billing_payment payment
        LEFT JOIN billing_invoice invoice ON invoice.id = payment.invoice_id
        LEFT JOIN numbers_order placed ON placed.id = payment.order_id
        WHERE payment.organization_id <> coalesce(invoice.organization_id, payment.organization_id)
           OR payment.organization_id <> coalesce(placed.organization_id, payment.organization_id)
        UNION ALL
        SELECT refund.public_id FROM billing_refund refund
        JOIN billing_payment payment ON payment.id = payment_id
        WHERE refund.organization_id <> payment.organization_id
        UNION ALL
        SELECT line.public_id FROM numbers_orderline line
        JOIN numbers_order placed ON placed.id = order_id
        JOIN numbers_phonenumber number ON number.id = phone_number_id
        WHERE placed.organization_id <> number.organization_id
        """,
    ),
]
