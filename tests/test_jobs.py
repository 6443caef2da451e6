import asyncio
import signal
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from asgiref.sync import async_to_sync
from django.conf import settings
from django.db import connection
from procrastinate.contrib.django import app
from procrastinate.contrib.django.models import ProcrastinateJob
from procrastinate.exceptions import AlreadyEnqueued

from chirp_dashboard import jobs
from chirp_dashboard.organizations.management.commands import worker as worker_command

transactional = pytest.mark.django_db(transaction=True)


def execute(statement, parameters=()):
    with connection.cursor() as cursor:
        cursor.execute(statement, parameters)
        return cursor.fetchone() if cursor.description else None


def worker_row(*, seconds_silent):
    return execute(
        "INSERT INTO procrastinate_workers (last_heartbeat)"
        " VALUES (now() - make_interval(secs => %s)) RETURNING id",
        [seconds_silent],
    )[0]


def job_held_by(worker):
    job = jobs.forget_ended_sessions.defer(timestamp=0)
    execute(
        "UPDATE procrastinate_jobs SET status = 'doing', worker_id = %s WHERE id = %s",
        [worker, job],
    )
    return job


def status(job):
    return ProcrastinateJob.objects.get(pk=job).status


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.1)


def rescue():
    async_to_sync(jobs.rescue_jobs.func)(SimpleNamespace(app=app), 0)


@transactional
def test_the_jobs_of_a_silent_worker_are_given_to_another():
    dead = job_held_by(worker_row(seconds_silent=jobs.SILENCE + 5))
    rescue()
    assert status(dead) == "todo"


@transactional
def test_the_jobs_of_a_worker_that_is_forgotten_are_given_to_another():
    orphan = job_held_by(None)
    rescue()
    assert status(orphan) == "todo"


@transactional
def test_a_living_worker_keeps_its_jobs():
    alive = job_held_by(worker_row(seconds_silent=1))
    rescue()
    assert status(alive) == "doing"


@transactional
def test_a_rescue_that_is_waiting_does_not_pile_up_and_a_stuck_one_does_not_block():
    jobs.rescue_jobs.defer(timestamp=0)
    with pytest.raises(AlreadyEnqueued):
        jobs.rescue_jobs.defer(timestamp=1)
    execute("UPDATE procrastinate_jobs SET status = 'doing'")
    assert jobs.rescue_jobs.defer(timestamp=2)


def test_every_periodic_task_is_a_sweep_that_waits_at_most_once():
    app.perform_import_paths()
    sweeps = [task.task for task in app.periodic_registry.periodic_tasks.values()]
    assert {"chirp_dashboard.jobs.rescue_jobs"} <= {task.name for task in sweeps}
    for task in sweeps:
        assert task.queueing_lock, f"{task.name} could pile up"
        assert not task.lock, f"{task.name} would be blocked by a killed worker's"


@pytest.fixture
def worker(process_environment):
    process = subprocess.Popen(
        [sys.executable, "manage.py", "worker"],
        cwd=settings.BASE_DIR,
        env=process_environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    yield process
    process.kill()
    process.communicate()


def heartbeats():
    return execute("SELECT count(*) FROM procrastinate_workers")[0]


def test_the_worker_does_jobs_and_leaves_when_asked(worker):
    job = jobs.forget_ended_sessions.defer(timestamp=0)
    eventually(lambda: status(job) == "succeeded")
    assert heartbeats() == 1
    worker.send_signal(signal.SIGTERM)
    said, _ = worker.communicate(timeout=30)
    assert worker.returncode == 0
    assert "Traceback" not in said
    assert heartbeats() == 0


def test_a_worker_that_loses_the_database_comes_back(worker):
    eventually(lambda: heartbeats() == 1)
    execute(
        "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    job = jobs.forget_ended_sessions.defer(timestamp=0)
    eventually(lambda: status(job) == "succeeded")
    assert worker.poll() is None


def test_a_lost_database_is_waited_for_and_not_fatal(monkeypatch):
    attempts = []

    async def run_worker(self):
        attempts.append(1)
        raise OSError("connection refused")

    monkeypatch.setattr(worker_command, "RETURN_AFTER", 0.01)
    monkeypatch.setattr(worker_command.Command, "run_worker", run_worker)

    async def scenario():
        stop = asyncio.Event()
        command = worker_command.Command()
        for _ in range(3):
            await command.work_until(stop)

    asyncio.run(scenario())
    assert len(attempts) == 3
