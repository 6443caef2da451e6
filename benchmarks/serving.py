"""A real server of two workers on the benchmark's database, and clients that are signed in to it."""

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from urllib.parse import urlencode

CSRF = "a" * 32


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


@contextmanager
def serving(*, workers=2):
    """Serve `benchmarks.wsgi` with granian; yields the port."""
    from django.db import connection

    parameters = connection.get_connection_params()
    url = f"postgresql://{parameters['user']}@/{parameters['dbname']}?host={parameters['host']}"
    port = free_port()
    command = [
        sys.executable, "-m", "granian", "--interface", "wsgi", "--port", str(port), "--workers",
        str(workers), "--no-ws", "--log-level", "error", "benchmarks.wsgi:application",
    ]  # fmt: skip
    server = subprocess.Popen(command, env=os.environ | {"DATABASE_URL": url, "DEBUG": "0"})
    try:
        wait_for(port)
        yield port
    finally:
        server.terminate()
        server.wait(20)


def wait_for(port, *, seconds=30):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise RuntimeError("The server did not start.")


class Client:
    """One person with one connection that is kept alive."""

    def __init__(self, port, user):
        from django.conf import settings
        from django.test import Client as SignIn

        signed_in = SignIn()
        signed_in.force_login(user)
        session = signed_in.cookies[settings.SESSION_COOKIE_NAME].value
        self.headers = {
            "Cookie": f"{settings.SESSION_COOKIE_NAME}={session}; csrftoken={CSRF}",
            "Accept-Encoding": "gzip",
        }
        self.connection = http.client.HTTPConnection("127.0.0.1", port)

    def get(self, path, **headers):
        return self._ask("GET", path, None, self.headers | headers)

    def post(self, path, form=()):
        body = urlencode([("csrfmiddlewaretoken", CSRF), *form])
        form_type = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._ask("POST", path, body, self.headers | form_type)

    def _ask(self, method, path, body, headers):
        self.connection.request(method, path, body, headers)
        response = self.connection.getresponse()
        return response.status, response.read()


def side_by_side(tasks):
    """Seconds until all `tasks`, one thread each, are done."""
    barrier = threading.Barrier(len(tasks) + 1)
    failures = []

    def run(task):
        barrier.wait()
        try:
            task()
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=run, args=[task]) for task in tasks]
    for thread in threads:
        thread.start()
    barrier.wait()
    began = time.perf_counter()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return time.perf_counter() - began
