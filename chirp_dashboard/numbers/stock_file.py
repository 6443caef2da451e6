"""Reading an operator's file of stock: CSV in UTF-8, one number per line.

`rows` turns every line into one row for the database's COPY: its facts, or the reason why it is no
stock. A line is always one row (no fact of a number spans lines), so a forgotten quotation mark
spoils its own line only, and a line's number is the one an editor shows.
"""

import csv
import re
from collections.abc import Iterator
from functools import cache, lru_cache
from operator import itemgetter
from pathlib import Path
from typing import NamedTuple

import phonenumbers
from phonenumbers import NumberParseException, PhoneNumberType

from chirp_dashboard.billing.models import NumberType

from .area_codes import REGIONS, TOLL_FREE, area_codes
from .models.inventory import Capability

COLUMNS = ("number", "type", "country", "region", "city", "area_code", "capabilities")
COUNTRY = COLUMNS.index("country") - 1
NO_FACTS = "\t\\N" * 7
LONGEST_LINE = 10_000
LONGEST_CITY = 80
LONGEST_REGION = 3

NORTH_AMERICAN = re.compile(r"(?:\+?1)?[2-9][0-9]{2}[2-9][0-9]{6}")
SHORT_CODE = re.compile(r"[2-9][0-9]{4,5}")
SPREADSHEET_NUMBER = re.compile(r"[0-9][.,][0-9]+E\+?[0-9]+", re.IGNORECASE)
PUNCTUATION = str.maketrans("", "", " ().-'\u00a0\u2010\u2011\u2013")

NOT_TEXT = {
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
    b"PK": "a workbook or a zip archive",
    b"\xd0\xcf": "a workbook",
    b"\x1f\x8b": "compressed",
}

SHARED = {"867": {"NT", "NU", "YT"}, "902": {"NS", "PE"}, "782": {"NS", "PE"}}
"""Area codes of several regions: the table answers with the largest, a file may say which."""

CAPABILITIES = {
    NumberType.LOCAL: (Capability.SMS, Capability.MMS, Capability.VOICE),
    NumberType.TOLL_FREE: (Capability.SMS, Capability.VOICE),
    NumberType.SHORT_CODE: (Capability.SMS, Capability.MMS),
}
"""What a number can do where the file does not say."""

TYPES_ELSEWHERE = {
    PhoneNumberType.FIXED_LINE: NumberType.LOCAL,
    PhoneNumberType.FIXED_LINE_OR_MOBILE: NumberType.LOCAL,
    PhoneNumberType.TOLL_FREE: NumberType.TOLL_FREE,
}


class UnreadableFile(Exception):
    """The file is no list of numbers at all; the text says why and what to do."""


class BadRow(Exception):
    """One line is no stock; the text says why."""


class Number(NamedTuple):
    """What a number itself says, whatever the other columns do."""

    number: str
    number_type: NumberType
    countries: tuple[str, ...]
    area_code: str = ""


def rows(path: str | Path) -> Iterator[str]:
    """One line for `COPY incoming (line, entered, reason, country, number, …)` per line of the file."""
    lines = _lines(path)
    columns = _header(lines)
    places = [columns.index(name) if name in columns else len(columns) for name in COLUMNS]
    in_order = itemgetter(*places)
    found = 0
    for line, text in lines:
        if text.strip(" ,\t"):
            found += 1
            yield _row(line, text, len(columns), in_order)
    if not found:
        raise UnreadableFile("The file has no rows below its header.")


def _lines(path) -> Iterator[tuple[int, str]]:
    """(number, text) of each line; of an endless one only the beginning, so that memory stays flat."""
    with open(path, encoding="utf-8-sig", errors="surrogateescape") as file:
        _check_text(file.buffer.peek(4))
        line = 0
        while read := file.readline(LONGEST_LINE + 1):
            line += 1
            rest = read
            while not rest.endswith("\n") and (rest := file.readline(LONGEST_LINE)):
                read = read[:LONGEST_LINE] + "…"
            yield line, read.rstrip("\n")


def _check_text(start):
    for mark, what in NOT_TEXT.items():
        if start.startswith(mark):
            raise UnreadableFile(f"The file is {what}. Save it as CSV in UTF-8.")


