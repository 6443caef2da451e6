"""Making room for a load larger than what is there."""

from contextlib import contextmanager

from psycopg import sql

# Foreign keys first: an index they need must not go before them, nor come back after them.
FOREIGN_KEYS = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE contype = 'f' AND conrelid = ANY (%s::regclass[]) ORDER BY 1, 2
"""
UNIQUE = """
    SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid)
    FROM pg_constraint WHERE contype = 'u' AND conrelid = ANY (%s::regclass[]) ORDER BY 1, 2
"""
INDEXES = """
    SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid)
    FROM pg_index
    WHERE indrelid = ANY (%s::regclass[]) AND NOT indisprimary
        AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid AND contype = 'u')
    ORDER BY 1
"""


@contextmanager
def without_indexes(cursor, tables):
    """Take away indexes and foreign keys of `tables` while loading, and build them anew afterwards.

    Everything but the primary keys: built at once they cost a tenth of what they cost row by row,
    and the foreign keys are then checked for all rows together. It happens in the caller's
    transaction, so nobody ever sees the tables without; others wait until it ends.
    """
    foreign_keys = _rows(cursor, FOREIGN_KEYS, tables)
    unique = _rows(cursor, UNIQUE, tables)
    indexes = _rows(cursor, INDEXES, tables)
    cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
    for table, name, _ in foreign_keys + unique:
        cursor.execute(_sql("ALTER TABLE {} DROP CONSTRAINT {}", table, name))
    for name, _ in indexes:
        cursor.execute(_sql("DROP INDEX {}", name))
    yield
    cursor.execute("SET LOCAL maintenance_work_mem = '256MB'")
    for table, name, definition in unique:
        cursor.execute(_sql("ALTER TABLE {} ADD CONSTRAINT {} ", table, name) + sql.SQL(definition))
    for _, definition in indexes:
        cursor.execute(sql.SQL(definition))
    for table, name, definition in foreign_keys:
        cursor.execute(_sql("ALTER TABLE {} ADD CONSTRAINT {} ", table, name) + sql.SQL(definition))
    cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def _rows(cursor, query, tables):
    cursor.execute(query, [tables])
    return cursor.fetchall()


def _sql(text, *names):
    return sql.SQL(text).format(*map(sql.Identifier, names))
