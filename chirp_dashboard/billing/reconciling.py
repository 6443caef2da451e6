"""Comparing our payments, refunds and customers with what a gateway has, both ways.

Webhooks may be lost; this could rebuild everything they would have said. What it mends is only what
asking again would write, and authorisations that nobody will use. Money that one side has and the other
has not is never booked or moved here: an operator hears of it.
"""

import hashlib
import logging
from collections import Counter, defaultdict
from dataclasses import asdict, dataclass
from datetime import timedelta

from django.db import transaction
from django.db.models import Q

from chirp_dashboard.organizations.models import Mail
from chirp_dashboard.organizations.templatetags.ui import money

from .gateways.listing import NoAnswer
from .models import Customer, Payment, Reconciliation, Refund, Standing
from .models.customers import GatewaySilent
from .models.payments import WINDOW

logger = logging.getLogger(__name__)

DAYS = timedelta(days=35)
"""How far back a comparison goes when nobody says."""

GRACE = timedelta(minutes=15)
"""What is younger than this is still on its way between the two sides."""


# What a difference is; the first ones are safe to repair.
BEHIND = "Known there, not yet here"
DANGLING = "Authorised there for nothing"
CUSTOMER_GONE = "The customer is gone there"
DIFFERENT = "The amounts differ"
MISSING = "Held here, not there"
OVERDUE = "Authorised past its window"
ALONE_THERE = "Money there without a payment here"
TWICE = "Two for one reference"
BY_HAND = "Given back there by hand"
NOT_GIVEN_BACK = "Given back here, not there"
GIVEN_BACK = "Given back there, failed here"
CUSTOMER_UNKNOWN = "A customer of nobody here"
EMPTY = "Nothing came, though there must be something"
UNFINISHED = "Not finished"

HOLDING = {"authorised", "captured", "refunded"}
TO_LOOK_AT = "An operator has to look."


@dataclass
class Difference:
    """One thing the two sides do not agree on, in words, and what was done about it."""

    kind: str
    reference: str
    ours: str
    theirs: str
    done: str = TO_LOOK_AT
    repaired: bool = False

    def __str__(self):
        return (
            f"{self.kind}: {self.reference}. Here: {self.ours}. There: {self.theirs}. {self.done}"
        )


def reconcile(gateway, *, at, since=None, repair=False):
    """Compare everything since `since` with what `gateway` has; returns the Reconciliation.

    A gateway that falls silent leaves it unfinished, and one that shows nothing where there must be
    something changes nothing. Calls the gateway, so call it outside every transaction.
    """
    record = Reconciliation.objects.create(gateway=gateway.name, started_at=at)
    comparison = Comparison(gateway, since=since or at - DAYS, at=at)
    try:
        comparison.compare()
        if repair and not comparison.is_empty_handed:
            comparison.repair()
        record.finished_at = at
    except NoAnswer as silence:
        comparison.found(UNFINISHED, gateway.name, theirs=str(silence), done="Run it again.")
    record.compared = comparison.compared
    record.differences = [asdict(difference) for difference in comparison.differences]
    record.repaired = sum(difference.repaired for difference in comparison.differences)
    with transaction.atomic():
        record.save(update_fields=["finished_at", "compared", "differences", "repaired"])
        alarm(record, comparison.left, at=at)
    return record


def alarm(record, left, *, at):
    """Tell the operator of what is left: the same differences once a month, a gateway's failure daily."""
    if not left:
        return
    failed = any(each.kind in {UNFINISHED, EMPTY} for each in left)
    seen = "\n".join(sorted(f"{each.kind} {each.reference}" for each in left))
    digest = hashlib.sha256(seen.encode()).hexdigest()[:32]
    key = f"reconcile-{record.gateway}-{at:{'%Y-%m-%d' if failed else '%Y-%m'}}-{digest}"
    Mail.objects.alarm("reconcile_alarm", key=key, at=at, record=record, left=left)


