"""API: lists with a key ÷ an API view that does nothing, behind the same door.

Both look up the key, count the request against its limit and answer JSON; one of them lists the default
page of 20. Every list is asked for at an organization with 1,000 numbers and at one with BENCH_RENTALS, so
there is a third figure, the ratio of the two sizes. The limit is lifted for the benchmark's server.
"""

import http.client
from dataclasses import dataclass

from benchmarks.measure import interleave, timed
from benchmarks.organizations import APPLICATIONS, LARGE, owner_of
from benchmarks.r4_list_page import DIGITS, fill_pages
from benchmarks.serving import serving

SMALL = 1_000
SLICE = 40
LIST, EMPTY = "/v1/organization/phone-numbers", "/v1/empty"
OF_APP = "/v1/phone-numbers"


@dataclass
class Case:
    """A list of the API; `path` is asked for with the key of an application, or of the organization."""

    name: str
    large: str
    small: str
    is_of_app: bool = False
    alike: str = "≤ 1.10"  # what both sizes are held to


def run(rounds=12):
    large, small = owner_of(LARGE), owner_of(SMALL)
    fill_pages(large)
    fill_pages(small)
    admin = {each: key_of(each) for each in (large, small)}
    app = {each: key_of(each, each.applications.get(slug=APPLICATIONS[0])) for each in admin}
    cases = [*cases_of(large, small)]
    tidy_up()
    ratios = []
    with serving() as port:
        for case in cases:
            keys = app if case.is_of_app else admin
            ours, theirs = Caller(port, keys[large]), Caller(port, keys[small])
            ratios += [
                compare(f"API {case.name} at {LARGE:,} numbers ÷ empty API view", "≤ 2.0", rounds,
                        (ours, case.large), (ours, EMPTY)),
                compare(f"API {case.name} at {LARGE:,} ÷ at {SMALL:,} numbers", case.alike, rounds,
                        (ours, case.large), (theirs, case.small)),
            ]  # fmt: skip
        caller = Caller(port, admin[small])
        first = f"API {cases[0].name} at {SMALL:,} numbers ÷ empty API view"
        ratios.append(compare(first, "≤ 2.0", rounds, (caller, LIST), (caller, EMPTY)))
    return ratios


def cases_of(large, small):
    """Every order that is read in pages: first, deep, filtered."""
    yield Case("list of 20", LIST, LIST)
    for name, place in {"middle": 0.5, "end": 1}.items():
        pages = [f"{LIST}?cursor={cursor_at(each, place)}" for each in (large, small)]
        yield Case(f"list of 20, {name}", *pages)
    for query in ("numberType=local", f"q={DIGITS}", f"numberType=local&q={DIGITS}"):
        path = f"{LIST}?{query}"
        yield Case(f"list of 20, {query}", path, path, alike="≤ 1.5" if "q=" in query else "≤ 1.10")
    yield Case("an app's list of 20", OF_APP, OF_APP, is_of_app=True)
    paths = [f"{LIST}/{a_number_of(each)}/timeline" for each in (large, small)]
    yield Case("timeline of a number", *paths)
    records = "/v1/organization/billing/records"
    yield Case("list of 20 charges", records, records)


def cursor_at(organization, place):
    """The cursor of the page at `place` of the list, from 0 to 1."""
    rows = organization.phone_numbers.live().order_by("number", "id")
    before = int((rows.count() - 50) * place)
    number, pk = rows.values_list("number", "id")[before]
    return f"{number.replace('+', 'p')}-{pk}"


def a_number_of(organization):
    return organization.phone_numbers.live().order_by("id").values_list("public_id", flat=True)[0]


def compare(name, target, rounds, ours, floor):
    return interleave(
        name, target, lambda: slice_of(*ours), lambda: slice_of(*floor), rounds=rounds
    )


def slice_of(caller, path):
    return timed(lambda _: caller.read(path), times=SLICE)


def key_of(organization, application=None):
    from django.utils import timezone

    from chirp_dashboard.organizations.models import Actor, ApiKey

    ApiKey.objects.filter(organization=organization, application=application).update(
        revoked_at=timezone.now()
    )
    _, secret = ApiKey.objects.issue(
        organization, application=application, name="benchmark",
        by=Actor.system("benchmark"), at=timezone.now(),
    )  # fmt: skip
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
