"""A production deployment as the Procfile runs it, with a web role that owns nothing."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings
from django.db import connection

ROLE = f"chirp_web_{os.getpid()}"
HTTPS = {"X-Forwarded-Proto": "https", "Host": "numbers.acme.example"}


@pytest.fixture
def role(transactional_db):
    with connection.cursor() as cursor:
        cursor.execute(f"CREATE ROLE {ROLE} LOGIN")
        yield ROLE
        cursor.execute(f"DROP OWNED BY {ROLE}")
        cursor.execute(f"DROP ROLE {ROLE}")


@pytest.fixture
def environment(role, database_url, process_environment, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    return process_environment | {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "DJANGO_ENV": "production",
        "SECRET_KEY": "qV0-8hWk2Zr7_tYx4LmNb6Cd1EfGj3HsPuRw5AoIeKyTzXv9Bq",
        "API_KEY_PEPPER": "b7Kd-2mXw9Rt_5vQz8LpNc3Yf6HjG1sUo4EaIiWxCyVnMqTb0D",
        "BASE_URL": "https://numbers.acme.example",
        "DATABASE_URL": re.sub("//[^@]*@", f"//{role}@", database_url),
        "STATIC_ROOT": str(tmp_path / "static"),
        "TRUSTED_PROXIES": "1",
        "HOST": "127.0.0.1",
        "PORT": str(port),
    }


def procfile(name):
    lines = (settings.BASE_DIR / "Procfile").read_text().splitlines()
    return dict(line.split(": ", 1) for line in lines)[name]


def run(command, environment, **more):
    return subprocess.run(
        command,
        shell=True,
        cwd=settings.BASE_DIR,
        env=environment | more,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def released(environment, database_url):
    """Released, the migrations as the owner of the tables."""
    released = run(procfile("release"), environment, DATABASE_OWNER_URL=database_url)
    assert released.returncode == 0, released.stderr
    return released.stdout


@pytest.fixture
def running(released, environment):
    """Web and worker, as the role that owns nothing."""
    processes = [
        subprocess.Popen(
            ["sh", "-c", f"exec {procfile(name)}"],
            cwd=settings.BASE_DIR,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        for name in ("web", "worker")
    ]
    yield processes
    for process in processes:
        process.send_signal(signal.SIGTERM)
    for process in processes:
        try:
            process.communicate(timeout=40)
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()


def get(environment, path, headers=HTTPS):
    """Status, headers and body of an answer; redirects are not followed."""
    connection = urllib.request.build_opener(Unredirected)
    request = urllib.request.Request(
        f"http://127.0.0.1:{environment['PORT']}{path}", headers=headers
    )
    try:
        with connection.open(request, timeout=10) as response:
            return response.status, response.headers, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.headers, error.read()
    except OSError:
        return None, {}, b""


class Unredirected(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments):
        return None


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.2)


def test_it_becomes_ready_and_serves_pages_and_files_over_https(running, released, environment):
    assert f"{ROLE} may use the tables and owns none of them" in released
    eventually(lambda: get(environment, "/readyz", {})[0] == 200)

    status, headers, page = get(environment, "/accounts/login/")
    assert status == 200
    assert "max-age=31536000" in headers["Strict-Transport-Security"]
    assert "; Secure" in headers["Set-Cookie"]

    stylesheet = re.search(rb'href="(/static/css/site\.[0-9a-f]+\.css)"', page)[1].decode()
    status, headers, _ = get(environment, stylesheet)
    assert status == 200
    assert "immutable" in headers["Cache-Control"]

    status, headers, _ = get(environment, "/accounts/login/", {"Host": HTTPS["Host"]})
    assert (status, headers["Location"]) == (301, "https://numbers.acme.example/accounts/login/")


def test_a_release_with_a_warning_of_the_deployment_checks_is_refused(environment):
    refused = run(procfile("release"), environment, SECRET_KEY="short")
    assert refused.returncode == 1
    assert "security.W009" in refused.stderr
    assert not Path(environment["STATIC_ROOT"]).exists()


def test_the_role_of_the_web_cannot_migrate(environment, released):
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_migrations WHERE app = 'sessions'")
        try:
            refused = run("python manage.py migrate", environment)
        finally:
            cursor.execute(
                "INSERT INTO django_migrations (app, name, applied)"
                " VALUES ('sessions', '0001_initial', now())"
            )
    assert refused.returncode == 1
    assert "permission denied" in refused.stderr
