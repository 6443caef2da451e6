"""What Stripe's answers mean: a definite yes or no, or no usable answer at all."""

import logging
from datetime import date, timedelta
from functools import wraps

from .base import Answer, Outcome
from .listing import NoAnswer

logger = logging.getLogger(__name__)

NOT_DEFINITE = {408, 409, 425, 429}
ABOUT_OUR_KEY = {401, 403}  # says nothing of the payment: an outage of ours, not a no
UNAVAILABLE = "Stripe gave no usable answer."


class Silence(NoAnswer):
    """No usable answer: whatever was asked may or may not have happened."""


class KeptFailure(Silence):
    """The key answers with the failure of its first use, and will until Stripe forgets it."""


class Refusal(Exception):
    """A definite no. `code` is Stripe's word for it, `object_id` what was made nevertheless."""

    def __init__(self, reason, *, code="", object_id="", state="declined"):
        super().__init__(reason)
        self.code, self.object_id, self.state = code, object_id, state

    @property
    def answer(self):
        return Answer(
            Outcome.NO, reason=str(self)[:200], state=self.state, code=self.code[:60],
            gateway_id=self.object_id,
        )  # fmt: skip


def answering(verb):
    """Turn what `verb` raises into the Answer it means."""

    @wraps(verb)
    def answered(gateway, subject, *args, **kwargs):
        try:
            return verb(gateway, subject, *args, **kwargs)
        except Silence as silence:
            logger.warning("%s of %s: %s", verb.__name__, subject, silence)
            return Answer(Outcome.UNKNOWN, reason=str(silence)[:200])
        except Refusal as refusal:
            logger.info("%s of %s: %s (%s)", verb.__name__, subject, refusal, refusal.code)
            return refusal.answer

    return answered


AUTHENTICATION = {
    "authentication_required",
    "invoice_payment_intent_requires_action",
    "payment_intent_authentication_failure",
}


def meaning_of(error):
    """The Silence or Refusal an error of the SDK means."""
    status, said = error.http_status, (error.json_body or {})
    said = said.get("error", {}) if isinstance(said, dict) else {}
    replayed = (error.headers or {}).get("idempotent-replayed") == "true"
    if status is not None and status >= 500 and replayed:
        return KeptFailure(f"{UNAVAILABLE} (kept {status})")
    if status in ABOUT_OUR_KEY:
        logger.error("Stripe refuses our key: %s", said.get("code") or status)
        return Silence("Stripe does not accept the key of this deployment.")
    is_definite = status is not None and 400 <= status < 500 and status not in NOT_DEFINITE
    if not is_definite or said.get("type") == "idempotency_error":
        return Silence(f"{UNAVAILABLE} ({status or type(error).__name__})")
    reason, code = words_of(said)
    return Refusal(reason, code=code, object_id=id_of(said.get("payment_intent")) or "")


def words_of(said):
    """`(reason, code)` of an error object of Stripe's, fit to be shown."""
    message = said.get("message") or "It was refused without a reason."
    if said.get("type") != "card_error":
        message = f"Stripe refused it: {message}"
    code = said.get("code") or ""
    return message, said.get("decline_code") or code if code == "card_declined" else code


def id_of(reference):
    """The id of what may have come expanded."""
    return reference["id"] if isinstance(reference, dict) else reference


def differs(total, payment):
    return f"Stripe’s invoice came to {total} instead of {payment.amount}; it was not collected."


def refused(answer, reason):
    """A no that says what the thing is instead."""
    return Answer(
        Outcome.NO, reason=answer.reason or reason, state=answer.state, captured=answer.captured,
        gateway_id=answer.gateway_id,
    )  # fmt: skip


def of_intent(intent):
    """The Answer to what became of a PaymentIntent."""
    status, facts = intent["status"], {"gateway_id": intent["id"]}
    if status == "requires_capture":
        return Answer(Outcome.YES, state="authorised", **facts)
    if status == "succeeded":
        return Answer(Outcome.YES, state="captured", captured=intent["amount_received"], **facts)
    if status == "canceled":
        return Answer(Outcome.YES, state="voided", **facts)
    if status == "requires_action":
        action = (intent["next_action"] or {}).get("redirect_to_url") or {}
        return Answer(
            Outcome.YES, state="action_required", action_url=action.get("url") or "", **facts
        )
    if status == "requires_payment_method":
        reason, code = words_of(intent["last_payment_error"] or {})
        return Answer(Outcome.NO, reason=reason[:200], state="declined", code=code[:60], **facts)
    raise Silence(f"The payment is {status}.")


def paid_in_full(invoice, payment):
    """A paid Stripe Invoice: with our amount, or the money is somewhere an operator has to look."""
    if invoice["amount_paid"] == payment.amount:
        return Answer(
            Outcome.YES, state="captured", captured=payment.amount, gateway_id=invoice["id"]
        )
    raise Silence(f"Stripe took {invoice['amount_paid']} instead of {payment.amount}.")


def of_refund(refund):
    """The Answer to what became of a refund."""
    status, facts = refund["status"], {"gateway_id": refund["id"]}
    if status == "succeeded":
        return Answer(Outcome.YES, state="refunded", captured=refund["amount"], **facts)
    if status in {"failed", "canceled"}:
        reason = refund.get("failure_reason") or status
        return Answer(Outcome.NO, reason=f"The refund failed: {reason}.", state="failed", **facts)
    return Answer(Outcome.YES, state="pending", **facts)


def card_of(known):
    """The facts of a customer's card that we keep; empty where there is none."""
    method = known["invoice_settings"]["default_payment_method"]
    if not method or method.get("customer") is None:  # detached
        return {"payment_method": ""}
    card = method.get("card") or {}
    year, month = card.get("exp_year"), card.get("exp_month")
    return {
        "payment_method": method["id"],
        "brand": (card.get("display_brand") or card.get("brand") or method["type"])[:20],
        "last4": card.get("last4") or "",
        "expires_on": last_day(year, month) if year and month else None,
    }


def last_day(year, month):
    first_of_next = date(year + month // 12, month % 12 + 1, 1)
    return first_of_next - timedelta(days=1)
