"""What a rule of the books is."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Check:
    invariant: str
    rule: str
    query: str
