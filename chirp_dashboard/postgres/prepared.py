"""Statements that PostgreSQL plans once a connection instead of at every execution.

Django binds parameters in the client, so each statement is parsed and planned anew. For the few long
statements of a purchase the planning costs more than the work; they are prepared instead. Behind
PgBouncer in transaction mode this needs its `max_prepared_statements` (1.21 or later).
"""

import re
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from types import SimpleNamespace

import psycopg
from django.db import connection
from django.db.models import Expression
from psycopg.sql import Literal

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


# Querysets ------------------------------------------------------------------------------------


class Given(Expression):
    """Stands in a queryset for a value that is told at every execution."""

    def __init__(self, name, output_field=None):
        super().__init__(output_field=output_field)
        self.name = name

    def as_sql(self, compiler, connection):
        return "%s", [self]


@dataclass(frozen=True)
class Statement:
    """A queryset of dicts as SQL; `names` says which value each of its parameters is."""

    sql: str
    names: tuple
    columns: tuple
    converters: tuple  # (column, expression, what Django does to the value), only where it does

    def run(self, values):
        with prepared_cursor() as cursor:
            cursor.execute(self.sql, [values[name] for name in self.names])
            rows = [dict(zip(self.columns, row, strict=True)) for row in cursor.fetchall()]
        for column, expression, convert in self.converters:
            for row in rows:
                row[column] = convert(row[column], expression, connection)
        return rows


_statements = {}


def fetch_dicts(shape, build, **values):
    """The rows of `build()`, a `.values()` queryset with `Given(name)` in the place of each of `values`.

    It is built and compiled once: everything else that decides how it looks is to be in `shape`, of which
    there should be few. It is planned for any values, so not for a search that may find all or nothing.
    """
    statement = _statements.get(shape)
    if statement is None:
        statement = _statements[shape] = _compiled(build())
    return statement.run(values)


PARAMETER = re.compile(r"%[%s]")


def _compiled(rows):
    """Constants are written out, or the planner could not tell whether a partial index will do."""
    compiler = rows.query.get_compiler(connection=connection)
    sql, parameters = compiler.as_sql()
    rest = iter(parameters)

    def written(match):
        if match[0] == "%%" or isinstance(parameter := next(rest), Given):
            return match[0]
        return Literal(parameter).as_string(connection.connection).replace("%", "%%")

    columns = tuple(rows.query.selected)
    expressions = [selected for selected, *_ in compiler.select]
    converters = compiler.get_converters(expressions)
    return Statement(
        sql=PARAMETER.sub(written, sql),
        names=tuple(each.name for each in parameters if isinstance(each, Given)),
        columns=columns,
        converters=tuple(
            (columns[place], expression, convert)
            for place, (converts, expression) in converters.items()
            for convert in converts
        ),
    )
