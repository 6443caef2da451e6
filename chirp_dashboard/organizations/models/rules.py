"""What the tables of every app share: rows that are kept as written, and how names are spelled."""

import zoneinfo

import pgtrigger
from django.core.exceptions import ValidationError
from django.core.validators import RegexValidator


def refuse(name, operation):
    """A trigger that refuses `operation` on the whole table, bulk statements and TRUNCATE included."""
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=operation,
        func="""
            RAISE EXCEPTION '% on % is refused: its rows are kept as written', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        """,
    )


INSERT_ONLY = refuse("insert_only", pgtrigger.Update | pgtrigger.Delete | pgtrigger.Truncate)

validate_slug = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z",
    "Use lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


def validate_time_zone(name):
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name} is not a time zone; write one such as America/New_York.")
