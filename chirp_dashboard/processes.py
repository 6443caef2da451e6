"""Several programs that run, and end, together."""

import contextlib
import os
import signal
import subprocess
import sys
import time

from chirp_dashboard import guardian

STOP_PATIENCE = 15


class Together:
    """A context in which programs run; leaving it, in whatever way, ends them all.

    Each is a process group of its own, so that Ctrl-C reaches only us and they are ended in order.
    """

    def __init__(self):
        self.processes = {}
        self.guardian = None

    def __enter__(self):
        return self

    def start(self, name, command):
        self.processes[name] = subprocess.Popen(command, start_new_session=True)

    def guard(self):
        """Have everything started so far end with us, even if we are killed."""
        leaders = [str(process.pid) for process in self.processes.values()]
        self.guardian = subprocess.Popen(
            [sys.executable, "-I", guardian.__file__, *leaders],
            stdin=subprocess.PIPE,
            start_new_session=True,
        )

    def ended(self):
        """The name and exit status of a program that has ended, if one has."""
        for name, process in self.processes.items():
            if process.poll() is not None:
                return name, process.returncode
        return None

    def __exit__(self, *failure):
        for process in self.processes.values():
            process.terminate()
        deadline = time.monotonic() + STOP_PATIENCE
        for process in self.processes.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=max(0, deadline - time.monotonic()))
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # whatever is left of its group
            process.wait()
        if self.guardian:
            self.guardian.kill()
            self.guardian.communicate()