class Comparison:
    """One pass over both sides. Read theirs first: what moves meanwhile is looked at twice."""

    def __init__(self, gateway, *, since, at):
        self.gateway, self.since, self.at = gateway, since, at
        self.differences, self.mends, self.compared = [], [], 0

    @property
    def left(self):
        return [difference for difference in self.differences if not difference.repaired]

    @property
    def is_empty_handed(self):
        return any(difference.kind == EMPTY for difference in self.differences)

    def found(
        self, kind, reference, *, ours="nothing", theirs="nothing", done=TO_LOOK_AT, mend=None
    ):
        difference = Difference(kind, reference, ours, theirs, done)
        self.differences.append(difference)
        if mend:
            difference.done = "It can be repaired."
            self.mends.append((difference, mend))

    def is_settled(self, thing):
        return thing.created_at <= self.at - GRACE

    # Reading ----------------------------------------------------------------------------------

    def compare(self):
        theirs = defaultdict(list)
        for found in self.gateway.everything(since=self.since - timedelta(days=1)):
            theirs[found.kind].append(found)
        self.compared = sum(map(len, theirs.values()))
        self.compare_kind(
            theirs["payment"], self.ours(Payment, theirs["payment"]), judge_payment, ALONE_THERE
        )
        self.compare_kind(
            theirs["refund"], self.ours(Refund, theirs["refund"]), judge_refund, BY_HAND
        )
        self.compare_customers(theirs["customer"])

    def ours(self, model, theirs):
        """Our rows since `since`, and those that theirs are about however old they are."""
        gateway = "gateway" if model is Payment else "payment__gateway"
        about = Q(created_at__gte=self.since)
        about |= Q(reference__in={found.reference for found in theirs if found.reference})
        about |= Q(gateway_id__in={found.gateway_id for found in theirs})
        return list(model.objects.filter(about, **{gateway: self.gateway.name}).order_by("id"))

    def shows_nothing(self, theirs, expected, what):
        """Is the answer empty while `expected` of ours must be there? Then nothing can be said."""
        if theirs or not expected:
            return False
        self.found(EMPTY, what, ours=f"{expected} since {self.since:%d %b %Y}")
        return True

    # Payments and refunds ---------------------------------------------------------------------

    def compare_kind(self, theirs, ours, judge, alone_there):
        expected = [row for row in ours if row.state in HOLDING and self.is_settled(row)]
        if self.shows_nothing(theirs, len(expected), alone_there):
            return
        by_id = {found.gateway_id: found for found in theirs}
        by_reference = defaultdict(list)
        for found in theirs:
            by_reference[found.reference].append(found)
        known = set()
        for row in ours:
            named = by_reference[row.reference] or [by_id.get(row.gateway_id)]
            known.update(found.gateway_id for found in named if found)
            if self.is_settled(row):
                self.compare_pair(row, self.the_one(row, named), judge)
        for found in theirs:
            is_money = found.state in HOLDING or (
                found.kind == "refund" and found.state != "failed"
            )
            if found.gateway_id not in known and is_money and self.is_settled(found):
                self.found(alone_there, found.reference or found.gateway_id, theirs=in_words(found))

    def the_one(self, row, named):
        """What counts of the objects with one reference; where two hold money, somebody must look."""
        holding = [found for found in named if found and found.state in HOLDING]
        if len(holding) > 1:
            theirs = " and ".join(map(in_words, holding))
            self.found(TWICE, holding[0].reference, ours="one effect was asked for", theirs=theirs)
        ours = [found for found in holding if found.gateway_id == row.gateway_id]
        return (ours or holding or named)[0]

    def compare_pair(self, row, found, judge):
        """Report a difference that is still there when both sides are read once more."""
        if not judge(row, found, at=self.at):
            return
        row.refresh_from_db()
        found = self.read_again(row, found)
        if kind := judge(row, found, at=self.at):
            mend = MENDS.get(kind)
            self.found(
                kind, row.public_id, ours=f"{row.state} {sum_of(row)}", theirs=in_words(found),
                mend=mend and (lambda: self.mend(mend, row, found, judge)),
            )  # fmt: skip

    def read_again(self, row, found):
        name = found.gateway_id if found else row.gateway_id
        return self.gateway.read_one(name) if name else None

    # Customers --------------------------------------------------------------------------------

    def compare_customers(self, theirs):
        ours = Customer.objects.filter(gateway=self.gateway.name).exclude(gateway_id="")
        ours = {row.gateway_id: row for row in ours if self.is_settled(row)}
        if self.shows_nothing(theirs, len(ours), "customers"):
            return
        there = {found.gateway_id for found in theirs}
        for name, row in ours.items():
            if name not in there:
                self.found(
                    CUSTOMER_GONE, name, ours=f"{row.organization.name} pays with it",
                    mend=lambda row=row: forget(row),
                )  # fmt: skip
        named = Counter(found.reference for found in theirs if found.reference)
        for found in theirs:
            if found.gateway_id in ours or not found.reference or not self.is_settled(found):
                continue
            kind = TWICE if named[found.reference] > 1 else CUSTOMER_UNKNOWN
            self.found(kind, found.reference, theirs=found.gateway_id)

    # Repairing --------------------------------------------------------------------------------

    def repair(self):
        """Mend what is safe, each on its own; one that cannot be keeps no other one waiting."""
        for difference, mend in self.mends:
            try:
                difference.repaired = mend()
            except NoAnswer:
                raise
            except Exception as failure:
                logger.exception("%s could not be repaired", difference.reference)
                difference.done = f"It could not be repaired: {type(failure).__name__}."
            else:
                difference.done = "Repaired." if difference.repaired else TO_LOOK_AT

    def mend(self, mend, row, found, judge):
        """Mend and look: did that take the difference away?"""
        mend(self, row)
        row.refresh_from_db()
        return not judge(row, self.read_again(row, found), at=self.at)

    def look(self, row):
        row.look_again(at=self.at)

    def void(self, payment):
        """Let go of an authorisation that no order will use."""
        answer = self.gateway.void(payment)
        with transaction.atomic():
            Standing.lock(payment.organization)
            payment.refresh_from_db()
            if answer.state == "voided" and payment.state in Payment.IN_FLIGHT:
                payment.move(Payment.State.VOIDED, at=self.at, detail="its order is settled")


