"""The environment of the Stripe counterpart, made once, and its process.

The counterpart wants another Python than the product and packages of its own, so it gets an
environment of its own in `.venv/stripe-world`, pinned and hashed in counterpart-requirements.txt.
"""

import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

HERE = Path(__file__).parent
REQUIREMENTS = HERE / "counterpart-requirements.txt"
KEPT_IN = HERE.parents[2] / ".venv" / "stripe-world"
OLDEST = (3, 13)


class Unavailable(Exception):
    """A Python was found, and the environment could not be made with it."""


def candidates():
    """Pythons that may be new enough: the one named, those on the PATH, those of pyenv."""
    if named := os.environ.get("STRIPE_WORLD_PYTHON"):
        yield named
        return
    for minor in range(20, OLDEST[1] - 1, -1):
        if found := shutil.which(f"python3.{minor}"):
            yield found
    yield sys.executable
    yield "python3"
    pyenv = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv")
    yield from sorted(pyenv.glob("versions/3.*/bin/python"), reverse=True)


def version_of(python):
    """`(3, 13)`, or None where it does not run (a pyenv shim may not)."""
    program = "import sys; print(*sys.version_info[:2])"
    try:
        ran = subprocess.run([python, "-c", program], capture_output=True, text=True, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return tuple(map(int, ran.stdout.split())) if ran.returncode == 0 else None


def find_python():
    """A Python that can run the counterpart, or None."""
    for python in candidates():
        version = version_of(python)
        if version and version >= OLDEST:
            return str(python)
    return None


@contextmanager
def locked(path):
    """One process at a time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment(python):
    """The interpreter of the counterpart's environment, which is made where it is not there yet."""
    wanted = hashlib.sha256(REQUIREMENTS.read_bytes() + str(version_of(python)).encode())
    made, interpreter = KEPT_IN / "made-of", KEPT_IN / "bin" / "python"
    with locked(KEPT_IN.with_suffix(".lock")):
        if not (
            made.exists() and made.read_text() == wanted.hexdigest() and version_of(interpreter)
        ):
            shutil.rmtree(KEPT_IN, ignore_errors=True)
            build(python, interpreter)
            made.write_text(wanted.hexdigest())
    return str(interpreter)


def build(python, interpreter):
    """With the pip of this environment: a Python may come without one."""
    install = [
        sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check",
        "--python", str(interpreter), "install", "--require-hashes", "--no-deps",
        "--ignore-requires-python", "-r", str(REQUIREMENTS),
    ]  # fmt: skip
    for command in [[python, "-m", "venv", "--without-pip", str(KEPT_IN)], install]:
        ran = subprocess.run(command, capture_output=True, text=True)
        if ran.returncode:
            lines = (ran.stderr or ran.stdout).strip().splitlines()
            raise Unavailable(lines[-1] if lines else f"{command[0]} ended with {ran.returncode}")


@contextmanager
def serving(interpreter):
    """The address of a running counterpart."""
    process = subprocess.Popen(
        [interpreter, str(HERE / "counterpart.py")],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        if not line:
            raise Unavailable("the Stripe counterpart does not start")
        yield f"http://127.0.0.1:{json.loads(line)['port']}"
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)
