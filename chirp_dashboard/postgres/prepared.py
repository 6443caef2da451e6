"""Statements that PostgreSQL plans once a connection instead of at every execution.

Django binds parameters in the client, so each statement is parsed and planned anew. For the few long
statements of a purchase the planning costs more than the work; they are prepared instead. Behind
PgBouncer in transaction mode this needs its `max_prepared_statements` (1.21 or later).
"""

from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import psycopg
from django.db import connection

ON_REQUEST = 2**31 - 1  # as a threshold: prepare what is asked for, and nothing by its frequency


def plan_once(connection, **signal):
    """Let prepared statements be had, with one plan each; called for every new connection.

    Django switches psycopg's prepared statements off. PostgreSQL, for its part, would plan ours again at
    each execution, since it cannot know how long their arrays are.
    """
    connection.connection.prepare_threshold = ON_REQUEST
    with connection.cursor() as cursor:
        cursor.execute("SET plan_cache_mode = force_generic_plan")


class PreparedCursor(psycopg.Cursor):
    def execute(self, query, params=None, **options):
        try:
            return super().execute(query, params, **(options | {"prepare": True}))
        finally:
            # Django's query log reads what was sent here; psycopg leaves it empty when it is a name.
            self._query = self._query or SimpleNamespace(query=query.encode())


@contextmanager
def prepared_cursor():
    """Like `connection.cursor()`, on the same connection and in the same transaction."""
    connection.ensure_connection()
    wrap = connection.make_debug_cursor if connection.queries_logged else connection.make_cursor
    with wrap(PreparedCursor(connection.connection)) as cursor:
        yield cursor


@cache
def columns_of(model, alias):
    """The columns of `model`, in the order `fetch` reads them, for a SELECT over the table `alias`."""
    return ", ".join(f'{alias}."{field.column}"' for field in model._meta.concrete_fields)


def fetch(models, sql, parameters):
    """Rows of a prepared SELECT over `columns_of` each of `models`, as tuples of model instances."""
    with prepared_cursor() as cursor:
        cursor.execute(sql, parameters)
        return [tuple(_instances(models, row)) for row in cursor.fetchall()]


def _instances(models, row):
    start = 0
    for model in models:
        names = [field.attname for field in model._meta.concrete_fields]
        yield model.from_db(connection.alias, names, row[start : start + len(names)])
        start += len(names)