def _header(lines) -> list[str]:
    """The names of the columns, from the first line that is not blank."""
    line, text = next(((line, text) for line, text in lines if text.strip(" ,;\t")), (0, ""))
    if not text:
        raise UnreadableFile("The file is empty.")
    try:
        columns = [name.strip().lower().replace(" ", "_") for name in _split(text)]
    except BadRow as error:
        raise UnreadableFile(f"Line {line}, the header: {error}.") from None
    for mark, name in {";": "semicolons", "\t": "tabs", "|": "vertical bars"}.items():
        if len(columns) == 1 and mark in text:
            raise UnreadableFile(f"The columns are separated by {name}. Separate them by commas.")
    if "number" not in columns:
        raise UnreadableFile(
            f"The first line has to name the columns, one of them “number”; it is “{shown(text)}”. "
            f"Columns: {', '.join(COLUMNS)}."
        )
    for name in columns:
        if name not in COLUMNS:
            raise UnreadableFile(
                f"There is no column “{shown(name)}”. Columns: {', '.join(COLUMNS)}."
            )
        if columns.count(name) > 1:
            raise UnreadableFile(f"The column “{name}” is there twice.")
    return columns


def _row(line, text, width, in_order) -> str:
    entered = text
    try:
        entered, *columns = in_order([*_fields(text, width), ""])
        about = _number(entered, columns[COUNTRY])
        country, facts = _facts(about[1:], *columns)
    except BadRow as reason:
        return f"{line}\t{_escaped(shown(entered))}\t{_escaped(str(reason))}{NO_FACTS}\n"
    return f"{line}\t{about.number}\t\\N\t{country}\t{about.number}\t{facts}\n"


def _fields(text, width) -> list[str]:
    if not text.isascii():
        _check_utf8(text)
    if "\0" in text:
        raise BadRow("it contains a NUL byte")
    if len(text) > LONGEST_LINE:
        raise BadRow(f"it is longer than {LONGEST_LINE:,} characters")
    fields = _split(text)
    if len(fields) != width:
        raise BadRow(f"it has {len(fields)} columns, the header {width}")
    return [field.strip() for field in fields]


def _check_utf8(text):
    try:
        text.encode()
    except UnicodeEncodeError:
        raise BadRow("it is not UTF-8: save the file as CSV in UTF-8") from None


def _split(text) -> list[str]:
    if '"' not in text:
        return text.split(",")
    try:
        return next(csv.reader([text], strict=True))
    except csv.Error as error:
        raise BadRow(f"its quotation marks do not match ({error})") from None


def _number(entered, country) -> Number:
    """Which number was written, in whatever manner, and what follows from it."""
    digits = entered.translate(PUNCTUATION)
    here = digits.startswith("+") or country.upper() in {"", "US", "CA"}
    if here and NORTH_AMERICAN.fullmatch(digits):
        return _north_american("+1" + digits[-10:])
    if SHORT_CODE.fullmatch(digits):
        return Number(digits, NumberType.SHORT_CODE, ("US", "CA"))
    if not digits:
        raise BadRow("it has no number")
    if SPREADSHEET_NUMBER.fullmatch(entered):
        raise BadRow("a spreadsheet has rounded the number: format the column as text")
    return _elsewhere(digits, country.upper())


def _north_american(number) -> Number:
    code, exchange = number[2:5], number[5:8]
    if exchange[1:] == "11":
        raise BadRow(f"not a valid number: no number begins with {code} {exchange}")
    if place := area_codes().get(code):
        if not _plan(place.country).fullmatch(number[2:]):
            raise BadRow("not a valid number")
        return Number(number, NumberType.LOCAL, (place.country,), code)
    if code in TOLL_FREE:
        return Number(number, NumberType.TOLL_FREE, ("US", "CA"), code)
    return _elsewhere(number, "")


@cache
def _plan(country):
    """The ordinary numbers of a country."""
    metadata = phonenumbers.PhoneMetadata.metadata_for_region(country)
    return re.compile(metadata.fixed_line.national_number_pattern)


