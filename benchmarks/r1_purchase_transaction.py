"""R1: a stock purchase as we make it ÷ the same statements by `pgbench -M prepared`, one client.

The statements are taken from a real purchase as it runs; pgbench replays them with other numbers. So the
ratio is what our own code adds: building, planning and reading.
"""

import re
import subprocess
import tempfile
import time
from contextlib import contextmanager
from datetime import date
from functools import partial
from itertools import count

import psycopg

from benchmarks.measure import interleave
from chirp_dashboard.postgres.prepared import PreparedCursor

SLICE = 40
AREA = 2010000000


def run(rounds=12):
    bench = Bench(numbers=SLICE * (rounds + 2) * 2 + 10)
    script = bench.script()
    return [
        interleave(
            "R1 purchase transaction ÷ pgbench",
            "≤ 1.3",
            bench.purchases,
            lambda: bench.pgbench(script),
            rounds=rounds,
        )
    ]


def next_free():
    """The first ten digits after every number in stock."""
    from django.db.models import Max

    from chirp_dashboard.numbers.models import InventoryNumber

    last = InventoryNumber.objects.filter(number__startswith="+1").aggregate(last=Max("number"))
    return max(AREA, int((last["last"] or "+10")[2:]) + 1)


def held_numbers(organization, person, count, *, at):
    """`count` local numbers in stock, each held by `person` at 1.00 + 1.00; returns the stock's rows."""
    from chirp_dashboard.billing.models import Price
    from chirp_dashboard.numbers.models import Hold, InventoryNumber

    Price.objects.get_or_create(
        country="US", number_type="local", currency="USD", valid_from=date(2020, 1, 1),
        defaults={"purchase_fee": 100, "rental": 100},
    )  # fmt: skip
    first = next_free()
    facts = {
        "country": "US", "number_type": "local", "region": "NJ", "city": "Jersey City",
        "area_code": "201", "capabilities": ["SMS", "Voice"],
    }  # fmt: skip
    rows = InventoryNumber.objects.bulk_create(
        InventoryNumber(number=f"+1{first + i}", **facts) for i in range(count)
    )
    Hold.objects.bulk_create(
        Hold(
            number=row.number, organization=organization, person=person, held_at=at,
            held_until=at.replace(year=at.year + 1), purchase_fee=100, rental=100,
            currency="USD", **facts,
        )
        for row in rows
    )  # fmt: skip
    return rows


def in_json(texts, literal):
    """A JSON literal with its changing parts cut out and put together again by the server."""
    json = literal[1]
    for text, expression in texts.items():
        json = json.replace(text, f"' || ({expression})::text || '")
    return f"('{json}')"


def make_ids_distinct():
    """Orders and phone numbers get ids that nothing else has, so that the script can find them."""
    from django.db import connection

    with connection.cursor() as cursor:
        for table, least in (("numbers_order", 10**7), ("numbers_phonenumber", 2 * 10**7)):
            cursor.execute(
                "SELECT setval(sequence, greatest(nextval(sequence), %s))"
                " FROM pg_get_serial_sequence(%s, 'id') AS sequence",
                [least, table],
            )


@contextmanager
def statements_sent():
    """What the prepared cursors send meanwhile, with the parameters written in."""
    from django.db import connection

    execute, sent = PreparedCursor.execute, []

    def remember(cursor, query, parameters=None, **options):
        sent.append(psycopg.ClientCursor(connection.connection).mogrify(query, parameters))
        return execute(cursor, query, parameters, **options)

    PreparedCursor.execute = remember
    connection.force_debug_cursor = True
    connection.queries_log.clear()
    try:
        yield sent
    finally:
        PreparedCursor.execute = execute
        connection.force_debug_cursor = False
    if len(connection.queries_log) != len(sent) + 2:  # BEGIN and COMMIT
        raise RuntimeError("A purchase sends statements that are not prepared; R1 would miss them.")


