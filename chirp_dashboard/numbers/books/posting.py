"""The double-entry books, and the fees that belong to numbers."""

from .rules import Check

CHECKS = [
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
        WHERE kind NOT IN ('payment', 'tax', 'refund')
          AND coalesce(charged.amount, 0) <> coalesce(posted.amount, 0)
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
        "What was given back is posted",
        """
        WITH posted AS (
            SELECT entry.description AS refund, -sum(amount) AS amount
            FROM billing_entry entry JOIN billing_posting posting ON posting.entry_id = entry.id
            WHERE entry.kind = 'refund' AND account = 'cash' GROUP BY entry.description
        ),
        given AS (SELECT public_id, amount FROM billing_refund WHERE state = 'refunded')
        SELECT coalesce(public_id, posted.refund) || ': given back ' || coalesce(given.amount, 0)
               || ', posted ' || coalesce(posted.amount, 0)
        FROM given FULL JOIN posted ON posted.refund = given.public_id
        WHERE coalesce(given.amount, 0) <> coalesce(posted.amount, 0)
        """,
    ),
    Check(
        "I3",
        "The tax that is posted is the tax of the invoices",
        """
        WITH posted AS (
            SELECT organization_id, -sum(amount) AS amount FROM billing_posting
            WHERE account = 'tax' GROUP BY organization_id
        ),
        invoiced AS (
            SELECT organization_id, sum(tax) AS amount FROM billing_invoice
            GROUP BY organization_id
        )
        SELECT slug || ': invoiced ' || coalesce(invoiced.amount, 0) || ', posted '
               || coalesce(posted.amount, 0)
        FROM organizations_organization organization
        LEFT JOIN posted ON posted.organization_id = organization.id
        LEFT JOIN invoiced ON invoiced.organization_id = organization.id
        WHERE coalesce(invoiced.amount, 0) <> coalesce(posted.amount, 0)
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
]
