from django.db import connection, transaction
from django.test.utils import CaptureQueriesContext

from chirp_dashboard.postgres.prepared import prepared_cursor

STATEMENT = "SELECT %(n)s::bigint + 1"


def run(n=1):
    with prepared_cursor() as cursor:
        cursor.execute(STATEMENT, {"n": n})
        return cursor.fetchone()[0]


def plans():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT generic_plans, custom_plans FROM pg_prepared_statements"
            " WHERE statement LIKE '%%::bigint + 1'"
        )
        return cursor.fetchall()


def test_statement_is_prepared_once_and_keeps_its_plan(db):
    assert [run(n) for n in (1, 2, 3)] == [2, 3, 4]
    assert plans() == [(3, 0)]


def test_statement_is_seen_by_the_query_log(db):
    with CaptureQueriesContext(connection) as queries:
        run()
        run()
    assert [query["sql"].endswith("::bigint + 1") for query in queries] == [True, True]


def test_statement_survives_a_rollback(db):
    run()
    with transaction.atomic():
        run()
        transaction.set_rollback(True)
    assert run(5) == 6
