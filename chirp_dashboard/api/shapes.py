"""The exact shapes of what comes in: each pattern is the one the document publishes."""

import re
from datetime import date
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema

from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.organizations.models import WebhookEvent

CONTROL = r"\x00-\x1F\x7F-\x9F"
HIDDEN = CONTROL + r"\u061C\u200E\u200F\u202A-\u202E\u2066-\u2069"
"""What hides or turns the text around it."""
SPACES = r"\x20\xA0\xAD\u1680\u180E\u2000-\u200F\u2028-\u202F\u205F-\u206F\u3000\uFEFF"
DIGITS = re.compile(r"-?[0-9]{1,19}")
DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def shaped(pattern, says, *, longest, shortest=0, then=str):
    """A text that is all `pattern` and `shortest` to `longest` characters long; else the error `says`."""
    whole = re.compile(pattern)

    def check(text):
        if not whole.fullmatch(text) or any("\ud800" <= each <= "\udfff" for each in text):
            raise ValueError(says)
        return then(text)

    return Annotated[
        str,
        Field(
            min_length=shortest, max_length=longest, json_schema_extra={"pattern": f"^({pattern})$"}
        ),
        AfterValidator(check),
    ]


def number_in_query(value):
    """What stands in an address is text; only digits are a number there."""
    if isinstance(value, str) and not DIGITS.fullmatch(value):
        raise ValueError("write a whole number")
    return value


def number_in_body(value):
    """JSON tells numbers, texts and truth apart; 1.0 is a whole number to it."""
    if isinstance(value, bool) or not isinstance(value, int | float) or value % 1:
        raise ValueError("write a whole number")
    return int(value)


def truth(value):
    words = {"true": True, "false": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    raise ValueError("write true or false")


def day(value):
    if isinstance(value, date) or value is None:
        return value
    if not isinstance(value, str) or not DAY.fullmatch(value):
        raise ValueError("write a date as 2026-12-31")
    try:
        return date.fromisoformat(value)
    except ValueError:
        raise ValueError("there is no such day") from None


UNPRINTABLE = "leave out line breaks and control characters"
Text = shaped(rf"[^{CONTROL}]*", UNPRINTABLE, longest=1_000)
WithDigits = shaped(
    rf"([^{CONTROL}]*[0-9][^{CONTROL}]*)?", "write digits that stand in the number", longest=1_000
)
Name = shaped(
    rf"[^{HIDDEN}]*[^{CONTROL}{SPACES}][^{HIDDEN}]*",
    "write a name that can be seen, without line breaks and control characters",
    shortest=1, longest=120, then=str.strip,
)  # fmt: skip
Slug = shaped(
    "[a-z0-9]([a-z0-9-]*[a-z0-9])?",
    "use lower-case letters, digits and hyphens; begin and end with a letter or digit",
    shortest=1, longest=50,
)  # fmt: skip
Id = shaped("[0-9A-Za-z_-]+", "this is not an id", shortest=1, longest=64)
PhoneNumber = shaped(
    r"\+[1-9][0-9]{6,14}|[0-9]{5,6}",
    "write a number such as +12125550142, or a short code of 5 or 6 digits", longest=16,
)  # fmt: skip
Country = shaped("[A-Za-z]{2}", "write the two letters of a country, such as US", longest=2)
Type = Literal[(*NumberType.values, "mobile")]
Event = Literal[tuple(WebhookEvent.values)]
Url = shaped(
    r"[Hh][Tt][Tt][Pp][Ss]://[^\s/?#@\x00-\x20\x7F-\x9F]+([/?][^\s#\x00-\x20\x7F-\x9F]*)?",
    "write an address such as https://example.com/hooks", shortest=9, longest=500,
)  # fmt: skip
HEADER = r"[A-Za-z0-9!#$%&'*+.^_`|~-]+"
HeaderName = shaped(HEADER, "a header's name has no spaces or accents", shortest=1, longest=100)
HEADER_NAMES = {"propertyNames": {"pattern": f"^({HEADER})$", "minLength": 1, "maxLength": 100}}
HeaderValue = shaped(
    r"[!-~\xA1-\xFF]([ -~\xA0-\xFF]*[!-~\xA1-\xFF])?",
    "a header is one line of at most 1,000 plain characters", shortest=1, longest=1_000,
)  # fmt: skip
Whole = Annotated[int, BeforeValidator(number_in_body)]
Count = Annotated[int, BeforeValidator(number_in_query)]
Truth = Annotated[bool, BeforeValidator(truth)]
Day = Annotated[date, BeforeValidator(day), WithJsonSchema({"type": "string", "format": "date"})]
