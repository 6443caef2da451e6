"""Invoices, receipts and credit notes: sums, tax, numbers without a gap."""

from .rules import Check

CHECKS = [
    Check(
        "Invoices",
        "An invoice is the sum of its lines and its tax",
        """
        WITH lines AS (
            SELECT invoice_id, count(*) AS count, sum(amount) AS total,
                   count(DISTINCT organization_id) AS organizations,
                   min(organization_id) AS organization_id
            FROM billing_invoiceline line JOIN billing_charge charge ON charge.id = line.charge_id
            GROUP BY invoice_id
        )
        SELECT public_id || ': ' || invoice.total - tax || ' on ' || line_count || ' lines, has '
               || coalesce(lines.total, 0) || ' on ' || coalesce(count, 0)
        FROM billing_invoice invoice LEFT JOIN lines ON lines.invoice_id = invoice.id
        WHERE (invoice.total - tax, line_count, invoice.organization_id, 1) IS DISTINCT FROM
              (lines.total, lines.count, lines.organization_id, lines.organizations)
        """,
    ),
    Check(
        "Invoices",
        "The tax of an invoice is its rate on its net sum",
        """
        SELECT public_id || ': ' || tax || ' on ' || total - tax || ' at ' || tax_rate
        FROM billing_invoice
        WHERE kind <> 'credit_note' AND tax <> round((total - tax) * tax_rate / 100)
        """,
    ),
    Check(
        "Invoices",
        "The sums of an invoice by type and kind are its lines",
        """
        SELECT public_id || ': ' || amount || ' on ' || lines || ' lines, has ' || total - tax
               || ' on ' || line_count
        FROM billing_invoice invoice, LATERAL (
            SELECT sum((row ->> 'amount')::bigint) AS amount, sum((row ->> 'count')::bigint) AS lines
            FROM jsonb_array_elements(sums) AS row
        ) AS summed
        WHERE sums <> '[]' AND (amount, lines) IS DISTINCT FROM (total - tax, line_count::bigint)
        """,
    ),
    Check(
        "Invoices",
        "Credit notes give back no more than the invoice they correct",
        """
        SELECT corrected.public_id || ': ' || corrected.total || ', credited ' || -sum(note.total)
               || ', tax ' || corrected.tax || ', credited ' || -sum(note.tax)
        FROM billing_invoice corrected JOIN billing_invoice note ON note.corrects_id = corrected.id
        GROUP BY corrected.id
        HAVING -sum(note.total) > corrected.total OR -sum(note.tax) > corrected.tax
            OR bool_or(note.organization_id <> corrected.organization_id)
        """,
    ),
    Check(
        "Invoices",
        "A charge is credited at most once",
        """
        SELECT 'charge ' || charge.id || ': ' || charge.amount || ', credited ' || -sum(credit.amount)
        FROM billing_charge charge JOIN billing_charge credit ON credit.corrects_id = charge.id
        GROUP BY charge.id HAVING -sum(credit.amount) > charge.amount
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
            SELECT organization_id, sum(captured - refunded) AS amount FROM billing_payment
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
