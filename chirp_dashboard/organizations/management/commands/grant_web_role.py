from functools import cache

import pgtrigger
from django.core.management.base import BaseCommand, CommandError
from django.db import connections, transaction
from psycopg import sql

ALL = ("SELECT", "INSERT", "UPDATE", "DELETE")


class Command(BaseCommand):
    help = (
        "Grant the role that web processes and workers connect as what they need and no more. It owns "
        "no table, so it can neither drop one nor switch off a trigger."
    )

    def add_arguments(self, parser):
        parser.add_argument("--role", required=True)

    def handle(self, *, role, **options):
        alias = "owner" if "owner" in connections else "default"
        connection = connections[alias]
        with transaction.atomic(using=alias), connection.cursor() as cursor:
            self.require_ordinary(cursor, role)
            grantee = sql.Identifier(role)
            for statement in self.statements(connection.introspection.table_names(cursor)):
                cursor.execute(sql.SQL(statement).format(role=grantee))
        self.stdout.write(f"{role} may use the tables and owns none of them.")

    def require_ordinary(self, cursor, role):
        cursor.execute(
            "SELECT rolsuper, EXISTS (SELECT FROM pg_tables WHERE schemaname = current_schema()"
            " AND pg_has_role(rolname, tableowner, 'MEMBER')) FROM pg_roles WHERE rolname = %s",
            [role],
        )
        found = cursor.fetchone()
        if found is None:
            raise CommandError(
                f"There is no role {role}; make it: CREATE ROLE {role} LOGIN PASSWORD …"
            )
        if any(found):
            raise CommandError(
                f"{role} is a superuser or owns tables; give the web a role of its own."
            )

    def statements(self, tables):
        schema = "SCHEMA public"
        yield f"REVOKE CREATE ON {schema} FROM PUBLIC"
        yield f"GRANT USAGE ON {schema} TO {{role}}"
        yield f"REVOKE ALL ON ALL TABLES IN {schema} FROM {{role}}"
        yield f"GRANT USAGE, SELECT ON ALL SEQUENCES IN {schema} TO {{role}}"
        for table in tables:
            yield f'GRANT {privileges(table)} ON "{table}" TO {{role}}'


def privileges(table):
    """What the web role may do with the rows of `table`: never what the table's own trigger refuses."""
    if table == "django_migrations":
        return "SELECT"
    return ", ".join(name for name in ALL if name not in refused().get(table, ()))


@cache
def refused():
    """Table -> the operations that one of its triggers refuses altogether."""
    return {
        model._meta.db_table: str(trigger.operation).split(" OR ")
        for model, trigger in pgtrigger.registered()
        if (trigger.level, trigger.when) == (pgtrigger.Statement, pgtrigger.Before)
    }
