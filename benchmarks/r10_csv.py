"""R10: the CSV of a million charges of a large organization ÷ PostgreSQL's own `COPY … TO STDOUT` of them.

Ours is asked for over HTTP from the server people use, as a browser would without compression, and read
to its end. The floor is `psql`'s way: the same rows in the same order with the same joins, their columns
as they are, copied out over one connection. In passing: what the worker's memory grows by.
"""

from pathlib import Path

from benchmarks.measure import interleave, timed
from benchmarks.organizations import LARGE, owner_of
from benchmarks.r4_list_page import person_of
from benchmarks.serving import Client, serving

BLOCK = 64 * 1024
PLAIN = {"Accept-Encoding": "identity"}


def run(rounds=6):
    organization = owner_of(LARGE)
    person = person_of([organization])
    path = f"/o/{organization.slug}/billing/charges/csv/?kind=purchase_fee"
    count = organization.charges.filter(kind="purchase_fee").count()  # one of every number
    with serving(workers=1) as port:
        client = Client(port, person)
        client.get(f"/o/{organization.slug}/billing/")
        before = memory_of(port)
        ratio = interleave(
            f"R10 CSV of {count:,} charges ÷ COPY",
            "≤ 3",
            lambda: timed(lambda _: download(client, path, count), times=1),
            lambda: timed(lambda _: copy_out(organization), times=1),
            rounds=rounds,
        )
        grown = memory_of(port) - before
    print(f"R10 the server grew by {grown:.0f} MB over {rounds + 1} such files", flush=True)
    return [ratio]


def download(client, path, count):
    """Read the file to its end, which has to be all of it."""
    client.connection.request("GET", path, headers=client.headers | PLAIN)
    response = client.connection.getresponse()
    lines = 0
    while block := response.read(BLOCK):
        lines += block.count(b"\n")
    if response.status != 200 or lines < count:
        raise RuntimeError(f"{path} answered {response.status} with {lines:,} lines.")


def copy_out(organization):
    from django.db import connection

    from chirp_dashboard.billing.lists import Ledger

    columns = [
        "on", "phone_number__number", "kind", "period_start", "period_end", "currency", "amount",
        "description", "invoice_line__invoice__number", "order__public_id",
    ]  # fmt: skip
    rows = (
        Ledger(organization, query={"kind": "purchase_fee"})
        .filtered()
        .order_by("-on", "-id")
        .values_list(*columns)
    )
    statement, parameters = rows.query.sql_with_params()
    with (
        connection.cursor() as cursor,
        cursor.copy(f"COPY ({statement}) TO STDOUT", parameters) as blocks,
    ):
        for _ in blocks:
            pass


def memory_of(port):
    """Megabytes that the server on `port` and its workers hold."""
    held = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            command = (place / "cmdline").read_bytes()
            status = dict(
                line.split(":", 1) for line in (place / "status").read_text().splitlines()
            )
        except OSError:
            continue  # it ended meanwhile
        is_server = b"granian" in command and b"\0%d\0" % port in command
        held[int(place.name)] = (int(status["PPid"]), is_server, kilobytes(status))
    servers = {pid for pid, (_, is_server, _) in held.items() if is_server}
    return (
        sum(size for pid, (parent, _, size) in held.items() if pid in servers or parent in servers)
        / 1024
    )


def kilobytes(status):
    return int(status.get("VmRSS", "0").split()[0])
