"""Sweeps: one step for each of many rows, where one row's failure must not keep the others waiting."""

import logging

from django.db import connection

logger = logging.getLogger(__name__)


def for_each(rows, step, *, failure):
    """The sum of what `step` returns for each row; afterwards an ExceptionGroup of those that failed.

    Call outside every transaction: each step has its own.
    """
    done, failed = 0, []
    for row in rows:
        try:
            done += step(row)
        except Exception as error:
            if not connection.is_usable():
                raise
            error.add_note(f"{row._meta.verbose_name} {row.pk}")
            logger.exception("%s %s %s", row._meta.verbose_name, row.pk, failure)
            failed.append(error)
    if failed:
        raise ExceptionGroup(f"{len(failed)} {failure}", failed)
    return done
