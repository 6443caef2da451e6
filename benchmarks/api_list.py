"""API: the list of numbers with an admin key ÷ an API view that does nothing, behind the same door.

Both look up the key, count the request against its limit and answer JSON; one of them lists the default
page of 20 numbers. Asked for at an organization with 1,000 numbers and at one with BENCH_RENTALS, so the
third figure is the ratio of the two sizes. The limit is lifted for the benchmark's server.
"""

import http.client

from benchmarks.measure import interleave, timed
from benchmarks.organizations import LARGE, owner_of
from benchmarks.serving import serving

SMALL = 1_000
SLICE = 40
LIST, EMPTY = "/v1/organization/phone-numbers", "/v1/empty"


def run(rounds=12):
    large, small = owner_of(LARGE), owner_of(SMALL)
    keys = {organization: key_of(organization) for organization in (large, small)}
    tidy_up()
    with serving() as port:
        callers = {each: Caller(port, key) for each, key in keys.items()}
        return [
            compare(f"API list of 20 at {SMALL:,} numbers ÷ empty API view", "≤ 2.0", rounds,
                    (callers[small], LIST), (callers[small], EMPTY)),
            compare(f"API list of 20 at {LARGE:,} numbers ÷ empty API view", "≤ 2.0", rounds,
                    (callers[large], LIST), (callers[large], EMPTY)),
            compare(f"API list of 20 at {LARGE:,} ÷ at {SMALL:,} numbers", "≤ 1.10", rounds,
                    (callers[large], LIST), (callers[small], LIST)),
        ]  # fmt: skip


def compare(name, target, rounds, ours, floor):
    return interleave(
        name, target, lambda: slice_of(*ours), lambda: slice_of(*floor), rounds=rounds
    )


def slice_of(caller, path):
    return timed(lambda _: caller.read(path), times=SLICE)


def key_of(organization):
    from django.utils import timezone

    from chirp_dashboard.organizations.models import Actor, ApiKey

    ApiKey.objects.filter(organization=organization).update(revoked_at=timezone.now())
    _, secret = ApiKey.objects.issue(
        organization, name="benchmark", by=Actor.system("benchmark"), at=timezone.now()
    )
    return secret


def tidy_up():
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE)")


class Caller:
    """A program with one connection that is kept alive."""

    def __init__(self, port, secret):
        self.connection = http.client.HTTPConnection("127.0.0.1", port)
        self.headers = {"Authorization": f"Bearer {secret}", "Accept-Encoding": "identity"}

    def read(self, path):
        try:
            response = self.ask(path)
        except (http.client.RemoteDisconnected, ConnectionError):  # idle while others took turns
            self.connection.close()
            response = self.ask(path)
        body = response.read()
        if response.status != 200:
            raise RuntimeError(f"{path} answered {response.status}: {body[:200]}")
        return body

    def ask(self, path):
        self.connection.request("GET", path, None, self.headers)
        return self.connection.getresponse()