class Bench:
    def __init__(self, *, numbers):
        from django.utils import timezone

        from chirp_dashboard.billing.models import Standing
        from chirp_dashboard.organizations.models import Organization, User

        make_ids_distinct()
        self.at = timezone.now()
        slug = f"bench-{self.at:%H%M%S%f}"
        self.organization = Organization.objects.create(name="Bench", slug=slug)
        self.person = User.objects.create_user(f"{slug}@bench.example", "x")
        Standing.objects.create(organization=self.organization)
        self.first = next_free()
        self.rows = held_numbers(self.organization, self.person, numbers, at=self.at)
        self.next = count()
        self.total = self._total()

    def _total(self):
        from chirp_dashboard.numbers.models import Hold
        from chirp_dashboard.numbers.models.quotes import Quote

        on = self.organization.local_date(self.at)
        return Quote.of(self.organization, [Hold.objects.first()], on=on).total

    def purchase(self):
        from chirp_dashboard.numbers.models import Order

        row = self.rows[next(self.next)]
        began = time.perf_counter()
        Order.objects.place(
            self.organization,
            person=self.person,
            numbers=[row.key],
            expected_total=self.total,
            idempotency_key=f"key-{row.number}",
            at=self.at,
        )
        return time.perf_counter() - began

    def purchases(self):
        return sum(self.purchase() for _ in range(SLICE)) / SLICE

    def script(self):
        """One purchase as a pgbench script in which `:i` is the number."""
        row = self.rows[next(self.next)]
        self.next = count(row.pk - self.rows[0].pk)  # purchase this one below
        with statements_sent() as statements:
            self.purchase()
        varied = self._varied(statements, row)
        return "\n".join(["\\set i :i + 1", "BEGIN;", *varied, "COMMIT;"])

    def _varied(self, statements, row):
        from chirp_dashboard.numbers.models import Order

        order = Order.objects.get(idempotency_key=f"key-{row.number}")
        line = order.lines.get()
        number = line.phone_number
        texts = {
            row.number: "'+1' || :i",
            line.display: "'(201) ' || :i",
            f"key-{row.number}": "'key-' || :i",
            **{
                public_id: f"'{public_id.rsplit('_', 1)[0]}_bench' || :i"
                for public_id in (order.public_id, line.public_id, number.public_id)
            },
            f"Order {order.public_id}": "'Order ' || :i",
        }
        for statement in statements:
            statement = " ".join(statement.split())
            for text, expression in texts.items():
                statement = statement.replace(f"'{{{text}}}'", f"ARRAY[{expression}]")
                statement = statement.replace(f"'{{\"{text}\"}}'", f"ARRAY[{expression}]")
                statement = statement.replace(f"'{text}'", f"({expression})")
            statement = re.sub(rf"\b{order.pk}\b(?=::bigint)", ":order_id", statement)
            statement = re.sub(
                r"'(\[\{.*?\}\])'",
                partial(in_json, texts | {str(number.pk): ":phone_number_id"}),
                statement,
            )
            yield statement + self._kept(statement)

    @staticmethod
    def _kept(statement):
        """What a later statement needs of this one's answer."""
        if statement.endswith("SELECT id FROM placed"):
            return " \\gset order_"
        if statement.endswith("FROM delivered"):
            return " \\gset"
        return ";"

    def pgbench(self, script):
        from django.db import connection

        from chirp_dashboard.postgres import server

        start = self.first + next(self.next) - 1
        for _ in range(SLICE - 1):
            next(self.next)
        parameters = connection.get_connection_params()
        with tempfile.NamedTemporaryFile("w", suffix=".sql") as file:
            file.write(script)
            file.flush()
            command = [
                str(server.programs() / "pgbench"), "-n", "-M", "prepared", "-c", "1", "-t", str(SLICE),
                "-D", f"i={start}", "-f", file.name, "-h", parameters["host"],
                "-U", parameters.get("user", ""), parameters["dbname"],
            ]  # fmt: skip
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or f"processed: {SLICE}/{SLICE}" not in done.stdout:
            raise RuntimeError(done.stderr[-2000:] + done.stdout)
        return float(re.search(r"latency average = ([\d.]+) ms", done.stdout)[1]) / 1000
