import pytest
from django.db import DatabaseError, connection
from django.test import Client

from chirp_dashboard import health, jobs


def heartbeat(*, seconds_ago):
    with connection.cursor() as cursor:
        cursor.execute(
            "INSERT INTO procrastinate_workers (last_heartbeat)"
            " VALUES (now() - make_interval(secs => %s))",
            [seconds_ago],
        )


def test_the_process_answers_without_database_session_or_host():
    response = Client().get("/healthz", headers={"Host": "10.1.2.3"})
    assert response.status_code == 200
    assert response.json() == {"status": "ok"}


def test_it_is_answered_before_the_redirect_to_https(settings):
    settings.SECURE_SSL_REDIRECT = True
    assert Client().get("/healthz").status_code == 200


def test_only_reading_is_answered(db):
    assert Client().post("/healthz").status_code == 404


def test_ready_is_everything_there(db):
    heartbeat(seconds_ago=1)
    response = Client().get("/readyz", headers={"Host": "10.1.2.3"})
    assert response.status_code == 200
    assert response.json() == {
        "status": "ok",
        "checks": {"database": "ok", "migrations": "ok", "worker": "ok"},
    }


@pytest.mark.parametrize("seconds", [None, jobs.SILENCE + 5])
def test_a_worker_that_is_silent_or_missing_is_said(seconds, db):
    if seconds:
        heartbeat(seconds_ago=seconds)
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"database": "ok", "migrations": "ok", "worker": "failed"}


def test_a_migration_to_come_is_said(db):
    heartbeat(seconds_ago=1)
    with connection.cursor() as cursor:
        cursor.execute(
            "DELETE FROM django_migrations WHERE id IN"
            " (SELECT max(id) FROM django_migrations WHERE app = 'organizations')"
        )
    response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["migrations"] == "failed"


def test_a_database_that_is_gone_is_said_and_why_is_not(db, monkeypatch):
    def gone():
        raise DatabaseError("connection to server at 10.0.0.7 failed, password hunter2")

    with monkeypatch.context() as patched:
        patched.setattr(health.connection, "cursor", gone)
        response = Client().get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"]["database"] == "failed"
    assert "hunter2" not in response.content.decode()


def test_it_is_never_cached(db):
    for path in ("/healthz", "/readyz"):
        assert Client().get(path).headers["Cache-Control"] == "no-store"
