"""Ratios of two things that take turns.

Absolute times drift by a factor of eight on shared machines; the ratio of alternating slices stays put.
Every figure is the median of the ratios of neighbouring slices, with their spread.
"""

import os
import platform
import statistics
import sys
import time
from dataclasses import dataclass


@dataclass
class Ratio:
    name: str
    target: str
    ratios: list
    ours: list  # seconds per operation, slice by slice
    floor: list

    @property
    def median(self):
        return statistics.median(self.ratios)

    def __str__(self):
        return (
            f"{self.name}: {self.median:.2f} ({min(self.ratios):.2f}–{max(self.ratios):.2f}, "
            f"{len(self.ratios)} rounds), target {self.target}; "
            f"{middle(self.ours)} against {middle(self.floor)}"
        )


def middle(slices):
    """The median in words: "3.21 ms", "54.2 s"."""
    seconds = statistics.median(slices)
    return f"{seconds:.1f} s" if seconds >= 1 else f"{seconds * 1000:.2f} ms"


def interleave(name, target, ours, floor, *, rounds=8):
    """Alternate `ours()` and `floor()`, each returning seconds per operation, after one warm-up of both."""
    ours(), floor()
    pairs = [(ours(), floor()) for _ in range(rounds)]
    ratio = Ratio(name, target, [a / b for a, b in pairs], *map(list, zip(*pairs, strict=True)))
    print(ratio, flush=True)
    return ratio


def timed(operation, *, times):
    """Median seconds of `times` calls of `operation(i)`."""
    spent = []
    for i in range(times):
        began = time.perf_counter()
        operation(i)
        spent.append(time.perf_counter() - began)
    return statistics.median(spent)


def describe_machine():
    import django
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        postgres = cursor.fetchone()[0]
    return (
        f"{os.cpu_count()} cores {platform.machine()}, Python {sys.version.split()[0]}, "
        f"Django {django.__version__}, PostgreSQL {postgres}"
    )
