"""Stands by while `manage.py dev` runs, and ends its processes should it be killed:

    python guardian.py GROUP… < PIPE

The pipe's other end is open as long as dev lives.
"""

import contextlib
import os
import signal
import sys


def main(groups):
    sys.stdin.read()
    for group in groups:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(group), signal.SIGTERM)


if __name__ == "__main__":
    main(sys.argv[1:])
