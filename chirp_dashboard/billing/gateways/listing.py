"""What a gateway has, in our words, for comparing it with what we have."""

from dataclasses import dataclass
from datetime import datetime


class NoAnswer(Exception):
    """The gateway gave no usable answer. The text says so."""


@dataclass(frozen=True)
class Found:
    """One object of a gateway.

    `kind` is payment, refund or customer; `reference` ours, if it carries one; `state` as in Answer;
    `amount` what was asked for and `moved` what was collected or given back, in the minor unit.
    """

    kind: str
    gateway_id: str
    created_at: datetime
    reference: str = ""
    state: str = ""
    amount: int = 0
    moved: int = 0
    currency: str = ""
