"""Filling the stock in bulk: the demo's made-up numbers, and an operator's file of real ones."""

from collections.abc import Iterable, Iterator
from contextlib import closing

from django.db import connection, transaction

from . import stock_file
from .area_codes import TOLL_FREE, area_codes

FICTION = range(100, 200)
"""555-0100 to 555-0199 are kept free for fiction in every area code."""

CHUNK = 1 << 16


def load_demo_stock() -> int:
    """Put the demo's numbers up for sale, in a stock that has none of them; answer how many."""
    with connection.cursor() as cursor:
        with cursor.copy(
            "COPY numbers_inventorynumber (country, number, number_type, region, city, area_code,"
            " capabilities, status) FROM STDIN"
        ) as copy:
            for facts in demo_stock():
                copy.write_row((*facts, "for_sale"))
        loaded = cursor.rowcount
        cursor.execute("ANALYZE numbers_inventorynumber")
    return loaded


def demo_stock() -> Iterator[tuple]:
    """The fictional numbers of every area code and toll-free code, and two hundred short codes.

    What a number can do varies a little with its last digits, so that the filters have work.
    """
    for place in area_codes().values():
        for line in FICTION:
            number = f"+1{place.code}555{line:04}"
            yield place.country, number, "local", place.region, place.city, place.code, local(line)
    for code in TOLL_FREE:
        for line in FICTION:
            can = ["SMS", "MMS", "Voice"] if line % 4 == 0 else ["SMS", "Voice"]
            yield "US", f"+1{code}555{line:04}", "tollfree", "", "", code, can
    for number in (*range(55500, 55600), *range(555100, 555200)):
        can = ["SMS"] if number % 5 == 0 else ["SMS", "MMS"]
        yield "US", str(number), "shortcode", "", "", "", can


def local(line):
    """What a local number of the demo can do."""
    if line % 25 == 3:
        return ["Voice"]
    return ["SMS", "Voice"] if line % 10 == 7 else ["SMS", "MMS", "Voice"]


class StockChanged(Exception):
    """Somebody else put one of these numbers into stock while they were being loaded."""


class StockImport:
    """Loads a file of stock in one transaction: everything in it, or nothing.

    The rows go by COPY into a temporary table, good and bad ones alike, so memory stays flat and
    one statement finds each kind of fault that only the database can see.
    """

    def __init__(self, path, *, skip_bad=False, dry_run=False):
        self.path = path
        self.skip_bad = skip_bad
        self.dry_run = dry_run
        self.rows = self.refused = self.loaded = 0

    def run(self, *, report) -> None:
        """Check every row, call `report` with what was refused, and load the rest if that is allowed."""
        with transaction.atomic(), connection.cursor() as self.cursor:
            self._copy(stock_file.rows(self.path))
            self._refuse_duplicates()
            self._refuse_owned()
            self._refuse_stocked()
            self._count()
            report(self)
            if self.refused == 0 or self.skip_bad:
                self._load()
            self.cursor.execute("DROP TABLE incoming")
            if self.dry_run:
                transaction.set_rollback(True)

    def refusals(self, *, limit=None) -> Iterator[tuple[int, str, str]]:
        """(line, number, reason) of the rows refused, by line."""
        with closing(connection.connection.cursor("refusals")) as cursor:
            cursor.execute(
                "SELECT line, entered, reason FROM incoming WHERE reason IS NOT NULL ORDER BY line LIMIT %s",
                [limit],
            )
            yield from cursor

    def _copy(self, rows: Iterable[str]) -> None:
        self.cursor.execute(
            """
            CREATE TEMPORARY TABLE incoming (
                line bigint, entered text, reason text, country text, number text COLLATE "C",
                number_type text, region text, city text, area_code text, capabilities text[]
            ) ON COMMIT DROP
            """
        )
        with self.cursor.copy("COPY incoming FROM STDIN") as copy:
            chunk, size = [], 0
            for row in rows:
                chunk.append(row)
                size += len(row)
                if size > CHUNK:
                    copy.write("".join(chunk))
                    chunk, size = [], 0
            copy.write("".join(chunk))
        self.cursor.execute("ANALYZE incoming")

    def _refuse_duplicates(self) -> None:
        self.cursor.execute(
            """
            UPDATE incoming SET reason = 'the same number as in line ' || first.line
            FROM (
                SELECT country, number, min(line) AS line FROM incoming
                WHERE reason IS NULL GROUP BY country, number HAVING count(*) > 1
            ) AS first
            WHERE incoming.reason IS NULL AND incoming.line > first.line
                AND incoming.number = first.number AND incoming.country = first.country
            """
        )

    def _refuse_owned(self) -> None:
        self.cursor.execute(
            """
            UPDATE incoming SET reason = 'already owned by an organization'
            FROM numbers_phonenumber AS known
            WHERE incoming.reason IS NULL AND known.state <> 'released' AND NOT known.is_test
                AND incoming.number = known.number AND incoming.country = known.country
            """
        )

    def _refuse_stocked(self) -> None:
        self.cursor.execute(
            """
            UPDATE incoming SET reason = 'already in stock'
            FROM numbers_inventorynumber AS known
            WHERE incoming.reason IS NULL
                AND incoming.number = known.number AND incoming.country = known.country
            """
        )

    def _count(self) -> None:
        self.cursor.execute("SELECT count(*), count(reason) FROM incoming")
        self.rows, self.refused = self.cursor.fetchone()

    def _load(self) -> None:
        self.cursor.execute(
            """
            INSERT INTO numbers_inventorynumber
                (country, number, number_type, region, city, area_code, capabilities, status)
            SELECT country, number, number_type, region, city, area_code, capabilities, 'for_sale'
            FROM incoming WHERE reason IS NULL
            ON CONFLICT (country, number) DO NOTHING
            """
        )
        self.loaded = self.cursor.rowcount
        if self.loaded != self.rows - self.refused:
            raise StockChanged(
                "Somebody else changed the stock meanwhile. Nothing was loaded; try again."
            )
        self.cursor.execute("ANALYZE numbers_inventorynumber")
