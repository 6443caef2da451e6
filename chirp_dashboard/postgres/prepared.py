"""Statements that PostgreSQL plans once a connection instead of at every execution.

Django binds parameters in the client, so each statement is parsed and planned anew. For the few long
statements of a purchase the planning costs more than the work; they are prepared instead. Behind
PgBouncer in transaction mode this needs its `max_prepared_statements` (1.21 or later).
"""

from contextlib import contextmanager

import psycopg
from django.db import connection


class PreparedCursor(psycopg.Cursor):
    def execute(self, query, params=None, **options):
        return super().execute(query, params, **(options | {"prepare": True}))


@contextmanager
def prepared_cursor():
    """Like `connection.cursor()`, on the same connection and in the same transaction."""
    connection.ensure_connection()
    with connection.make_cursor(PreparedCursor(connection.connection)) as cursor:
        yield cursor
