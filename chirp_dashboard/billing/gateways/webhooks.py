"""What Stripe sends us: is it from Stripe, and which of our things is it about?

Stripe's SDK is not imported here: it would cost every web process 43 MB, and it takes the signatures
of tomorrow.
"""

import hmac
import json
import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256

from django.conf import settings

TOLERANCE = timedelta(seconds=300)
"""How far the time of a signature may be from ours, to either side."""

WORD = re.compile(r"[A-Za-z0-9_.-]{1,120}", re.ASCII)


class Unverified(Exception):
    """The body was not signed by the gateway just now. The text says why."""


class NotAnEvent(Exception):
    """The body is signed and cannot be read. The text says why."""


@dataclass(frozen=True)
class Notice:
    """One event, in our words.

    It only says what to look at: `kind` is payment, refund, dispute or card, and empty for what nothing
    here depends on; `reference` and `ids` find ours; `customer` whose card it is. What it says of
    amounts and states is never read.
    """

    event_id: str
    type: str
    happened_at: datetime
    object_id: str = ""
    kind: str = ""
    reference: str = ""
    ids: tuple = ()
    customer: str = ""
    livemode: bool = False
    account: str = ""


KINDS = {
    "payment_intent": "payment",
    "charge": "payment",
    "invoice": "payment",
    "refund": "refund",
    "dispute": "dispute",
    "customer": "card",
    "payment_method": "card",
    "setup_intent": "card",
    "checkout.session": "card",
}


def verify(body, header, *, secrets, at):
    """Is `body` (bytes) signed with one of `secrets`, at about `at`? Raises Unverified."""
    if not header:
        raise Unverified("The signature is missing.")
    signed_at, signatures = _parts(header)
    message = b"%d.%s" % (signed_at, body)
    expected = [hmac.new(secret.encode(), message, sha256).hexdigest() for secret in secrets]
    matches = [
        hmac.compare_digest(ours, theirs.encode("ascii", "replace").decode())
        for ours in expected
        for theirs in signatures
    ]
    if not any(matches):
        raise Unverified("The signature is not of this body and this secret.")
    if abs(at.timestamp() - signed_at) > TOLERANCE.total_seconds():
        raise Unverified("The signature is not of this moment; check the clocks.")


def _parts(header):
    """When it was signed, and every signature of the scheme we know."""
    pairs = [part.strip().partition("=")[::2] for part in header.split(",")]
    times = [value for name, value in pairs if name == "t"]
    if len(times) != 1 or not re.fullmatch(r"[0-9]{1,12}", times[0], re.ASCII):
        raise Unverified("The signature cannot be read.")
    return int(times[0]), [value for name, value in pairs if name == "v1"]


def read(body):
    """The Notice in `body` (bytes). Raises NotAnEvent."""
    try:
        event = json.loads(body.decode())
    except (ValueError, RecursionError):
        raise NotAnEvent("The body is not JSON.") from None
    if not isinstance(event, dict) or event.get("object") != "event":
        raise NotAnEvent("The body is not an event.")
    subject = _inside(event, "data", "object")
    kind = KINDS.get(_text(subject, "object"), "")
    return Notice(
        event_id=_needed(event, "id"),
        type=_needed(event, "type"),
        happened_at=_moment(event),
        object_id=_word(subject, "id"),
        kind=kind,
        reference=_word(_inside(subject, "metadata"), "reference"),
        ids=tuple(filter(None, _ids(subject))),
        customer=_customer(event, subject),
        livemode=event.get("livemode") is True,
        account=_word(event, "account"),
    )


def _ids(subject):
    """What the gateway calls the object, and the payment a charge, a refund or a dispute is of."""
    return (_word(subject, "id"), _word(subject, "payment_intent"), _word(subject, "charge"))


def _customer(event, subject):
    """Whose object it is; a card that was taken away says only whose it was."""
    if subject.get("object") == "customer":
        return _word(subject, "id")
    before = _inside(event, "data", "previous_attributes")
    return _word(subject, "customer") or _word(before, "customer")


def _inside(thing, *names):
    for name in names:
        thing = thing.get(name)
        if not isinstance(thing, dict):
            return {}
    return thing


def _text(thing, name):
    value = thing.get(name)
    return value if isinstance(value, str) else ""


def _word(thing, name):
    """An id or reference, which may come expanded to the whole object; empty for anything else."""
    value = _text(_inside(thing, name), "id") or _text(thing, name)
    return value if WORD.fullmatch(value) else ""


def _needed(event, name):
    if not (value := _word(event, name)):
        raise NotAnEvent(f"The event has no {name}.")
    return value


def _moment(event):
    """When it happened."""
    created = event.get("created")
    if type(created) is not int or not 0 < created < 10**11:
        raise NotAnEvent("The event does not say when it happened.")
    return datetime.fromtimestamp(created, UTC)


class StripeWebhooks:
    """The part of the Stripe gateway that hears of events; the inbox stores and works them."""

    name = "stripe"

    def verify(self, body, header, *, at):
        """Is `body` (bytes) from Stripe and of this moment? Raises Unverified."""
        verify(body, header, secrets=settings.STRIPE_WEBHOOK_SECRETS, at=at)

    def read(self, body):
        """The Notice in `body` (bytes). Raises NotAnEvent."""
        return read(body)

    def reason_to_ignore(self, notice):
        """Why nothing here depends on `notice`; empty when it is to be worked."""
        live = settings.STRIPE_SECRET_KEY.startswith(("sk_live_", "rk_live_"))
        if notice.livemode != live:
            sent, ours = ("live", "test") if notice.livemode else ("test", "live")
            return f"It is of {sent} mode and this deployment uses {ours} mode."
        if notice.account:
            return f"It is of another account, {notice.account}."
        if not notice.kind:
            return f"Nothing here depends on {notice.type}."
        return ""