MENDS = {BEHIND: Comparison.look, DANGLING: Comparison.void}


def judge_payment(payment, found, *, at):
    """Which kind of difference there is to what the gateway has of it (None: nothing), or ""."""
    state = found.state if found else "missing"
    if state in HOLDING and (found.amount, found.currency) != (payment.amount, payment.currency):
        return DIFFERENT
    if state == "captured":
        return judge_captured(payment, found)
    if state == "authorised":
        return judge_authorised(payment, at=at)
    if payment.state == Payment.State.CAPTURED:
        return MISSING
    is_ended = state in {"voided", "declined"}
    if payment.state == Payment.State.AUTHORISED:
        return BEHIND if is_ended else MISSING
    return BEHIND if is_ended and payment.is_waiting else ""


def judge_captured(payment, found):
    if not 0 < found.moved <= payment.amount:
        return DIFFERENT
    if payment.state == Payment.State.CAPTURED:
        return DIFFERENT if payment.captured != found.moved else ""
    return BEHIND


def judge_authorised(payment, *, at):
    if payment.state == Payment.State.CAPTURED:
        return MISSING
    is_used = payment.state in Payment.IN_FLIGHT
    if not is_used or (payment.order and payment.order.settled_at):
        return DANGLING
    if payment.is_waiting:
        return BEHIND
    return OVERDUE if payment.created_at <= at - WINDOW else ""


def judge_refund(refund, found, *, at):
    """Which kind of difference there is to what the gateway has of it (None: nothing), or ""."""
    state = found.state if found else "missing"
    if state == "refunded":
        if (found.moved, found.currency) != (refund.amount, refund.currency):
            return DIFFERENT
        if refund.state == Refund.State.FAILED:
            return GIVEN_BACK
        return BEHIND if refund.is_waiting else ""
    if state == "failed":
        return "" if refund.state == Refund.State.FAILED else BEHIND
    return NOT_GIVEN_BACK if state == "missing" and refund.state == Refund.State.REFUNDED else ""


def forget(customer):
    """Read the card of a customer who is gone: the next one who pays makes another."""
    try:
        customer.refresh()
    except GatewaySilent as silence:
        raise NoAnswer(str(silence)) from silence
    customer.refresh_from_db()
    return not customer.gateway_id


def sum_of(row):
    """What moved, else what was asked for."""
    return money(getattr(row, "captured", 0) or row.amount, row.currency)


def in_words(found):
    if found is None:
        return "nothing"
    moved = money(found.moved or found.amount, found.currency)
    return f"{found.gateway_id} {found.state} {moved}"
