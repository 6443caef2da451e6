"""The last things done in an organization, as sentences; what was done to many at once is one of them."""

from dataclasses import dataclass, field
from datetime import date, timedelta

from django.urls import reverse

from chirp_dashboard.organizations.models import Activity
from chirp_dashboard.organizations.templatetags.ui import money

from .drawing import long_day
from .models import Order

SHOWN = 10
READ = 200
"""Rows looked at: a purchase of twenty numbers for an application writes forty-one."""
UNPAID = {
    "reminded": "{what} is unpaid: reminder sent",
    "purchases_stopped": "Purchases stopped: {what} is unpaid",
    "suspension_begun": "Everything is suspended: {what} is unpaid",
    "release_begun": "All numbers are released: {what} is unpaid",
    "dunning_held": "No step about {what} before {until}: {reason}",
    "dunning_resumed": "Steps about {what} go on",
    "dunning_ended": "Steps about {what} ended; everything is restored",
}
COLLECTED = {
    "price_change_announced": "Announced a new price: {amount} from {first_day}",
    "price_change_withdrawn": "Withdrew the new price of {amount} from {first_day}: {reason}",
    "payment_begun": "Payment {what} begun",
    "payment_declined": "Payment {what} declined",
    "disputed": "Payment {what} is disputed",
    "refund_begun": "Refund {what} begun: {reason}",
    "refunded": "Refund {what} given back",
    "refund_failed": "Refund {what} failed",
    "line_refunded": "Refunded the line {what}: {reason}",
    "card_changed": "Saved another card",
    "card_removed": "Removed the saved card",
    "calendar_feed_issued": "Made a calendar feed",
    "calendar_feed_revoked": "Withdrew a calendar feed",
    "mail_resent": "Sent a mail once more",
}
ABOUT_MONEY = {"issued", "paid", "credited", *UNPAID, *COLLECTED}
GOOD = {"purchased", "undone", "restored", "paid"}
BAD = {"released", "suspended"}
SENTENCES = (
    {
        "purchased": "Purchased {what}",
        "test_added": "Added the test number {what} to {to}",
        "assigned": "Assigned {what} to {to}",
        "removed": "Removed {what} from {source}",
        "moved": "Moved {what} from {source} to {to}",
        "labelled": "Labelled {what} {label}",
        "locked": "Locked {what} against release",
        "unlocked": "Unlocked {what} for release",
        "releasing": "Scheduled {what} for release after {last_day}",
        "kept": "Cancelled the release of {what}",
        "released": "Released {what}",
        "undone": "Brought back {what}",
        "suspended": "Suspended {what}: rent is unpaid",
        "restored": "Restored {what}",
        "order": "Order {what}: {state}",
        "created": "Created the application {what}",
        "renamed": "Renamed the application {before} to {after}",
        "archived": "Archived the application {what}",
        "webhook_saved": "Saved the webhook of {what}",
        "webhook_removed": "Removed the webhook of {what}",
        "settings_changed": "Changed the settings of the organization",
        "member_added": "Added {what} as {role}",
        "role_changed": "Made {what} {role}",
        "member_removed": "Took {what} out of the organization",
        "issued": "{what} issued: {total}",
        "paid": "Payment of {amount} received",
        "credited": "Credit of {amount} given: {reason}",
        "paused": "Suspended the application {what}: rent is unpaid",
        "resumed": "Restored the application {what}",
    }
    | UNPAID
    | COLLECTED
)
TOLD = ("application", "name", "label", "releases_on", "state", "role", "total", "amount", "reason")
PAGES = {
    "ph_": "numbers:detail",
    "ord_": "numbers:order",
    "inv_": "billing:invoice",
}


@dataclass
class Step:
    """Rows written by one act, the newest first."""

    rows: list = field(default_factory=list)
    is_cut: bool = False

    @property
    def row(self):
        return self.rows[-1]

    @property
    def what(self):
        others = len(self.rows) - 1
        if not others:
            return self.row.subject_name
        return f"{self.row.subject_name} and {'many' if self.is_cut else others} more"


def act(row):
    """What rows of one act have in common: all that their sentence says but the subject."""
    before = tuple(row.before.get(name) for name in ("application", "name"))
    after = tuple(row.after.get(name) for name in TOLD)
    return row.verb, row.actor_name, row.at, before, after


def recent(organization, *, with_money):
    """The last acts, newest first; those about money only for who may see billing."""
    rows = list(Activity.objects.filter(organization=organization).order_by("-id")[:READ])
    released = {(row.subject, row.at) for row in rows if row.verb == "released"}
    steps = {}
    for row in rows:
        asked_at_once = row.verb == "releasing" and (row.subject, row.at) in released
        is_kept_back = row.verb in ABOUT_MONEY and not with_money
        if asked_at_once or is_kept_back or went_well(row):
            continue
        if act(row) in steps or len(steps) < SHOWN:
            steps.setdefault(act(row), Step()).rows.append(row)
    if len(rows) == READ and act(rows[-1]) in steps:
        steps[act(rows[-1])].is_cut = True
    return [draw(step, organization) for step in steps.values()]


def went_well(row):
    """Such an order is told by the numbers it brought."""
    return row.verb == "order" and row.after.get("state") in {Order.State.COMPLETED, *Order.OPEN}


def draw(step, organization):
    row = step.row
    return {
        "text": sentence(step, organization.currency),
        "tone": "good" if row.verb in GOOD else "bad" if row.verb in BAD else "",
        "who": row.actor_name if row.actor_kind != Activity.ActorKind.SYSTEM else "Automatically",
        "at": row.at.astimezone(organization.zone),
        "href": address(row, organization) if len(step.rows) == 1 else "",
    }


def sentence(step, currency):
    row = step.row
    said = {**row.before, **row.after}
    words = {
        "what": step.what,
        "source": row.before.get("application", "an application"),
        "to": row.after.get("application", "an application"),
        "label": f"“{said['label']}”" if said.get("label") else "no more",
        "last_day": last_day(said.get("releases_on")),
        "state": dict(Order.State.choices).get(said.get("state"), "").lower(),
        "before": row.before.get("name", ""),
        "after": row.after.get("name", ""),
        "role": said.get("role", ""),
        "total": money(said.get("total"), currency),
        "amount": money(abs(said.get("amount", 0)), currency),
        "reason": said.get("reason", ""),
        "until": written_day(said.get("until")),
        "first_day": written_day(said.get("applies_from")),
    }
    verb = "test_added" if row.verb == "purchased" and row.after.get("test") else row.verb
    pattern = SENTENCES.get(verb, "{what}: " + row.verb.replace("_", " "))
    return pattern.format(**words)


def written_day(text):
    """A day that was written as ISO text, in words."""
    return long_day(date.fromisoformat(text)) if text else ""


def last_day(releases_on):
    """The day before a release that was written as ISO text: until its end the number works."""
    if not releases_on:
        return "no day"
    return long_day(date.fromisoformat(releases_on) - timedelta(days=1))


def address(row, organization):
    """The page of what it happened to, where it has one."""
    for prefix, view in PAGES.items():
        if row.subject.startswith(prefix):
            return reverse(view, args=[organization.slug, row.subject])
    return ""
