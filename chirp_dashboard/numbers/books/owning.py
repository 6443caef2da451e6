"""Who owns which number, and which applications it is assigned to."""

from .rules import Check

CHECKS = [
    Check(
        "I1",
        "A number has at most one live owner",
        """
        SELECT country || ' ' || number || ': ' || string_agg(public_id, ', ' ORDER BY id)
        FROM numbers_phonenumber WHERE state <> 'released' AND NOT is_test
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
]
