"""Sending webhooks: one POST to an address the customer chose, and nowhere it must not go.

https only, every address the name resolves to has to be public, and the connection goes to the address
that was checked; no redirects, no proxies, five seconds in all, 64 kB of answer at most.
"""

import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
from django.utils import timezone
from ssrfguard import Policy, SSRFGuardError
from ssrfguard.httpx import Client

from .models import Delivery

SECONDS = 5
LONGEST = 64 * 1024
AT_ONCE = 8
POLICY = Policy(allowed_schemes=frozenset({"https"}), allowed_ports=frozenset({443, 8443}))


@dataclass(frozen=True)
class Result:
    """What one try came to; `status` is None where there was no answer."""

    ok: bool
    milliseconds: int
    status: int | None = None
    text: str = ""
    error: str = ""


def make_client():
    return Client(policy=POLICY, timeout=SECONDS, follow_redirects=False, trust_env=False)


def send_due(*, at=None, limit=64):
    """Send what is due, several at once; returns how many. Nothing is sent inside a transaction.

    So many at most that the slowest are through well within the lease of those that wait behind them.
    """
    taken = Delivery.objects.claim_due(at=at or timezone.now(), limit=limit)
    if not taken:
        return 0
    now = timezone.now()
    prepared = [
        (each, each.webhook.url, each.payload.encode(), each.headers(at=now)) for each in taken
    ]
    with make_client() as client, ThreadPoolExecutor(AT_ONCE) as threads:
        results = threads.map(lambda p: post(client, p[1], p[2], p[3]), prepared)
        for (delivery, *_), result in zip(prepared, results, strict=True):
            delivery.record(result, at=timezone.now())
    return len(taken)


def post(client, url, body, headers):
    """POST `body` once. Whatever goes wrong is a Result, never an exception."""
    began = time.monotonic()
    try:
        status, text = _exchange(client, url, body, headers, until=began + SECONDS)
    except SSRFGuardError as refusal:
        return _failed(began, f"Not sent: the address is not a public one. {refusal}")
    except (httpx.HTTPError, httpx.InvalidURL, TimeoutError, OSError, ValueError) as error:
        return _failed(began, f"{type(error).__name__}: {error}")
    ok = 200 <= status < 300
    error = "" if ok else f"Answered {status}."
    return Result(ok=ok, status=status, text=text, error=error, milliseconds=_since(began))


def _exchange(client, url, body, headers, *, until):
    """Status and the beginning of the answer; an answer that trickles in ends at `until`."""
    with client.stream("POST", url, content=body, headers=headers) as response:
        read = b""
        for piece in response.iter_raw():
            read += piece
            if len(read) > LONGEST:
                break
            if time.monotonic() > until:
                raise TimeoutError(f"No whole answer within {SECONDS} seconds.")
        return response.status_code, read[:LONGEST].decode("utf-8", "replace").replace("\x00", "")


def _failed(began, error):
    return Result(ok=False, error=error.replace("\x00", ""), milliseconds=_since(began))


def _since(began):
    return round((time.monotonic() - began) * 1000)
