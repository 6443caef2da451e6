"""Public ids: a prefix and a KSUID, as in the Chirp API (`app_2wGqVt…`).

A KSUID is 27 base62 characters: four bytes of seconds since 2014-05-13 and sixteen random bytes. It
sorts by the second it was made and cannot be guessed, so it may stand in a URL.
"""

import secrets
import time

from django.db import models

ALPHABET = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
EPOCH = 1_400_000_000
LENGTH = 27


def ksuid():
    number = ((int(time.time()) - EPOCH) << 128) | secrets.randbits(128)
    characters = []
    for _ in range(LENGTH):
        number, digit = divmod(number, 62)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))


def public_id(prefix, *, test=False):
    """A new id such as `ph_…`, or `ph_test_…` for what belongs to a test application."""
    return f"{prefix}_test_{ksuid()}" if test else f"{prefix}_{ksuid()}"


class PublicIdField(models.CharField):
    """A unique, never edited public id that is made when the object is."""

    def __init__(self, prefix, **options):
        self.prefix = prefix
        options |= {
            "max_length": 64,
            "unique": True,
            "editable": False,
            "default": self.make,
        }
        super().__init__(**options)

    def make(self):
        return public_id(self.prefix)

    def deconstruct(self):
        name, path, _, options = super().deconstruct()
        for option in ("max_length", "unique", "editable", "default"):
            options.pop(option, None)
        return name, path, [self.prefix], options
