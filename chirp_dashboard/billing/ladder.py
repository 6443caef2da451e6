"""Where an organization stands on the ladder of unpaid rent, from what the frame of every page brings."""

from dataclasses import dataclass
from datetime import date

from .models.dunning import plan
from .models.rungs import RUNGS, Act

WARNED_FROM = 1
"""The first rung after which every page says so: the day after it was due."""

SAID = {
    Act.REMIND: "Rent is unpaid",
    Act.STOP_PURCHASES: "Purchases are stopped: rent is unpaid",
    Act.SUSPEND: "Numbers and applications are suspended: rent is unpaid",
    Act.RELEASE: "Numbers were released: rent is unpaid",
}


@dataclass(frozen=True)
class Ladder:
    """The open dunning as people see it; `steps` are its rungs, taken and planned."""

    due_on: date
    held_until: date | None
    steps: list

    @classmethod
    def of(cls, organization, framed, *, on=None):
        """From `framed`, what Membership.objects.framed() says of it; seen on the local date `on`."""
        days = [date.fromisoformat(day) for day in framed["taken_on"]]
        held_until = parsed(framed["held_until"])
        if held_until and on and held_until <= on:
            held_until = None
        return cls(
            due_on=date.fromisoformat(framed["due_on"]),
            held_until=held_until,
            steps=plan(organization, days, next_on=parsed(framed["next_on"]), on=on),
        )

    @property
    def last(self):
        """The last rung that was taken."""
        return [step for step in self.steps if step.is_taken][-1]

    @property
    def is_warning(self):
        """Has it gone far enough to be said on every page?"""
        return self.last.rung >= WARNED_FROM

    @property
    def is_grave(self):
        return self.last.act in {Act.SUSPEND, Act.RELEASE}

    @property
    def is_released(self):
        return self.last.act is Act.RELEASE

    @property
    def said(self):
        return SAID[RUNGS[self.last.rung].act]

    @property
    def consequence(self):
        """The next rung that takes something away; None after the last."""
        return next((s for s in self.steps if not s.is_taken and not s.is_reminder), None)


def parsed(text):
    return date.fromisoformat(text) if text else None
