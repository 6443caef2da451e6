"""Stands by while `manage.py dev` runs, and ends its processes should it be killed:

    python guardian.py LEADER… < PIPE

The pipe's other end is open as long as dev lives. A LEADER is the process id of a program that leads
a process group of its own.
"""

import contextlib
import os
import signal
import sys
import time

STOP_PATIENCE = 10


def main(leaders):
    sys.stdin.read()
    for leader in leaders:  # not its group: granian replaces web processes that end by themselves
        with contextlib.suppress(ProcessLookupError):
            os.kill(leader, signal.SIGTERM)
    time.sleep(STOP_PATIENCE)
    for leader in leaders:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main([int(leader) for leader in sys.argv[1:]])
