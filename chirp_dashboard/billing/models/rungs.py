"""The ladder: what happens on which day when rent is not paid, as one table (design §8)."""

from dataclasses import dataclass
from datetime import date, timedelta
from enum import Enum


class Act(Enum):
    """What a rung does."""

    REMIND = "remind"
    STOP_PURCHASES = "stop_purchases"
    SUSPEND = "suspend"
    RELEASE = "release"


TITLES = {
    Act.REMIND: "Reminder",
    Act.STOP_PURCHASES: "Purchases stop",
    Act.SUSPEND: "Numbers and applications are suspended",
    Act.RELEASE: "Numbers are released",
}
TITLES_TAKEN = TITLES | {
    Act.REMIND: "Reminder sent",
    Act.STOP_PURCHASES: "Purchases stopped",
    Act.SUSPEND: "Numbers and applications suspended",
    Act.RELEASE: "Numbers released",
}
MEANINGS = {
    Act.REMIND: "",
    Act.STOP_PURCHASES: "Nothing can be purchased or brought back.",
    Act.SUSPEND: "They stop working and cannot be assigned. Rent goes on.",
    Act.RELEASE: "Locked ones too. They can be brought back for 14 days, once what is due is paid.",
}


@dataclass(frozen=True)
class Rung:
    """`day` counts from the day the invoice was due; `mail` announces the rung and all later dates."""

    day: int
    act: Act
    mail: str


RUNGS = (
    Rung(0, Act.REMIND, "dunning_reminder"),
    Rung(1, Act.REMIND, "dunning_reminder"),
    Rung(3, Act.REMIND, "dunning_reminder"),
    Rung(5, Act.REMIND, "dunning_reminder"),
    Rung(7, Act.STOP_PURCHASES, "dunning_purchases_stop"),
    Rung(14, Act.SUSPEND, "dunning_suspended"),
    Rung(30, Act.RELEASE, "dunning_released"),
)
LAST = len(RUNGS) - 1


def interval(rung):
    """How long the rung before `rung` has to have been announced before it is taken."""
    return timedelta(days=RUNGS[rung].day - RUNGS[rung - 1].day)


@dataclass(frozen=True)
class Planned:
    """One rung as the customer sees it: the day it was taken, or the earliest it can be."""

    rung: int
    on: date
    is_taken: bool = False
    is_next: bool = False
    collects: bool = False

    @property
    def act(self):
        return RUNGS[self.rung].act

    @property
    def title(self):
        if self.act is Act.REMIND and self.collects and not self.is_taken:
            return "Reminder; a saved card is tried again"
        return (TITLES_TAKEN if self.is_taken else TITLES)[self.act]

    @property
    def meaning(self):
        return MEANINGS[self.act]

    @property
    def is_reminder(self):
        return self.act is Act.REMIND


def taken(days, *, collects=False):
    """The rungs that were taken on `days`."""
    return [Planned(rung, on, is_taken=True, collects=collects) for rung, on in enumerate(days)]


def coming(after, *, on, collects=False):
    """The rungs after the rung `after`, the first of them planned for the day `on`."""
    first = after + 1
    return [
        Planned(
            rung,
            on + timedelta(days=RUNGS[rung].day - RUNGS[first].day),
            is_next=rung == first,
            collects=collects,
        )
        for rung in range(first, len(RUNGS))
    ]
