"""Payments and refunds, the gateway's truth, and the ladder."""

from .rules import Check

CHECKS = [
    Check(
        "I4",
        "What the gateway collected is what we booked",
        """
        SELECT gateway || ' on ' || started_at::date || ': ' || (difference ->> 'kind') || ' '
               || coalesce(difference ->> 'reference', '')
        FROM (
            SELECT DISTINCT ON (gateway) * FROM billing_reconciliation
            WHERE finished_at IS NOT NULL ORDER BY gateway, id DESC
        ) AS latest, jsonb_array_elements(differences) AS difference
        WHERE coalesce(difference ->> 'repaired', 'false') <> 'true'
        """,
    ),
    Check(
        "I7",
        "No authorisation is older than its window",
        """
        SELECT public_id || ': authorised since ' || created_at::date FROM billing_payment
        WHERE state = 'authorised' AND created_at < %(at)s - interval '7 days'
        """,
    ),
    Check(
        "Payments",
        "No more is given back than was paid",
        """
        SELECT public_id || ': ' || captured || ' paid, ' || refunded || ' given back, refunds of '
               || coalesce(given.amount, 0)
        FROM billing_payment payment LEFT JOIN (
            SELECT payment_id, sum(amount) AS amount FROM billing_refund
            WHERE state <> 'failed' GROUP BY payment_id
        ) AS given ON given.payment_id = payment.id
        WHERE refunded <> coalesce(given.amount, 0) OR refunded > captured
        """,
    ),
    Check(
        "Payments",
        "The ladder and the standing say the same",
        """
        SELECT slug FROM billing_standing standing
        JOIN organizations_organization organization ON organization.id = organization_id
        LEFT JOIN billing_dunning dunning
          ON dunning.organization_id = organization.id AND ended_at IS NULL
        WHERE dunning.id IS NULL
          AND (purchases_stopped_at IS NOT NULL OR suspended_at IS NOT NULL)
        """,
    ),
]
