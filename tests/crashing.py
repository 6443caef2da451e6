"""A process that dies around a call."""

from contextlib import contextmanager

import pytest


class Crash(BaseException):
    """The process died here; nothing catches it, as nothing catches a signal."""


@contextmanager
def crashing(target, name, *, moment="before"):
    """Inside, whoever calls `name` of `target` dies before the call, or right after it."""
    call = getattr(target, name)

    def crash(*args):
        if moment == "after":
            call(*args)
        raise Crash

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(target, name, crash)
        with pytest.raises(Crash):
            yield
