"""R4: pages of the list of numbers of a large organization ÷ the same pages of one with 1,000.

Both are in one database, asked for by one person from one server: every order from both ends, in the
middle and near the end, and the tab and the filters people use. Each page is full in both. In passing
R5: a page of 50 ÷ a page that is empty; R6: the queries of every page, the same in both; and R7 for
digits: a search has its own target, because the large organization really finds more.
"""

from dataclasses import dataclass

from benchmarks.measure import interleave, timed
from benchmarks.organizations import LARGE, owner_of
from benchmarks.serving import Client, serving

SMALL = 1_000
SLICE = 20  # requests; short, because what else the machine does changes within a second
ROWS = 50
MOST_QUERIES = 5
DIGITS = "4821"

FILTERS = {
    "not assigned": "state=unassigned",
    "toll-free": "type=tollfree",
    "application": "application=storefront",
    "region": "region=CA",
}


def run(rounds=16):
    large, small = owner_of(LARGE), owner_of(SMALL)
    fill_pages(large)
    fill_pages(small)
    tidy_up()
    person = person_of([large, small])
    cases = [*filtered_cases(large, small), *ordered_cases(large, small)]
    search = Case(f"R7 search {DIGITS}", *paths(large, small, f"q={DIGITS}"), target="≤ 1.5")
    count_queries([*cases, search], person)
    with serving() as port:
        client = Client(port, person)
        ratios = [case.measure(client, rounds) for case in cases]
        others = [search.measure(client, rounds), measure_empty(client, small, rounds)]
    medians = sorted((ratio.median, ratio.name) for ratio in ratios)
    middle, worst = medians[len(medians) // 2], medians[-1]
    print(f"R4 of {len(cases)} cases: median {middle[0]:.2f}; worst {worst[0]:.2f}, {worst[1]}", flush=True)  # fmt: skip
    return ratios + others


@dataclass
class Case:
    name: str
    large: str
    small: str
    target: str = "≤ 1.10"

    def measure(self, client, rounds):
        return interleave(
            f"{self.name}, {LARGE:,} ÷ {SMALL:,} numbers",
            self.target,
            lambda: timed(lambda _: read(client, self.large), times=SLICE),
            lambda: timed(lambda _: read(client, self.small), times=SLICE),
            rounds=rounds,
        )


def read(client, path):
    status, body = client.get(path)
    if status != 200:
        raise RuntimeError(f"{path} answered {status}.")
    return body


def measure_empty(client, organization, rounds):
    return interleave(
        "R5 list page of 50 ÷ empty signed-in page",
        "≤ 2.0",
        lambda: timed(lambda _: read(client, list_path(organization)), times=SLICE),
        lambda: timed(lambda _: read(client, f"/o/{organization.slug}/empty/"), times=SLICE),
        rounds=rounds,
    )


def list_path(organization, query=""):
    return f"/o/{organization.slug}/numbers/?{query}"


def paths(large, small, query):
    return list_path(large, query), list_path(small, query)


def filtered_cases(large, small):
    return [Case(f"R4 {name}", *paths(large, small, query)) for name, query in FILTERS.items()]


def person_of(organizations):
    from chirp_dashboard.organizations.models import Membership, User

    person = User.objects.filter(email="pages@bench.example").first()
    person = person or User.objects.create_user("pages@bench.example")
    for organization in organizations:
        Membership.objects.get_or_create(
            organization=organization, user=person, defaults={"role": "owner"}
        )
    return person


def fill_pages(organization):
    """Let even a small organization have a page full of everything looked for."""
    numbers = organization.phone_numbers.all()
    if numbers.filter(label=f"Desk {DIGITS}").exists():
        return
    local = numbers.filter(number_type="local").order_by("id")
    chosen = list(local.values_list("id", flat=True)[: 2 * (ROWS + 10)])
    numbers.filter(id__in=chosen[::2]).update(label=f"Desk {DIGITS}")
    if numbers.filter(number_type="tollfree").count() <= ROWS:
        numbers.filter(id__in=chosen[1::2]).update(number_type="tollfree", region="", city="")


def tidy_up():
    """Bring visibility maps and statistics to where autovacuum would have them in time."""
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("VACUUM (ANALYZE) numbers_phonenumber, numbers_assignment")


# Every order ------------------------------------------------------------------------------------


def ordered_cases(large, small):
    """First page, middle and end of every order."""
    from chirp_dashboard.numbers.listing import SORTS

    for sort in SORTS:
        for name, place in {"first page": 0, "middle": 0.5, "end": 1}.items():
            pages = [list_path(o, f"sort={sort}{after(o, sort, place)}") for o in (large, small)]
            yield Case(f"R4 {sort}, {name}", *pages)


def after(organization, sort, place):
    """The cursor of the page at `place` of the list, from 0 to 1, as an address has it."""
    from chirp_dashboard import keyset
    from chirp_dashboard.numbers.listing import ORDERS

    if not place:
        return ""
    names = {f"key_{n}": key.expression for n, key in enumerate(ORDERS[sort.removeprefix("-")])}
    rows = organization.phone_numbers.live()
    before = int((rows.count() - 2 * ROWS) * place)
    descending = "-" if sort.startswith("-") else ""
    rows = rows.annotate(**names).order_by(*(f"{descending}{name}" for name in names))
    return f"&after={keyset.encode(rows.values_list(*names)[before])}"


# Queries ----------------------------------------------------------------------------------------


def count_queries(cases, person):
    """R6: the same count of queries in both organizations, few enough, and full pages."""
    from django.db import connection
    from django.test import Client as Visitor
    from django.test.utils import CaptureQueriesContext

    visitor = Visitor(headers={"host": "127.0.0.1"})
    visitor.force_login(person)
    counts = set()
    for case in cases:
        here = []
        for path in (case.large, case.small):
            with CaptureQueriesContext(connection) as queries:
                body = visitor.get(path).content
            if body.count(b'<tr id="ph_') != ROWS:
                raise RuntimeError(f"{path} is not a page of {ROWS}.")
            here.append(len(queries))
        if len(set(here)) > 1 or max(here) > MOST_QUERIES:
            raise RuntimeError(f"{case.name} takes {here} queries.")
        counts.add(here[0])
    print(
        f"R6 queries per page, {len(cases)} cases, both sizes: {max(counts)}, target ≤ {MOST_QUERIES}",
        flush=True,
    )
