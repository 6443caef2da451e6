"""Is this process alive, and is everything it needs there? Says which check failed, never why."""

import logging

from django.db import DatabaseError, connection
from django.db.migrations.executor import MigrationExecutor
from django.http import JsonResponse

from chirp_dashboard import jobs

logger = logging.getLogger(__name__)


def process():
    return JsonResponse({"status": "ok"}, headers={"Cache-Control": "no-store"})


def readiness():
    reachable = _passes(database)  # else the other two would each wait for it again
    outcome = {
        "database": reachable,
        "migrations": reachable and _passes(migrations),
        "worker": reachable and _passes(worker),
    }
    ready = all(outcome.values())
    return JsonResponse(
        {
            "status": "ok" if ready else "unavailable",
            "checks": {name: "ok" if passed else "failed" for name, passed in outcome.items()},
        },
        status=200 if ready else 503,
        headers={"Cache-Control": "no-store"},
    )


def _passes(check):
    try:
        return check()
    except DatabaseError:
        logger.warning("Readiness check %s failed", check.__name__, exc_info=True)
        return False


def database():
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        return cursor.fetchone() == (1,)


def migrations():
    executor = MigrationExecutor(connection)
    return not executor.migration_plan(executor.loader.graph.leaf_nodes())


def worker():
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT EXISTS (SELECT FROM procrastinate_workers"
            " WHERE last_heartbeat > now() - make_interval(secs => %s))",
            [jobs.SILENCE],
        )
        return cursor.fetchone() == (True,)
