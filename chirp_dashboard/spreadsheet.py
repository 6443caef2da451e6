"""CSV that spreadsheets open safely, streamed by PostgreSQL's COPY: a million rows need no memory of ours.

A text that a spreadsheet would take for a formula gets an apostrophe in front, which our own imports
take off again; so E.164 numbers survive. Sums are plain decimals in the currency's minor digits.
"""

import csv
from io import StringIO

from django.db import connection
from django.db.models import DecimalField, Func, TextField
from django.http import StreamingHttpResponse

from chirp_dashboard.organizations.templatetags.ui import DECIMALS

FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
BLOCK = 64 * 1024


def safe(text):
    """`text` as a cell that is never taken for a formula."""
    text = str(text).replace("\0", "")
    return f"'{text}" if text.startswith(FORMULA) else text


class Safe(Func):
    """`safe()` in the database."""

    template = (
        r"(CASE WHEN left(%(expressions)s, 1) IN ('=', '+', '-', '@', E'\t', E'\r', E'\n') "
        "THEN '''' || (%(expressions)s) ELSE %(expressions)s END)"
    )
    output_field = TextField()

    def as_sql(self, compiler, connection, **context):
        inner, parameters = compiler.compile(self.source_expressions[0])
        return self.template % {"expressions": inner}, [*parameters] * 3


class Sum(Func):
    """An amount in the minor unit of `currency` as a decimal: 1234 is 12.34 dollars and 1234 yen."""

    output_field = DecimalField()

    def __init__(self, amount, *, currency):
        super().__init__(amount, template=f"((%(expressions)s)::numeric * {unit(currency)})")


def unit(currency):
    """The minor unit of `currency` as a decimal: "0.01" for USD."""
    places = DECIMALS.get(currency, 2)
    return f"{10**-places:.{places}f}"


def decimal(amount, currency):
    """`Sum` in Python: "-0.40"."""
    places = DECIMALS.get(currency, 2)
    whole, rest = divmod(abs(amount), 10**places)
    return f"{'-' if amount < 0 else ''}{whole}" + (f".{rest:0{places}d}" if places else "")


def download(name, blocks):
    """The answer that saves `blocks` of text as the file `name`."""
    response = StreamingHttpResponse(blocks, content_type="text/csv; charset=utf-8")
    response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
    return response


def file_name(organization, what, *, on):
    return f"{organization.slug}-{what}-{on.isoformat()}.csv"


def written(rows):
    """`rows` of plain values as CSV; texts are made safe, numbers stay numbers."""
    lines = StringIO()
    csv.writer(lines, lineterminator="\n").writerows(rows)
    return lines.getvalue().encode()


def copied(rows, columns):
    """Blocks of CSV: the names of `columns` (name -> expression), then every row of the queryset."""
    places = {f"cell_{place}": cell for place, cell in enumerate(columns.values())}
    statement, parameters = rows.annotate(**places).values_list(*places).query.sql_with_params()
    return copied_sql(statement, parameters, columns)


def copied_sql(statement, parameters, header):
    """Blocks of CSV: `header`, then what `statement` answers.

    psycopg's own cursor is asked: Django's, when it keeps a log of queries, takes no parameters here.
    """
    yield written([header])
    with (
        connection.cursor() as cursor,
        cursor.cursor.copy(f"COPY ({statement}) TO STDOUT WITH (FORMAT csv)", parameters) as rows,
    ):
        block = bytearray()
        for row in rows:
            block += row
            if len(block) >= BLOCK:
                yield bytes(block)
                block.clear()
        yield bytes(block)
