"""Runs one embedded PostgreSQL for as long as anybody uses it. A process of its own:

    python keeper.py HOME LOCK postgres -D HOME/data …

Every user of the server holds a shared lock on HOME/users. The kernel drops it when the process ends,
however it ends, so the last one to leave need not do anything: the keeper, who waits for an exclusive
lock, then stops the server. A server that dies is started again. LOCK is the number of an open file
whose lock says that this home has a keeper.
"""

import fcntl
import os
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from pathlib import Path

SOONEST_RESTART = 3
"""A server that lived for fewer seconds has a reason not to run, so it is not started again."""


@contextmanager
def locked(path, how=fcntl.LOCK_EX):
    with path.open("a") as file:
        fcntl.flock(file, how)
        yield file


def unprivileged():
    """PostgreSQL refuses to run as root; for root, the arguments that run a process as nobody."""
    if os.geteuid() != 0:
        return {}
    import pwd

    nobody = pwd.getpwnam("nobody")
    return {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}


class Keeper:
    def __init__(self, home, command):
        self.home = home
        self.command = command
        self.server = None
        self.deserted = False
        self.turn = threading.Lock()

    def keep(self):
        """Start the server again whenever it dies, until it is deserted."""
        while not self.deserted:
            started = time.monotonic()
            self.start()
            self.server.wait()
            if self.predecessor_lingers():
                time.sleep(0.3)
            elif not self.deserted and time.monotonic() - started < SOONEST_RESTART:
                os._exit(1)

    def predecessor_lingers(self):
        """Whether it would not start because processes of a killed server are still ending."""
        return b"pre-existing shared memory block" in (self.home / "log").read_bytes()

    def start(self):
        with self.turn, (self.home / "log").open("w") as log:
            if not self.deserted:
                self.disown_stale_pid()
                self.server = subprocess.Popen(
                    self.command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    cwd="/",
                    **unprivileged(),
                )

    def disown_stale_pid(self):
        """Put our own process id in the place of the dead server's.

        When that id has gone to another process of the same user, PostgreSQL takes it for a running
        server. Of its parent's id it knows better, and goes on to look at the old shared memory.
        """
        pid_file = self.home / "data" / "postmaster.pid"
        if pid_file.exists():
            _, *rest = pid_file.read_text().splitlines(keepends=True)
            pid_file.write_text("".join([f"{os.getpid()}\n", *rest]))

    def stop(self):
        with self.turn:
            self.deserted = True
            self.server.send_signal(signal.SIGINT)


def nobody_uses(home):
    try:
        with locked(home / "users", fcntl.LOCK_EX | fcntl.LOCK_NB):
            return True
    except BlockingIOError:
        return False


def main(home, lock, *command):
    home = Path(home)
    keeper = Keeper(home, command)
    server = threading.Thread(target=keeper.keep, daemon=True)
    server.start()
    while True:
        with locked(home / "users"):
            pass
        with locked(home / "mutex"):  # nobody can arrive while we look
            if nobody_uses(home):
                keeper.stop()
                server.join()
                os.close(int(lock))
                return


if __name__ == "__main__":
    main(*sys.argv[1:])
