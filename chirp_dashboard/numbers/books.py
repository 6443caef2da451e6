"""Do the books balance? Each check is one query that returns a line for every row that breaks a rule.

The rules are the invariants of numbers and money (I1 …), and everything that is kept twice so that a list
of a million is quick. Nothing is mended here.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connection, transaction
from pgtrigger import registry

from chirp_dashboard.billing.models import (
    BillingRun,
    Charge,
    Entry,
    Invoice,
    InvoiceLine,
    Posting,
)
from chirp_dashboard.organizations.models import Activity

INSERT_ONLY_MODELS = (Activity, Charge, Entry, Posting, InvoiceLine, Invoice)


def periods(anchor, on, months):
    """SQL: how many whole intervals lie between `anchor` and `on`."""
    raw = (
        f"((extract(year FROM {on}) - extract(year FROM {anchor})) * 12"
        f" + extract(month FROM {on}) - extract(month FROM {anchor}))::int"
    )
    late = f"(({anchor} + make_interval(months => {raw}))::date > {on})::int"
    return f"(({raw} - {late}) / {months})"


@dataclass(frozen=True)
class Check:
    invariant: str
    rule: str
    query: str


CHECKS = [
    Check(
        "I1",
        "A number has at most one live owner",
        """
        SELECT country || ' ' || number || ': ' || string_agg(public_id, ', ' ORDER BY id)
        FROM numbers_phonenumber WHERE state <> 'released'
        GROUP BY country, number HAVING count(*) > 1
        """,
    ),
    Check(
        "I1",
        "A number has at most one live order line",
        """
        SELECT country || ' ' || number || ': ' || string_agg(public_id, ', ' ORDER BY id)
        FROM numbers_orderline WHERE state IN ('placed', 'ordered', 'unknown')
        GROUP BY country, number HAVING count(*) > 1
        """,
    ),
    Check(
        "I1",
        "Stock is sold while it is owned, claimed while it is ordered",
        """
        SELECT stock.country || ' ' || stock.number || ': ' || status || ', '
               || coalesce(owned.public_id, line.public_id, 'nobody has it')
        FROM numbers_inventorynumber stock
        LEFT JOIN numbers_phonenumber owned
          ON owned.country = stock.country AND owned.number = stock.number
         AND owned.state <> 'released' AND owned.carrier = 'stock'
        LEFT JOIN numbers_orderline line
          ON line.country = stock.country AND line.number = stock.number
         AND line.state IN ('placed', 'ordered', 'unknown')
        WHERE status = 'for_sale' AND coalesce(owned.id, line.id) IS NOT NULL
           OR status = 'sold' AND owned.id IS NULL
           OR status = 'claimed' AND line.id IS NULL
        """,
    ),
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
        "I3",
        "The postings of an entry sum to zero",
        """
        SELECT 'entry ' || entry_id || ': ' || sum(amount)
        FROM billing_posting GROUP BY entry_id HAVING sum(amount) <> 0
        """,
    ),
    Check(
        "I3",
        "The postings of an organization sum to zero",
        """
        SELECT slug || ': ' || sum(amount) || ' ' || posting.currency
        FROM billing_posting posting
        JOIN organizations_organization organization ON organization.id = organization_id
        GROUP BY slug, posting.currency HAVING sum(amount) <> 0
        """,
    ),
    Check(
        "I3",
        "All postings sum to zero",
        """
        SELECT sum(amount) || ' ' || currency FROM billing_posting
        GROUP BY currency HAVING sum(amount) <> 0
        """,
    ),
    Check(
        "I3",
        "An entry posts what its charges say",
        """
        WITH charged AS (
            SELECT entry_id, sum(amount) AS amount FROM billing_charge GROUP BY entry_id
        ),
        posted AS (
            SELECT entry_id, sum(amount) AS amount FROM billing_posting
            WHERE account = 'receivable' GROUP BY entry_id
        )
        SELECT 'entry ' || id || ': charges of ' || coalesce(charged.amount, 0) || ', posted '
               || coalesce(posted.amount, 0)
        FROM billing_entry entry
        LEFT JOIN charged ON charged.entry_id = entry.id
        LEFT JOIN posted ON posted.entry_id = entry.id
        WHERE kind <> 'payment' AND coalesce(charged.amount, 0) <> coalesce(posted.amount, 0)
        """,
    ),
    Check(
        "I3",
        "What a payment collected is posted",
        """
        WITH posted AS (
            SELECT entry.description AS payment, sum(amount) AS amount
            FROM billing_entry entry JOIN billing_posting posting ON posting.entry_id = entry.id
            WHERE entry.kind = 'payment' AND account = 'cash' GROUP BY entry.description
        )
        SELECT coalesce(public_id, posted.payment) || ': collected ' || coalesce(captured, 0)
               || ', posted ' || coalesce(posted.amount, 0)
        FROM billing_payment payment FULL JOIN posted ON posted.payment = payment.public_id
        WHERE coalesce(captured, 0) <> coalesce(posted.amount, 0)
           OR (state = 'captured') <> (captured > 0)
        """,
    ),
    Check(
        "I3",
        "An organization's balance is the sum of its receivable postings",
        """
        WITH posted AS (
            SELECT organization_id, sum(amount) AS amount FROM billing_posting
            WHERE account = 'receivable' GROUP BY organization_id
        )
        SELECT slug || ': balance ' || coalesce(balance, 0) || ', posted ' || coalesce(amount, 0)
        FROM organizations_organization organization
        LEFT JOIN billing_standing standing ON standing.organization_id = organization.id
        LEFT JOIN posted ON posted.organization_id = organization.id
        WHERE coalesce(balance, 0) <> coalesce(amount, 0)
        """,
    ),
    Check(
        "I3",
        "What is reserved for orders is the sum of those not settled",
        """
        WITH ordered AS (
            SELECT organization_id, sum(total) AS total FROM numbers_order
            WHERE state IN ('placed', 'authorised', 'ordered', 'stuck') GROUP BY organization_id
        )
        SELECT slug || ': reserved ' || unsettled || ', orders ' || coalesce(total, 0)
        FROM billing_standing standing
        JOIN organizations_organization organization ON organization.id = standing.organization_id
        LEFT JOIN ordered ON ordered.organization_id = organization.id
        WHERE unsettled <> coalesce(total, 0)
        """,
    ),
    Check(
        "I6",
        "A phone number has one purchase fee, or a reason for none",
        """
        WITH fees AS (
            SELECT phone_number_id, count(*) AS count FROM billing_charge
            WHERE kind = 'purchase_fee' GROUP BY phone_number_id
        )
        SELECT public_id || ': ' || coalesce(count, 0) || ' fees'
        FROM numbers_phonenumber number LEFT JOIN fees ON fees.phone_number_id = number.id
        WHERE coalesce(count, 0) <> (no_fee_reason = '')::int
        """,
    ),
    Check(
        "I6",
        "A purchase fee belongs to a number of the same organization",
        """
        SELECT 'charge ' || charge.id
        FROM billing_charge charge LEFT JOIN numbers_phonenumber number
          ON number.id = phone_number_id AND number.organization_id = charge.organization_id
        WHERE kind = 'purchase_fee' AND number.id IS NULL
        """,
    ),
    Check(
        "I10",
        "A number is assigned within its organization, live to live, test to test",
        """
        SELECT 'assignment ' || assignment.id || ': ' || number.public_id || ', '
               || application.public_id
        FROM numbers_assignment assignment
        JOIN numbers_phonenumber number ON number.id = phone_number_id
        JOIN organizations_application application ON application.id = application_id
        WHERE number.organization_id <> assignment.organization_id
           OR application.organization_id <> assignment.organization_id
           OR number.is_test <> (application.kind = 'test')
           OR number.number <> assignment.number
        """,
    ),
    Check(
        "I10",
        "No released number is assigned",
        """
        SELECT 'assignment ' || assignment.id || ': ' || number.public_id
        FROM numbers_assignment assignment
        JOIN numbers_phonenumber number ON number.id = phone_number_id
        WHERE ended_at IS NULL AND number.state = 'released'
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
    Check(
        "Kept twice",
        "A number shows the price and the end of its rental",
        """
        SELECT public_id FROM numbers_phonenumber number
        LEFT JOIN LATERAL (
            SELECT * FROM billing_rental WHERE phone_number_id = number.id
            ORDER BY starts_on DESC, id DESC LIMIT 1
        ) AS rental ON true
        WHERE (number.rental_amount, number.interval_months, number.currency, number.organization_id)
              IS DISTINCT FROM
              (rental.amount, rental.interval_months, rental.currency, rental.organization_id)
           OR releases_on IS DISTINCT FROM rental.ends_on
           OR state = 'released' AND rental.ends_on IS NULL
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
        "Invoices",
        "An invoice is the sum of its lines",
        """
        WITH lines AS (
            SELECT invoice_id, count(*) AS count, sum(amount) AS total,
                   count(DISTINCT organization_id) AS organizations,
                   min(organization_id) AS organization_id
            FROM billing_invoiceline line JOIN billing_charge charge ON charge.id = line.charge_id
            GROUP BY invoice_id
        )
        SELECT public_id || ': ' || invoice.total || ' on ' || line_count || ' lines, has '
               || coalesce(lines.total, 0) || ' on ' || coalesce(count, 0)
        FROM billing_invoice invoice LEFT JOIN lines ON lines.invoice_id = invoice.id
        WHERE (invoice.total, line_count, invoice.organization_id, 1) IS DISTINCT FROM
              (lines.total, lines.count, lines.organization_id, lines.organizations)
        """,
    ),
    Check(
        "Invoices",
        "A receipt has the charges of its order, an invoice none of any",
        """
        SELECT public_id || ': charge ' || charge.id
        FROM billing_invoice invoice
        JOIN billing_invoiceline line ON line.invoice_id = invoice.id
        JOIN billing_charge charge ON charge.id = line.charge_id
        WHERE invoice.order_id IS DISTINCT FROM charge.order_id
        """,
    ),
    Check(
        "Invoices",
        "Everything charged before the last billing date is on an invoice",
        """
        SELECT 'charge ' || charge.id || ' of ' || slug
        FROM billing_charge charge
        JOIN billing_standing standing USING (organization_id)
        JOIN organizations_organization organization ON organization.id = organization_id
        WHERE charge.order_id IS NULL
          AND (billing_date <= closed_through OR billing_date IS NULL AND "on" < closed_through)
          AND NOT EXISTS (SELECT FROM billing_invoiceline line WHERE line.charge_id = charge.id)
        """,
    ),
    Check(
        "Invoices",
        "Invoice numbers have no gap",
        """
        SELECT CASE WHEN invoice.id IS NULL THEN 'number ' || numbered || ' is missing'
                    ELSE public_id || ': number ' || invoice.number END
        FROM generate_series(1, (SELECT max(last_number) FROM billing_invoicesequence)) AS numbered
        FULL JOIN billing_invoice invoice ON invoice.number = numbered
        WHERE invoice.id IS NULL OR numbered IS NULL
        """,
    ),
    Check(
        "Invoices",
        "An invoice is paid at most once",
        """
        SELECT public_id || ': paid ' || paid || ' of ' || total FROM billing_invoice
        WHERE paid NOT BETWEEN least(total, 0) AND total
        """,
    ),
    Check(
        "Invoices",
        "Invoices are paid with money that was collected",
        """
        WITH paid AS (
            SELECT organization_id, sum(paid) AS amount FROM billing_invoice GROUP BY organization_id
        ),
        collected AS (
            SELECT organization_id, sum(captured) AS amount FROM billing_payment
            GROUP BY organization_id
        )
        SELECT slug || ': invoices paid ' || paid.amount || ', collected '
               || coalesce(collected.amount, 0)
        FROM paid JOIN organizations_organization organization ON organization.id = organization_id
        LEFT JOIN collected USING (organization_id)
        WHERE paid.amount > coalesce(collected.amount, 0)
        """,
    ),
]


@dataclass(frozen=True)
class Broken:
    """One row that breaks a rule."""

    invariant: str
    rule: str
    what: str

    def __str__(self):
        return f"{self.invariant} {self.rule}: {self.what}"


def check_books(*, at, on=None):
    """Every row that breaks an invariant, as the books stand at the moment `at`.

    Periods begun by `on` have to be charged; without it, those begun by the last finished run. Reads one
    snapshot, so work going on meanwhile is no false alarm.
    """
    ran = BillingRun.objects.exclude(finished_at=None).order_by("-as_of").first()
    due = on or min(ran.as_of if ran else date.min, at.date())
    begun = max(due, ran.as_of if ran else date.min)
    own_transaction = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if own_transaction:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL work_mem = '128MB'")
        broken = []
        for check in CHECKS:
            cursor.execute(check.query, {"at": at, "due": due, "begun": begun})
            broken += [Broken(check.invariant, check.rule, row[0]) for row in cursor.fetchall()]
        return broken + list(unguarded())


def unguarded():
    """I13: triggers that make tables insert-only and are missing, changed or switched off."""
    rule = "Charges, postings and activity are insert-only"
    for model, trigger in registry.registered():
        if model not in INSERT_ONLY_MODELS:
            continue
        status, enabled = trigger.get_installation_status(model)
        if status != "INSTALLED" or not enabled:
            state = "switched off" if status == "INSTALLED" else status.lower()
            yield Broken("I13", rule, f"{model._meta.db_table}: {trigger.name} is {state}")
