"""The history of a number in sentences, newest first, never trimmed."""

from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.urls import reverse

from chirp_dashboard.organizations.models import Activity

from .drawing import long_day

PAGE_SIZE = 20
GOOD = {"purchased", "assigned", "undone", "kept", "restored"}
BAD = {"released", "suspended"}
PLAIN = {
    "locked": "Release lock switched on",
    "unlocked": "Release lock switched off",
    "kept": "Release cancelled; the number is kept",
    "suspended": "Suspended, because rent is unpaid",
    "restored": "Works again, because rent was paid",
    "line_refunded": "Refunded, because it never worked",
}


def purchased(before, after):
    if not after.get("test"):
        return "Purchased"
    return f"Added as a test number of {after.get('application', 'an application')}"


def assigned(before, after):
    return f"Assigned to {after.get('application', 'an application')}"


def removed(before, after):
    return f"Removed from {before.get('application', 'an application')}"


def moved(before, after):
    return f"Moved from {before['application']} to {after['application']}"


def labelled(before, after):
    old, new = before.get("label"), after.get("label")
    if not new:
        return f"Label “{old}” taken away"
    return f"Label changed from “{old}” to “{new}”" if old else f"Labelled “{new}”"


def releasing(before, after):
    last_day = date.fromisoformat(after["releases_on"]) - timedelta(days=1)
    return f"Release asked for; it works until the end of {long_day(last_day)}"


def released(before, after):
    text = "Released, because rent is unpaid" if after.get("because") == "unpaid" else "Released"
    ended = after.get("assignments_ended")
    if not ended:
        return text
    return f"{text}; {ended} assignment{'' if ended == 1 else 's'} ended"


def undone(before, after):
    restored, lost = after.get("restored"), after.get("not_restored")
    text = "Release undone"
    if restored:
        text += f"; back in {listed(restored)}"
    if lost:
        text += f"; not back in {listed(lost)}, which {'is' if len(lost) == 1 else 'are'} archived"
    return text


SENTENCES = {
    write.__name__: write
    for write in (purchased, assigned, removed, moved, labelled, releasing, released, undone)
}


def listed(names):
    """ "a, b and c"."""
    return " and ".join(filter(None, [", ".join(names[:-1]), *names[-1:]]))


def sentence(activity):
    """What was done, as a person would say it; verbs of a later version at least by their name."""
    if activity.verb in PLAIN:
        return PLAIN[activity.verb]
    write = SENTENCES.get(activity.verb)
    if write is None:
        return activity.verb.replace("_", " ").capitalize()
    return write(activity.before, activity.after)


@dataclass(frozen=True)
class Entry:
    text: str
    tone: str
    who: str
    at: datetime
    href: str = ""

    @property
    def moment(self):
        return f"{long_day(self.at)}, {self.at:%H:%M:%S %Z}"


class Timeline:
    """One page of what happened to `subject`; `before` is the id the page begins under."""

    def __init__(self, number, *, before=""):
        self.number = number
        self.before = (
            int(before) if before.isascii() and before.isdigit() and len(before) < 19 else None
        )
        rows = Activity.objects.filter(
            organization=number.organization, subject=number.public_id
        ).order_by("-id")
        if self.before is not None:
            rows = rows.filter(id__lt=self.before)
        found = list(rows[: PAGE_SIZE + 1])
        self.rows = found[:PAGE_SIZE]
        self.older = self.rows[-1].pk if len(found) > PAGE_SIZE else None

    @property
    def path(self):
        return reverse(
            "numbers:detail", args=[self.number.organization.slug, self.number.public_id]
        )

    @property
    def entries(self):
        zone = self.number.organization.zone
        return [
            Entry(
                text=sentence(row),
                tone="good" if row.verb in GOOD else "bad" if row.verb in BAD else "",
                who=row.actor_name
                if row.actor_kind == Activity.ActorKind.PERSON
                else self.system(row),
                at=row.at.astimezone(zone),
                href=self.order(row),
            )
            for row in self.rows
        ]

    @staticmethod
    def system(row):
        return f"{row.actor_name} (automatically)" if row.actor_name else "Automatically"

    def order(self, row):
        order = row.after.get("order") if row.verb == "purchased" else None
        if not order:
            return ""
        return reverse("numbers:order", args=[self.number.organization.slug, order])
