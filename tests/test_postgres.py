"""The embedded server: shared by processes, gone with the last one, whatever happens to them."""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg
import pytest
from django.conf import settings

USER = """
import signal, sys
from chirp_dashboard.postgres import server
server.AS_ROOT = server.Path(sys.argv[2])
try:
    mine = server.Server(sys.argv[1], durable=False)
    mine.ensure(database="chirp")
except server.ServerError as error:
    sys.exit(str(error))
print(mine.socket_dir, mine.data, flush=True)
signal.pause()
"""


@pytest.fixture
def folder():
    """A folder that an unprivileged server can reach, as pytest's own are not."""
    folder = Path(tempfile.mkdtemp(prefix="chirp-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture
def home(folder):
    return folder / "postgres"


class User:
    """A process that uses the server in `home`."""

    def __init__(self, home, folder, **environment):
        self.process = subprocess.Popen(
            [sys.executable, "-c", USER, str(home), str(folder / "as-root")],
            cwd=settings.BASE_DIR,
            env={"PATH": os.environ["PATH"], **passed_on(), **environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def started(self):
        """Wait until it uses the server."""
        socket_dir, data = self.process.stdout.readline().split()
        self.socket_dir, self.data = Path(socket_dir), Path(data)
        return self

    def complaint(self):
        """What it says when it cannot have the server."""
        said, complaint = self.process.communicate(timeout=60)
        assert said == ""
        return complaint.strip()

    def server_pid(self):
        return int((self.data / "postmaster.pid").read_text().split("\n")[0])

    def ask(self, query):
        with psycopg.connect(
            host=str(self.socket_dir), user="postgres", dbname="chirp", autocommit=True
        ) as connection:
            answer = connection.execute(query)
            return answer.fetchone()[0] if answer.description else None

    def leave(self, number=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(number)
        self.process.communicate()


def passed_on():
    return {name: os.environ[name] for name in ("PG_BINDIR",) if name in os.environ}


@pytest.fixture
def use(folder, home):
    users = []

    def use(at=home, **environment):
        users.append(User(at, folder, **environment))
        return users[-1]

    yield use
    for user in users:
        user.leave()
    for user in users:
        if hasattr(user, "data"):
            eventually(lambda user=user: not (user.data / "postmaster.pid").exists())


def eventually(true, *, seconds=60):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline, "this never came true"
        time.sleep(0.05)


def running(pid):
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, 0)
        return Path(f"/proc/{pid}/stat").read_text().split(") ")[1][0] != "Z"
    return False


def keeper_pid(server_pid):
    stat = Path(f"/proc/{server_pid}/stat").read_text()
    return int(stat.split(") ")[1].split()[1])


linux = pytest.mark.skipif(sys.platform != "linux", reason="looks at processes in /proc")


@linux
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_the_server_is_shared_and_stops_when_the_last_user_is_gone(use, number):
    first, second = use().started(), use().started()
    assert second.socket_dir == first.socket_dir
    server = first.server_pid()
    first.leave(number)
    time.sleep(0.5)
    assert second.ask("SELECT 1") == 1
    second.leave(number)
    eventually(lambda: not running(server))


def test_data_is_kept_from_one_use_to_the_next(use):
    first = use().started()
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    first.leave()
    assert use().started().ask("SELECT answer FROM kept") == 42


def test_users_that_come_at_once_wait_for_one_server(use):
    users = [use() for _ in range(4)]
    pids = {user.started().server_pid() for user in users}
    assert len(pids) == 1


@linux
def test_a_killed_server_is_started_again(use):
    user = use().started()
    user.ask("CREATE TABLE kept ()")
    time.sleep(4)  # younger ones are not started again
    killed = user.server_pid()
    os.kill(killed, signal.SIGKILL)

    def back():
        with contextlib.suppress(psycopg.OperationalError):
            return user.ask("SELECT to_regclass('kept') IS NOT NULL")
        return False

    eventually(back)
    assert user.server_pid() != killed


@linux
def test_when_the_keeper_is_killed_the_next_user_finds_a_new_one(use):
    first = use().started()
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    orphan = first.server_pid()
    os.kill(keeper_pid(orphan), signal.SIGKILL)
    first.leave()
    second = use().started()
    assert second.server_pid() != orphan
    assert not running(orphan)
    assert second.ask("SELECT answer FROM kept") == 42


@linux
def test_a_stale_pid_that_went_to_another_process_harms_nobody(use):
    first = use().started()
    first.leave()
    eventually(lambda: not (first.data / "postmaster.pid").exists())
    bystander = subprocess.Popen(
        ["sleep", "60"], **({"user": "nobody"} if os.geteuid() == 0 else {})
    )
    try:
        stale = first.data / "postmaster.pid"
        stale.write_text(f"{bystander.pid}\n{first.data}\n1700000000\n5432\n")
        shutil.chown(stale, first.data.stat().st_uid)
        assert use().started().ask("SELECT 1") == 1
        assert bystander.poll() is None
    finally:
        bystander.kill()
        bystander.wait()


def test_another_major_versions_data_is_one_clear_sentence(use):
    user = use().started()
    user.leave()
    eventually(lambda: not (user.data / "postmaster.pid").exists())
    (user.data / "PG_VERSION").write_text("9\n")
    complaint = use().complaint()
    assert f"The data in {user.data} is PostgreSQL 9's" in complaint
    assert "PG_BINDIR" in complaint
    assert len(complaint.splitlines()) == 1


def test_damaged_data_is_one_clear_sentence(use):
    user = use().started()
    user.leave()
    eventually(lambda: not (user.data / "postmaster.pid").exists())
    (user.data / "global" / "pg_control").unlink()
    complaint = use().complaint()
    assert complaint.startswith(f"PostgreSQL does not start in {user.data}: ")
    assert "pg_control" in complaint or "could not find the database system" in complaint
    assert len(complaint.splitlines()) == 1


def test_a_folder_with_something_else_in_it_is_left_alone(home, use):
    (home / "data").mkdir(parents=True)
    (home / "data" / "thesis.txt").write_text("mine")
    assert "holds no PostgreSQL data" in use().complaint()
    assert (home / "data" / "thesis.txt").read_text() == "mine"


def test_a_folder_of_somebody_else_is_one_clear_sentence(folder):
    home = folder / "postgres"
    home.mkdir(mode=0o555)
    become_somebody = "import os; os.geteuid() or os.seteuid(65534); "
    done = subprocess.run(
        [
            *(sys.executable, "-c", USER.replace("mine.ensure", become_somebody + "mine.ensure")),
            *(str(home), str(folder / "as-root")),
        ],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], **passed_on()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr.strip() == (
        f"{home / 'mutex'} belongs to another user: go on as that user, or set DATA_DIR to a folder "
        "of your own."
    )


def test_pg_bindir_without_programs_is_one_clear_sentence(folder, use):
    assert use(PG_BINDIR=str(folder)).complaint() == (
        f"{folder} holds no PostgreSQL server programs (initdb and postgres)."
    )


def test_a_long_path_has_its_socket_elsewhere(folder, use):
    user = use(folder / ("deep" * 30) / "postgres").started()
    assert user.ask("SELECT 1") == 1
    assert folder not in user.socket_dir.parents


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has to give its rights away")
def test_for_root_it_runs_as_nobody_even_where_nobody_may_not_go(folder, use):
    closed = folder / "closed"
    closed.mkdir(mode=0o700)
    user = use(closed / "postgres").started()
    assert user.ask("SELECT 1") == 1
    assert user.data.owner() == "nobody"
    assert closed not in user.data.parents


def test_dbshell_reaches_the_server(folder):
    shell = subprocess.run(
        [sys.executable, "manage.py", "dbshell", "--", "-Atc", "SELECT current_database()"],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], "DATA_DIR": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (shell.stdout, shell.stderr) == ("chirp\n", "")


@linux
def test_the_server_waits_for_what_a_killed_one_left_behind(use):
    first = use().started()
    first.ask("CREATE TABLE kept AS SELECT 42 AS answer")
    first.ask("CHECKPOINT")  # this server does not wait for the disk
    killed = first.server_pid()
    children = Path(f"/proc/{killed}/task/{killed}/children").read_text().split()
    send(signal.SIGSTOP, children)  # they hold the shared memory a little longer
    try:
        send(signal.SIGKILL, [keeper_pid(killed), killed])
        first.leave()
        second = use()
        time.sleep(2)
        assert second.process.poll() is None
    finally:
        send(signal.SIGCONT, children)
    assert second.started().ask("SELECT answer FROM kept") == 42


def send(number, pids):
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(int(pid), number)
