from django.db import connection, transaction
from django.db.models import BigIntegerField, F, Value
from django.db.models.functions import Concat, JSONObject
from django.test.utils import CaptureQueriesContext

from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.postgres.prepared import Given, fetch_dicts, prepared_cursor

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


# Querysets ------------------------------------------------------------------------------------

TOLD = Given("told", output_field=BigIntegerField())


def named():
    """The organization of the key that is told, in words Django has to convert or to escape."""
    return Organization.objects.filter(pk=TOLD, billing_day__gte=1).values(
        "slug",
        shouted=Concat(F("slug"), Value("'100%'s")),
        facts=JSONObject(name="name", day="billing_day"),
    )


def test_queryset_is_built_once_and_told_its_values_every_time(organization, rival):
    built = []

    def build():
        built.append(1)
        return named()

    shape = ("test", "once")
    found = [fetch_dicts(shape, build, told=each.pk) for each in (organization, rival, rival)]
    slugs = [[row["slug"] for row in rows] for rows in found]
    assert slugs == [[organization.slug], [rival.slug], [rival.slug]]
    assert built == [1]


def test_rows_are_what_the_queryset_itself_would_return(organization):
    (row,) = fetch_dicts(("test", "same"), named, told=organization.pk)
    expected = Organization.objects.filter(pk=organization.pk).values(
        "slug",
        shouted=Concat(F("slug"), Value("'100%'s")),
        facts=JSONObject(name="name", day="billing_day"),
    )
    assert row == expected.get()
    assert row["shouted"] == f"{organization.slug}'100%'s"
    assert row["facts"]["name"] == organization.name


def test_constants_are_written_out_for_the_planner(organization):
    with CaptureQueriesContext(connection) as queries:
        fetch_dicts(("test", "constants"), named, told=organization.pk)
    (query,) = queries
    assert '"billing_day" >= 1' in query["sql"]
    assert query["sql"].count("%s") == 1
