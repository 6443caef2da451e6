"""New prices in lists: what an announced change makes of the price each number shows, once its day has come.

What is charged does not wait for this: the run asks for the price of the period.
"""

from django.db import connection, transaction

from chirp_dashboard.billing.models import PriceChange, Standing
from chirp_dashboard.sweeps import for_each

BATCH = 10_000
"""Numbers in one transaction: other work of the organization waits that long at most."""

# A number that was given back before the day keeps the price it had; one that has come back since has a
# rental of its own. Walks along the index of the prices by rental.
SHOW = """
    WITH due AS (
        SELECT price.rental_id, price.amount, number.id, number.rental_amount AS before,
               number.state <> 'released' AND number.interval_months = 1 AS counts
        FROM billing_rentalprice price
        JOIN billing_rental rental ON rental.id = price.rental_id
        JOIN numbers_phonenumber number ON number.id = rental.phone_number_id
        WHERE price.change_id = %(change)s AND price.rental_id > %(after)s
          AND (rental.ends_on IS NULL OR rental.ends_on >= %(applies_from)s)
          AND NOT EXISTS (
              SELECT FROM billing_rental later
              WHERE later.phone_number_id = number.id AND later.id > rental.id
          )
        ORDER BY price.rental_id LIMIT %(batch)s
        FOR NO KEY UPDATE OF number
    ),
    shown AS (
        UPDATE numbers_phonenumber number SET rental_amount = due.amount
        FROM due WHERE number.id = due.id AND number.rental_amount <> due.amount
    ),
    totalled AS (
        UPDATE numbers_totals
        SET monthly = monthly + (SELECT coalesce(sum(amount - before), 0) FROM due WHERE counts)
        WHERE organization_id = %(organization)s
    )
    SELECT count(*), max(rental_id) FROM due
"""


def show_new_prices(*, at):
    """Let numbers and totals show every price whose day has come; returns how many changes it were."""
    return for_each(
        PriceChange.objects.due_to_show(at=at),
        lambda change: show(change, at=at),
        failure="could not be shown",
    )


def show(change, *, at):
    """Batch by batch; the last one marks the change as applied. True unless somebody else did."""
    last = 0
    while last is not None:
        with transaction.atomic():
            Standing.lock(change.organization)
            change.refresh_from_db(fields=["applied_at", "withdrawn_at"])
            if change.applied_at or change.withdrawn_at:
                return False
            last = show_batch(change, after=last)
            if last is None:
                change.applied_at = at
                change.save(update_fields=["applied_at"])
    return True


def show_batch(change, *, after):
    """Returns the rental to go on after, None when there is nothing left."""
    with connection.cursor() as cursor:
        cursor.execute(
            SHOW,
            {
                "change": change.pk,
                "applies_from": change.applies_from,
                "organization": change.organization_id,
                "after": after,
                "batch": BATCH,
            },
        )
        scanned, last = cursor.fetchone()
    return last if scanned == BATCH else None
