"""The role that web and worker connect as owns no table and cannot touch what is insert-only."""

import pytest
from django.core.management import CommandError, call_command
from django.db import ProgrammingError, connection, transaction
from django.utils import timezone

from chirp_dashboard.organizations.models import Activity, Actor, Organization

pytestmark = pytest.mark.django_db

ROLE = "chirp_web_test"


@pytest.fixture
def become():
    """Go on as the web role. The role itself is undone with the test's transaction."""
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE}")
    call_command("grant_web_role", role=ROLE)
    with connection.cursor() as cursor:
        cursor.execute(f"SET LOCAL ROLE {ROLE}")


@pytest.fixture
def activity(organization):
    return Activity.objects.record(
        organization, "tested", subject="app_1", by=Actor.system("test"), at=timezone.now()
    )


def refused(statement):
    with (
        pytest.raises(ProgrammingError, match=r"permission denied|must be owner"),
        transaction.atomic(),
        connection.cursor() as cursor,
    ):
        cursor.execute(statement)


def test_it_does_the_everyday_work(organization, become):
    Organization.objects.filter(pk=organization.pk).update(name="Changed")
    organization.lock()
    made = Organization.objects.create(name="Made", slug="made")
    made.delete()
    with connection.cursor() as cursor:
        cursor.execute("SELECT procrastinate_register_worker_v1()")


def test_it_adds_to_what_is_insert_only_and_does_nothing_else(activity, organization, become):
    Activity.objects.record(
        organization, "tested", subject="app_2", by=Actor.system("test"), at=timezone.now()
    )
    assert Activity.objects.count() == 2
    for table in ("organizations_activity", "billing_charge", "billing_entry", "billing_posting"):
        refused(f"UPDATE {table} SET id = id")
        refused(f"DELETE FROM {table}")
        refused(f"TRUNCATE {table} CASCADE")
        refused(f"ALTER TABLE {table} DISABLE TRIGGER ALL")


@pytest.mark.parametrize(
    "statement",
    [
        "CREATE TABLE mine (id int)",
        "DROP TABLE organizations_user CASCADE",
        "DELETE FROM billing_invoice",
        "DELETE FROM django_migrations",
        "INSERT INTO django_migrations (app, name, applied) VALUES ('a', 'b', now())",
        "SET session_replication_role = replica",
    ],
)
def test_it_cannot_change_what_holds_the_rules(statement, become):
    refused(statement)


def test_no_grant_is_forgotten_for_a_table(become):
    with connection.cursor() as cursor:
        tables = connection.introspection.table_names(cursor)
        cursor.execute(
            "SELECT t FROM unnest(%s::text[]) t WHERE NOT has_table_privilege(%s, t, 'SELECT')",
            [tables, ROLE],
        )
        assert cursor.fetchall() == []


def test_granting_again_takes_back_what_was_given_by_hand(become):
    with connection.cursor() as cursor:
        cursor.execute("RESET ROLE")
        cursor.execute(f"GRANT UPDATE ON billing_charge TO {ROLE}")
    call_command("grant_web_role", role=ROLE)
    with connection.cursor() as cursor:
        cursor.execute("SELECT has_table_privilege(%s, 'billing_charge', 'UPDATE')", [ROLE])
        assert cursor.fetchone() == (False,)


def test_a_role_that_is_not_there_is_named():
    with pytest.raises(CommandError, match="There is no role nobody_here"):
        call_command("grant_web_role", role="nobody_here")


def test_the_owner_of_the_tables_is_refused():
    with pytest.raises(CommandError, match="superuser or owns tables"):
        call_command("grant_web_role", role=connection.get_connection_params()["user"])
