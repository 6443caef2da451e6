"""Everything Stripe has, page by page."""

from datetime import UTC, datetime

from .listing import Found
from .stripe_answers import Refusal

PAGE = 100

INTENT_STATES = {
    "requires_capture": "authorised",
    "succeeded": "captured",
    "canceled": "voided",
    "requires_action": "action_required",
    "requires_payment_method": "declined",
}
INVOICE_STATES = {"paid": "captured", "void": "voided", "uncollectible": "voided"}
REFUND_STATES = {"succeeded": "refunded", "failed": "failed", "canceled": "failed"}


class StripeListing:
    """The part of the Stripe gateway that reads whole lists."""

    def everything(self, *, since):
        """Every payment and refund made since `since`, and every customer. Raises NoAnswer."""
        made_since = {"created": {"gte": int(since.timestamp())}}
        of_invoices = {
            _id(payment["payment"].get("payment_intent"))
            for payment in self._every(self.api.invoice_payments, made_since)
        }
        for intent in self._every(self.api.payment_intents, made_since):
            if intent["id"] not in of_invoices:
                yield _intent(intent)
        for invoice in self._every(self.api.invoices, made_since):
            yield _invoice(invoice)
        for refund in self._every(self.api.refunds, made_since):
            yield _refund(refund)
        for customer in self._every(self.api.customers, {}):
            yield _found("customer", customer)

    def _every(self, service, filters):
        params = filters | {"limit": PAGE}
        while True:
            page = self.ask(service.list, params)
            yield from page["data"]
            if not page["has_more"]:
                return
            params = params | {"starting_after": page["data"][-1]["id"]}

    def read_one(self, gateway_id):
        """One payment or refund as Stripe has it now, or None. Raises NoAnswer."""
        service, found = {
            "pi": (self.api.payment_intents, _intent),
            "in": (self.api.invoices, _invoice),
        }.get(gateway_id.partition("_")[0], (self.api.refunds, _refund))
        try:
            return found(self.ask(service.retrieve, gateway_id))
        except Refusal as refusal:
            if refusal.code == "resource_missing":
                return None
            raise

    def invoices_paid_by(self, ids):
        """The Stripe Invoices that the intents among `ids` paid. Raises NoAnswer."""
        for intent in ids:
            if intent.startswith("pi_"):
                payment = {"type": "payment_intent", "payment_intent": intent}
                for paid in self._every(self.api.invoice_payments, {"payment": payment}):
                    yield _id(paid["invoice"])


def _intent(intent):
    state = INTENT_STATES.get(intent["status"], "pending")
    return _found("payment", intent, state=state, moved=intent["amount_received"])


def _invoice(invoice):
    state = INVOICE_STATES.get(invoice["status"], "pending")
    return _found(
        "payment", invoice, state=state, amount=invoice["total"],
        moved=invoice["amount_paid"] if state == "captured" else 0,
    )  # fmt: skip


def _refund(refund):
    state = REFUND_STATES.get(refund["status"], "pending")
    moved = refund["amount"] if state == "refunded" else 0
    return _found("refund", refund, state=state, moved=moved)


def _found(kind, known, **facts):
    return Found(
        kind=kind,
        gateway_id=known["id"],
        created_at=datetime.fromtimestamp(known["created"], UTC),
        reference=(known.get("metadata") or {}).get("reference") or "",
        **{"amount": known.get("amount") or 0} | facts,
        currency=(known.get("currency") or "").upper(),
    )


def _id(reference):
    """The id of what may have come expanded; empty for nothing."""
    return (reference["id"] if isinstance(reference, dict) else reference) or ""
