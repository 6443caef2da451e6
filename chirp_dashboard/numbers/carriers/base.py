"""Carriers: where numbers come from. The stock carrier is the first; others follow this interface."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a carrier answered about one line. There is no fifth answer."""

    YES = "yes"  # ours
    NO = "no"  # definitely not, and never will be by this request
    PENDING = "pending"  # accepted, not there yet
    UNKNOWN = "unknown"  # no usable answer: look it up by our reference before anything is repeated


@dataclass(frozen=True)
class Answer:
    outcome: Outcome
    reason: str = ""


class Carrier:
    """One source of numbers. Nothing here opens a transaction; only `is_local` ones run inside one.

    `order`, `look_up` and `release` may use the network and are called outside every transaction,
    with an OrderLine (or PhoneNumber) whose public id is our reference.
    """

    name = ""
    is_local = (
        False  # its stock is in our own database, so claiming and delivering is one transaction
    )
    can_hold = False

    def claim(self, numbers, *, at):
        """Lock `(country, number)` pairs that are about to be held or purchased, in the caller's transaction.

        Returns `{key: number}` of those that are for sale and `{key: why not}` of the others.
        """
        raise NotImplementedError

    def priced(self, organization, numbers, *, on):
        """Those of the claimed `numbers` that have a price, as offers.

        An offer has the facts of a number and `carrier`, `purchase_fee`, `rental`,
        `interval_months`, `currency`.
        """
        raise NotImplementedError

    def set_aside(self, lines):
        """Turn what was claimed for `lines` into claims without expiry, in the caller's transaction."""

    def let_go(self, lines):
        """Free the claims of lines that will not be delivered. Runs inside the caller's transaction."""

    def release(self, phone_number, *, at):
        """Take back a released number, kept aside for undo where the carrier can."""
        raise NotImplementedError

    def release_all(self, phone_numbers, *, at):
        """Take back many released numbers (a queryset)."""
        for phone_number in phone_numbers:
            self.release(phone_number, at=at)

    def take_back(self, phone_number, *, at):
        """Give a released number to its last owner again; raises Refused when it is gone."""
        raise NotImplementedError
