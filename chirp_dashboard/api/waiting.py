"""How long a request waits for an order that somebody outside has still to settle."""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass

from django.conf import settings
from django.utils import timezone


@dataclass(frozen=True)
class Patience:
    """`longest` seconds from the beginning of the request, with a look after every `step`."""

    longest: float = 10
    step: float = 0.5
    now: Callable = time.monotonic
    sleep: Callable = time.sleep


PATIENCE = Patience()
SEATS = threading.BoundedSemaphore(settings.ORDER_WAITERS)
"""Waiting keeps a thread; never so many that no pages are served."""


def deadline():
    """Until when a request that begins now may wait."""
    return PATIENCE.now() + PATIENCE.longest


def wait_for(order, *, until):
    """Look at `order` again and again until it is settled, or until no look more fits before `until`.

    Called outside every transaction; between two looks nothing is locked and no statement runs. Does not
    wait where that is no use: while the other side is silent, or the customer is to confirm the payment.
    """
    if not order.may_settle_soon or not SEATS.acquire(blocking=False):
        return
    try:
        while order.may_settle_soon and PATIENCE.now() + PATIENCE.step <= until:
            PATIENCE.sleep(PATIENCE.step)
            order.advance(at=timezone.now())
    finally:
        SEATS.release()
