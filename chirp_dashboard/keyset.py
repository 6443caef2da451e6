"""Pages of a long list by its sort key: no OFFSET, so the millionth row costs what the first one does.

A page is found by comparing the whole key with that of a row already seen, which PostgreSQL answers
from one index: `ROW(rental_amount, id) > ROW(100, 4711)`.
"""

import base64
import binascii
import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any

from django.db.models import BooleanField, Expression, F, Func, Value
from django.db.models.lookups import GreaterThan, LessThan

from chirp_dashboard.postgres.prepared import Given, fetch_dicts

LONGEST_TOKEN = 600


def text(value):
    if not isinstance(value, str) or "\x00" in value:
        raise ValueError("not a text")
    value.encode()  # lone surrogates of JSON cannot be stored
    return value


def whole(value):
    if type(value) is not int or not -(2**63) <= value < 2**63:
        raise ValueError("not a whole number")
    return value


def flag(value):
    if type(value) is not bool:
        raise ValueError("not true or false")
    return value


def moment(value):
    at = datetime.fromisoformat(text(value))
    if at.tzinfo is None:
        raise ValueError("not a moment")
    return at


def local_day(value):
    return date.fromisoformat(text(value))


@dataclass(frozen=True)
class Key:
    """One column of a sort order, and how to read its value from an address."""

    expression: Expression | F
    read: Callable[[Any], Any]


def encode(values):
    """The key of a row as it stands in an address."""
    plain = [value.isoformat() if isinstance(value, date) else value for value in values]
    packed = json.dumps(plain, separators=(",", ":")).encode()
    return base64.urlsafe_b64encode(packed).decode().rstrip("=")


def decode(token, keys):
    """The values `token` stands for; None for anything that is not a key of this sort order."""
    if not token or len(token) > LONGEST_TOKEN:
        return None
    try:
        packed = base64.urlsafe_b64decode(token.encode() + b"=" * (-len(token) % 4))
        values = json.loads(packed)
        if not isinstance(values, list):
            return None
        return [key.read(value) for key, value in zip(keys, values, strict=True)]
    except (ValueError, RecursionError, OverflowError, binascii.Error):
        return None


class RowOf(Func):
    """`ROW(a, b)`, compared column by column."""

    function = "ROW"
    output_field = BooleanField()  # never read; a comparison wants to know one


@dataclass(frozen=True)
class Page:
    """Rows of a page, in order, and the tokens of its neighbours ("" where there is none)."""

    rows: list
    newer: str
    older: str


def read_page(rows, keys, *, descending, after, before, size):
    """The `size` rows that follow the token `after`, or precede `before`; else the first ones.

    `rows` is a queryset of dicts; each comes back with its key as `key_0`, `key_1` …
    """

    def fetch(here, *, downwards):
        place = [Value(value) for value in here or ()]
        return list(_ordered(rows, keys, place, downwards=downwards)[: size + 1])

    return _page(fetch, keys, descending=descending, after=after, before=before, size=size)


def read_prepared_page(shape, rows, keys, *, descending, after, before, size, **values):
    """As `read_page`, of what `rows()` builds of each `Given` in `values`; see `fetch_dicts` for `shape`."""

    def fetch(here, *, downwards):
        place = {f"place_{index}": value for index, value in enumerate(here or ())}

        def build():
            givens = [Given(name) for name in place]
            return _ordered(rows(), keys, givens, downwards=downwards)[: size + 1]

        whole = (*shape, downwards, len(place), size)
        return fetch_dicts(whole, build, **values, **place)

    return _page(fetch, keys, descending=descending, after=after, before=before, size=size)


def _names(keys):
    return [f"key_{index}" for index in range(len(keys))]


def _ordered(rows, keys, place, *, downwards):
    """`rows` in order, from behind `place` on (expressions of the key's values, or none)."""
    names = _names(keys)
    rows = rows.annotate(**{name: key.expression for name, key in zip(names, keys, strict=True)})
    if place:
        compare = LessThan if downwards else GreaterThan
        rows = rows.filter(compare(RowOf(*map(F, names)), RowOf(*place)))
    return rows.order_by(*(f"-{name}" if downwards else name for name in names))


def _page(fetch, keys, *, descending, after, before, size):
    here = decode(after, keys)
    backwards = here is None and (here := decode(before, keys)) is not None
    found = fetch(here, downwards=descending != backwards)
    more, found = len(found) > size, found[:size]
    if backwards:
        found.reverse()

    def token(row):
        return encode([row[name] for name in _names(keys)])

    has_newer = more if backwards else here is not None
    has_older = backwards or more
    return Page(
        rows=found,
        newer=token(found[0]) if found and has_newer else "",
        older=token(found[-1]) if found and has_older else "",
    )
