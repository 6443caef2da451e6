"""`manage.py dev`, which is `make run`: everything starts, and everything ends with it."""

import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import pytest
from django.conf import settings

WORD = "Ctrl-C stops"


@pytest.fixture(scope="module")
def data_dir():
    """A data directory that an unprivileged server can reach, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="chirp-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="module")
def port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Dev:
    def __init__(self, data_dir, port, **environment):
        self.port = port
        self.began = time.monotonic()
        self.process = subprocess.Popen(
            [sys.executable, "manage.py", "dev"],
            cwd=settings.BASE_DIR,
            env={
                "PATH": os.environ["PATH"],
                "DATA_DIR": str(data_dir),
                "PORT": str(port),
                **environment,
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def started(self):
        """Wait for its welcome; remember what it said and how long it took."""
        self.said = ""
        while WORD not in self.said:
            line = self.process.stdout.readline()
            assert line, self.said
            self.said += line
        self.seconds = time.monotonic() - self.began
        return self

    def refusal(self):
        said, _ = self.process.communicate(timeout=60)
        assert self.process.returncode == 1
        return said.strip()

    def get(self, path):
        address = f"http://127.0.0.1:{self.port}{path}"
        try:
            with urllib.request.urlopen(address, timeout=10) as response:
                return response.status
        except urllib.error.HTTPError as error:
            return error.code
        except OSError:
            return None

    def end(self, number):
        self.process.send_signal(number)
        self.process.communicate(timeout=60)


@pytest.fixture
def dev(data_dir, port):
    started = []

    def dev(data_dir=data_dir, port=port, **environment):
        started.append(Dev(data_dir, port, **environment))
        return started[-1]

    yield dev
    for one in started:
        if one.process.poll() is None:
            one.end(signal.SIGTERM)
        one.process.stdout.close()
    eventually(lambda: not (data_dir / "postgres" / "data" / "postmaster.pid").exists())


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.1)


def test_the_first_start_loads_the_demo_and_says_how_to_sign_in(dev, data_dir):
    first = dev().started()
    password = data_dir / "demo_password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert f"http://127.0.0.1:{first.port}/" in first.said
    assert "owner@demo.example" in first.said
    assert password.read_text().strip() in first.said
    eventually(lambda: first.get("/readyz") == 200)
    assert first.get("/accounts/login/") == 200


def test_the_second_start_is_quick_and_keeps_the_data(dev, data_dir):
    password = (data_dir / "demo_password").read_text()
    began = time.monotonic()
    subprocess.run([sys.executable, "manage.py", "check"], cwd=settings.BASE_DIR, check=True)
    one_command = time.monotonic() - began  # about a second, unless the machine is busy
    second = dev().started()
    assert second.seconds < max(5, 5 * one_command)
    assert "Loading" not in second.said
    assert password.strip() in second.said


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_asked_to_stop_it_stops_everything(number, dev, data_dir):
    running = dev().started()
    running.end(number)
    assert running.process.returncode == 0
    assert running.get("/healthz") is None
    eventually(lambda: not (data_dir / "postgres" / "data" / "postmaster.pid").exists())


def test_killed_it_leaves_nothing_behind_that_blocks_the_next_start(dev, data_dir):
    killed = dev().started()
    killed.end(signal.SIGKILL)
    eventually(lambda: killed.get("/healthz") is None)
    eventually(lambda: not (data_dir / "postgres" / "data" / "postmaster.pid").exists())
    assert dev().started().get("/healthz") == 200


def test_when_one_part_ends_the_others_end_and_it_says_which(dev):
    running = dev().started()
    worker = subprocess.run(
        ["pgrep", "-f", "-P", str(running.process.pid), "manage.py worker"],
        capture_output=True,
        text=True,
        check=True,
    )
    os.kill(int(worker.stdout), signal.SIGKILL)
    assert re.search(
        r"The worker process ended \(-9\), so everything was stopped", running.refusal()
    )
    assert running.get("/healthz") is None


def test_a_taken_port_is_one_clear_line(dev, port):
    with socket.socket() as taken:
        taken.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        taken.bind(("127.0.0.1", port))
        taken.listen()
        refusal = dev().refusal()
    assert refusal.startswith(
        f"CommandError: Cannot serve at 127.0.0.1:{port} (Address already in use)"
    )
    assert f"PORT={port + 1} make run" in refusal
    assert len(refusal.splitlines()) == 1


def test_damaged_data_is_one_clear_line(dev, data_dir):
    damaged = data_dir / "damaged"
    (damaged / "postgres" / "data").mkdir(parents=True)
    (damaged / "postgres" / "data" / "rest").touch()
    refusal = dev(damaged).refusal()
    assert refusal.startswith("CommandError: No database: ")
    assert "holds no PostgreSQL data" in refusal
    assert len(refusal.splitlines()) == 1


def test_a_database_that_cannot_be_reached_is_one_clear_line(dev):
    refusal = dev(DATABASE_URL="postgresql://nobody@127.0.0.1:1/chirp").refusal()
    assert refusal.startswith("CommandError: No database: ")
    assert len(refusal.splitlines()) == 1


def test_it_is_refused_in_production(dev):
    refusal = dev(
        DJANGO_ENV="production",
        SECRET_KEY="qV0-8hWk2Zr7_tYx4LmNb6Cd1EfGj3HsPuRw5AoIeKyTzXv9Bq",
        API_KEY_PEPPER="b7Kd-2mXw9Rt_5vQz8LpNc3Yf6HjG1sUo4EaIiWxCyVnMqTb0D",
        BASE_URL="https://numbers.acme.example",
        DATABASE_URL="postgresql://nobody@127.0.0.1:1/chirp",
    ).refusal()
    assert refusal.startswith("CommandError: dev is for development")