def _elsewhere(digits, country) -> Number:
    """A number outside the area-code table, as far as `phonenumbers` knows it."""
    try:
        parsed = phonenumbers.parse(digits, country or None)
    except NumberParseException:
        raise BadRow(
            "not a phone number: write it as +12125550142, or five or six digits"
        ) from None
    if not phonenumbers.is_valid_number(parsed):
        raise BadRow("not a valid number")
    number_type = TYPES_ELSEWHERE.get(phonenumbers.number_type(parsed))
    if not number_type:
        raise BadRow("neither a local number nor a toll-free one")
    number = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.E164)
    return Number(number, number_type, (phonenumbers.region_code_for_number(parsed),))


@lru_cache(maxsize=1 << 16)
def _facts(about, entered_type, country, region, city, area_code, capabilities) -> tuple[str, str]:
    """(country, the rest) as COPY wants them: what the columns say, checked against the number.

    Cached, because a file of millions says few different things.
    """
    number_type, countries, code = about
    _check_type(entered_type, number_type)
    country = _country(country, countries)
    if area_code and area_code != code:
        raise BadRow(f"area code {shown(area_code)} does not fit: the number's is {code or 'none'}")
    region, city = _location(number_type, country, code, region, city)
    can = ",".join(_capabilities(capabilities, number_type))
    return country, "\t".join([number_type, region, _escaped(city), code, "{" + can + "}"])


def _check_type(entered, number_type):
    if entered and re.sub(r"[\W_]", "", entered).lower() != number_type:
        known = re.sub(r"[\W_]", "", entered).lower() in NumberType.values
        wrong = "does not fit" if known else "is unknown"
        raise BadRow(f"type {shown(entered)} {wrong}: the number is {number_type.label.lower()}")


def _country(entered, countries) -> str:
    if entered and entered.upper() not in countries:
        raise BadRow(
            f"country {shown(entered)} does not fit: the number belongs to {' or '.join(countries)}"
        )
    return entered.upper() or countries[0]


def _location(number_type, country, code, region, city) -> tuple[str, str]:
    if number_type != NumberType.LOCAL and (region or city):
        raise BadRow(f"a {number_type.label.lower()} number has no region and no city")
    if len(city) > LONGEST_CITY:
        raise BadRow(f"the city is longer than {LONGEST_CITY} characters")
    if not city.isprintable():
        raise BadRow("the city contains unprintable characters")
    place = area_codes().get(code)
    if not place:
        if len(region) > LONGEST_REGION or (not region.isalnum() and region):
            raise BadRow(f"region {shown(region)} is unknown: write its code")
        return region.upper(), city
    region = _region(region, country) or place.region
    if region not in SHARED.get(code, {place.region}):
        raise BadRow(f"region {region} does not fit: area code {code} is in {place.region_name}")
    return region, city or (place.city if region == place.region else "")


def _region(entered, country) -> str:
    """The code of a region written as code or name."""
    for code, name in REGIONS[country].items():
        if entered.casefold() in (code.casefold(), name.casefold()):
            return code
    if entered:
        raise BadRow(f"region {shown(entered)} is unknown")
    return ""


def _capabilities(entered, number_type) -> tuple[str, ...]:
    named = {part.strip().casefold() for part in re.split(r"[;|]", entered)} - {""}
    known = {capability.casefold(): capability for capability in Capability.values}
    if unknown := sorted(named - known.keys()):
        raise BadRow(
            f"capability {shown(unknown[0])} is unknown: write {'; '.join(Capability.values)}"
        )
    return tuple(known[name] for name in known if name in named) or CAPABILITIES[number_type]


def shown(text, longest=40):
    """Foreign text made harmless for a terminal and a spreadsheet, and short."""
    text = "".join(
        c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text[: longest + 1]
    )
    text = text if len(text) <= longest else text[: longest - 1] + "…"
    return "'" + text if re.match(r"[=@-]|\+(?![0-9 ().-]+$)", text) else text


def _escaped(text):
    """Text as COPY reads it."""
    return text.replace("\\", "\\\\").replace("\t", "\\t").replace("\n", "\\n").replace("\r", "\\r")
