"""Stripe: purchases by PaymentIntent, invoices by Stripe Invoice, cards through Checkout and the Portal.

The only module that imports `stripe`, and only when something is asked: the import costs 0.3 s and 43 MB.
Every call either comes back with an object or raises Silence (no usable answer: look it up by our
reference) or Refusal (a definite no). A repeat of a call has the same idempotency key and one effect.
"""

import logging
import random
import time
from datetime import timedelta
from functools import cached_property, lru_cache

from django.conf import settings
from django.urls import reverse
from django.utils import timezone

from .base import Answer, Gateway, Outcome
from .stripe_answers import (
    AUTHENTICATION,
    NOT_DEFINITE,
    UNAVAILABLE,
    KeptFailure,
    Refusal,
    Silence,
    answering,
    card_of,
    differs,
    id_of,
    meaning_of,
    of_intent,
    of_refund,
    paid_in_full,
    refused,
    words_of,
)
from .stripe_lines import SumsDiffer, lines_of
from .stripe_listing import StripeListing
from .webhooks import StripeWebhooks

logger = logging.getLogger(__name__)

API_VERSION = "2026-10-28.endive"
CONNECT_SECONDS, ANSWER_SECONDS = 3, 15
TRIES = 3
KEYS = 5  # for one step, each after the one before was seen to answer with a kept failure
RETRY_WITHIN = 5  # seconds from the first try, so that even the last one ends within 20
PAGE = 100
CLOCKS_DIFFER = timedelta(days=1)
KEYS_KEPT = timedelta(hours=20)  # Stripe keeps them for 24

# docs.stripe.com/currencies, minimum charge amounts, in the minor unit
MINIMUM = {
    "AED": 200, "AUD": 50, "BGN": 100, "BRL": 50, "CAD": 50, "CHF": 50, "CZK": 1500, "DKK": 250,
    "EUR": 50, "GBP": 30, "HKD": 400, "HUF": 17500, "INR": 50, "JPY": 50, "MXN": 1000, "MYR": 200,
    "NOK": 300, "NZD": 50, "PLN": 200, "RON": 200, "SEK": 300, "SGD": 50, "THB": 1000, "USD": 50,
}  # fmt: skip
OTHER_MINIMUM = 100
# Stripe counts these in another unit than ISO 4217, or takes only round amounts of them.
COUNTED_DIFFERENTLY = {"BHD", "ISK", "JOD", "KWD", "OMR", "TND", "UGX"}


@lru_cache(maxsize=4)
def client_of(secret_key, api_base, timeout):
    import stripe

    stripe.enable_telemetry = False
    return stripe.StripeClient(
        secret_key,
        stripe_version=API_VERSION,
        base_addresses={"api": api_base} if api_base else None,
        http_client=stripe.RequestsClient(timeout=timeout),
        max_network_retries=0,
    )


class StripeGateway(StripeWebhooks, StripeListing, Gateway):
    name = "stripe"
    words = "By card, through Stripe"
    collects_orders = True
    collects_invoices = True
    saves_cards = True
    timeout = (CONNECT_SECONDS, ANSWER_SECONDS)

    # Purchases ---------------------------------------------------------------------------------

    @answering
    def authorise(self, payment):
        customer = self._payer(payment)
        if payment.tries and (known := self._find_intent(payment)):
            return of_intent(known)
        intent = self._once(
            lambda: self._find_intent(payment),
            self.api.payment_intents.create,
            {
                "amount": payment.amount,
                "currency": payment.currency.lower(),
                "customer": customer.gateway_id,
                "payment_method": customer.payment_method,
                "allowed_payment_method_types": ["card"],
                "capture_method": "manual",
                "confirm": True,
                "return_url": return_url(payment),
                "metadata": metadata_of(payment),
            },
            key=key_of(payment, "authorise"),
        )
        return of_intent(intent)

    @answering
    def capture(self, payment, amount):
        intent = self._intent_id(payment)

        def captured():
            known = self.ask(self.api.payment_intents.retrieve, intent)
            return known if known["status"] == "succeeded" else None

        try:
            known = self._once(
                captured,
                self.api.payment_intents.capture,
                intent,
                {"amount_to_capture": amount},
                key=key_of(payment, f"capture-{amount}"),
            )
        except Refusal as refusal:
            known = self._still(intent, refusal)
        answer = of_intent(known)
        if answer.state == "captured" and answer.captured == amount:
            return answer
        return refused(answer, f"It is {answer.state or 'not captured'}.")

    def void(self, payment):
        if payment.invoice_id:
            return self._void_invoice(payment)
        return self._cancel_intent(payment)

    @answering
    def _cancel_intent(self, payment):
        intent = self._intent_id(payment)

        def cancelled():
            known = self.ask(self.api.payment_intents.retrieve, intent)
            return known if known["status"] == "canceled" else None

        try:
            known = self._once(
                cancelled, self.api.payment_intents.cancel, intent, key=key_of(payment, "void")
            )
        except Refusal as refusal:
            known = self._still(intent, refusal)
        answer = of_intent(known)
        return answer if answer.state == "voided" else refused(answer, f"It is {answer.state}.")

    @answering
    def look_up(self, payment):
        if payment.invoice_id:
            return self._of_invoice(self._find_invoice(payment), payment)
        known = self._find_intent(payment)
        return of_intent(known) if known else Answer(Outcome.YES, state="missing")

    def _intent_id(self, payment):
        if payment.gateway_id:
            return payment.gateway_id
        if known := self._find_intent(payment):
            return known["id"]
        raise Refusal("Nothing was authorised.", state="missing")

    def _find_intent(self, payment):
        if payment.gateway_id:
            return self.ask(self.api.payment_intents.retrieve, payment.gateway_id)
        return self._find(self.api.payment_intents, payment)

    def _still(self, intent, refusal):
        """The intent after a refusal, which may only mean that it was done before."""
        if refusal.state == "missing":
            raise refusal
        return self.ask(self.api.payment_intents.retrieve, intent)

    # Invoices ----------------------------------------------------------------------------------

    @answering
    def collect(self, payment):
        """Create, fill, finalise and pay one Stripe Invoice; each step finds what was done before."""
        try:
            self._payer(payment)
        except Refusal as refusal:
            raise self._without_payer(payment, refusal) from refusal
        invoice = self._find_invoice(payment) or self._create_invoice(payment)
        if invoice["status"] == "draft":
            invoice = self._fill(invoice, payment)
            invoice = self._finalise(invoice, payment)
        if invoice["status"] == "open":
            self._check_total(invoice, payment)
            if not invoice["attempted"]:
                invoice = self._pay(invoice, payment)
        return self._of_invoice(invoice, payment)

    def _without_payer(self, payment, refusal):
        """The Refusal; what an earlier try began is taken away, so that nobody can pay it at Stripe."""
        begun = self._find_invoice(payment) if payment.tries else None
        if begun is None or begun.get("deleted"):
            return refusal
        return self._given_up(begun, payment, str(refusal), refusal.code)

    def _create_invoice(self, payment):
        customer = self._payer(payment)
        return self._once(
            lambda: self._find_invoice(payment),
            self.api.invoices.create,
            {
                "customer": customer.gateway_id,
                "currency": payment.currency.lower(),
                "default_payment_method": customer.payment_method,
                "auto_advance": False,
                "collection_method": "charge_automatically",
                "pending_invoice_items_behavior": "exclude",
                "description": payment.invoice.title,
                "metadata": metadata_of(payment) | {"invoice": payment.invoice.public_id},
            },
            key=key_of(payment, "invoice"),
        )

    def _fill(self, invoice, payment):
        if invoice["total"] == payment.amount:  # filled before the answer was lost
            return invoice
        if invoice["total"] or invoice["lines"]["data"]:
            raise self._given_up(invoice, payment, differs(invoice["total"], payment))
        try:
            lines = lines_of(payment)
        except SumsDiffer as difference:
            raise self._given_up(invoice, payment, str(difference)) from None

        def filled():
            known = self.ask(self.api.invoices.retrieve, invoice["id"])
            return known if known["lines"]["data"] else None

        try:
            return self._once(
                filled, self.api.invoices.add_lines, invoice["id"], {"lines": lines},
                key=key_of(payment, "lines"),
            )  # fmt: skip
        except Refusal as refusal:
            raise self._given_up(invoice, payment, str(refusal), refusal.code) from refusal

    def _finalise(self, invoice, payment):
        def finalised():
            known = self.ask(self.api.invoices.retrieve, invoice["id"])
            return known if known["status"] != "draft" else None

        try:
            return self._once(
                finalised, self.api.invoices.finalize_invoice, invoice["id"],
                {"auto_advance": False}, key=key_of(payment, "finalise"),
            )  # fmt: skip
        except Refusal as refusal:
            if known := finalised():
                return known
            raise self._given_up(invoice, payment, str(refusal), refusal.code) from refusal

    def _check_total(self, invoice, payment):
        """What Stripe asks for is what we ask for: a balance or coupon there must not change it."""
        asked = {invoice["total"], invoice["amount_due"]}
        if asked != {payment.amount}:
            wrong = (asked - {payment.amount}).pop()
            raise self._given_up(invoice, payment, differs(wrong, payment))

    def _pay(self, invoice, payment):
        def paid():
            known = self.ask(self.api.invoices.retrieve, invoice["id"])
            return known if known["status"] != "open" or known["attempted"] else None

        try:
            return self._once(
                paid, self.api.invoices.pay, invoice["id"], {"off_session": True},
                key=key_of(payment, "pay"),
            )  # fmt: skip
        except Refusal as refusal:
            known = self.ask(self.api.invoices.retrieve, invoice["id"])
            if known["status"] == "open" and refusal.code not in AUTHENTICATION:
                raise self._given_up(known, payment, str(refusal), refusal.code) from refusal
            return known | {"attempted": True}

    def _of_invoice(self, invoice, payment):
        """The Answer to what became of a Stripe Invoice; one that was declined is voided first.

        An open one could still be paid at Stripe, while our next attempt makes another.
        """
        if invoice is None or invoice.get("deleted"):
            return Answer(Outcome.YES, state="missing")
        status, facts = invoice["status"], {"gateway_id": invoice["id"]}
        if status == "paid":
            return paid_in_full(invoice, payment)
        if status == "void" or status == "uncollectible":
            return Answer(Outcome.YES, state="voided", **facts)
        if status == "draft" or not invoice["attempted"]:
            return Answer(Outcome.YES, state="missing", **facts)
        intent = self._payment_of(invoice).get("payment_intent") or {}
        if intent.get("status") == "processing":
            raise Silence("The payment is still being processed.")
        error = intent.get("last_payment_error") or {}
        if (
            intent.get("status") == "requires_payment_method"
            and error.get("code") not in AUTHENTICATION
        ):
            raise self._given_up(invoice, payment, *words_of(error))
        return Answer(
            Outcome.YES, state="action_required", action_url=invoice["hosted_invoice_url"], **facts
        )

    def _payment_of(self, invoice):
        """The latest payment Stripe made for an invoice: of its PaymentIntent or charge."""
        page = self.ask(
            self.api.invoice_payments.list,
            {"invoice": invoice["id"], "limit": 1, "expand": ["data.payment.payment_intent"]},
        )
        return page["data"][0]["payment"] if page["data"] else {}

    def _given_up(self, invoice, payment, reason, code=""):
        """Take a Stripe Invoice that will not be collected away; returns the Refusal that says why."""
        known = self._take_away(invoice, payment)
        if known and known["status"] == "paid":
            raise Silence("The customer paid it meanwhile.")
        return Refusal(reason, code=code, object_id=invoice["id"])

    def _take_away(self, invoice, payment):
        """Delete a draft, void what is finalised; returns what it is now, None for deleted."""
        if invoice["status"] == "draft":
            self.ask(self.api.invoices.delete, invoice["id"])
            return None

        def closed():
            known = self.ask(self.api.invoices.retrieve, invoice["id"])
            return known if known["status"] != "open" else None

        try:
            return self._once(
                closed, self.api.invoices.void_invoice, invoice["id"], key=key_of(payment, "void")
            )
        except Refusal as refusal:
            if known := closed():
                return known
            raise Silence(f"The invoice could not be voided: {refusal}") from refusal

    @answering
    def _void_invoice(self, payment):
        invoice = self._find_invoice(payment)
        if invoice is None:
            return Answer(Outcome.NO, reason="Nothing was sent.", state="missing")
        if invoice["status"] in {"draft", "open"}:
            invoice = self._take_away(invoice, payment) or invoice | {"status": "void"}
        answer = self._of_invoice(invoice, payment)
        return answer if answer.state == "voided" else refused(answer, f"It is {answer.state}.")

    def _find_invoice(self, payment):
        if payment.gateway_id:
            return self.ask(self.api.invoices.retrieve, payment.gateway_id)
        return self._find(self.api.invoices, payment)

    # Refunds -----------------------------------------------------------------------------------

    @answering
    def refund(self, refund):
        target = self._refundable(refund.payment)
        if refund.tries and (known := self._find_refund(refund, target)):
            return of_refund(known)
        try:
            made = self._once(
                lambda: self._find_refund(refund, target),
                self.api.refunds.create,
                target | {"amount": refund.amount, "metadata": {"reference": refund.reference}},
                key=key_of(refund, "refund"),
            )
        except Refusal as refusal:
            refusal.state = "failed"
            raise
        return of_refund(made)

    @answering
    def look_up_refund(self, refund):
        if refund.gateway_id:
            return of_refund(self.ask(self.api.refunds.retrieve, refund.gateway_id))
        known = self._find_refund(refund, self._refundable(refund.payment))
        return of_refund(known) if known else Answer(Outcome.YES, state="missing")

    def _refundable(self, payment):
        """What Stripe is asked to refund: the intent of a purchase, or what paid an invoice."""
        if not payment.invoice_id:
            return {"payment_intent": self._intent_id(payment)}
        paid = self._payment_of(self._find_invoice(payment) or {"id": payment.gateway_id})
        if paid.get("charge"):
            return {"charge": id_of(paid["charge"])}
        if paid.get("payment_intent"):
            return {"payment_intent": id_of(paid["payment_intent"])}
        raise Refusal("Nothing was collected.", state="failed")

    def _find_refund(self, refund, target):
        return self._search(self.api.refunds, refund.reference, target)

    @answering
    def look_up_dispute(self, dispute_id):
        """What became of money a customer's bank took back: `state`, `reason`, and the amount."""
        known = self.ask(self.api.disputes.retrieve, dispute_id)
        return Answer(
            Outcome.YES, state=known["status"], reason=known["reason"], captured=known["amount"],
            gateway_id=known["id"],
        )  # fmt: skip

    # Cards -------------------------------------------------------------------------------------

    def minimum(self, currency):
        return MINIMUM.get(currency, OTHER_MINIMUM)

    def can_collect(self, organization):
        return organization.customers.filter(gateway=self.name).exclude(payment_method="").exists()

    @answering
    def register(self, customer):
        """Make `customer` known to Stripe, once. Returns an Answer with its `gateway_id`."""
        organization = customer.organization
        reference = f"customer-{organization.pk}-{customer.created_at.timestamp():.6f}"

        def known():
            since = {"created": {"gte": earliest(customer)}}
            return self._search(self.api.customers, reference, since)

        found = known() if timezone.now() - customer.created_at > KEYS_KEPT else None
        made = found or self._once(
            known,
            self.api.customers.create,
            {
                "name": organization.name,
                "metadata": {"reference": reference, "organization": organization.slug},
            },
            key=reference,
        )
        return Answer(Outcome.YES, gateway_id=made["id"])

    @answering
    def set_up_url(self, customer, return_url, cancel_url=""):
        """Where a person saves a card, coming back to `return_url`: the Answer's `action_url`."""
        session = self._page_for(
            customer,
            self.api.checkout.sessions.create,
            {
                "mode": "setup",
                "customer": customer.gateway_id,
                "allowed_payment_method_types": ["card"],
                "success_url": return_url,
                "cancel_url": cancel_url or return_url,
            },
        )
        return Answer(Outcome.YES, action_url=session["url"], gateway_id=session["id"])

    @answering
    def portal_url(self, customer, return_url):
        """Where a person changes or removes cards, coming back to `return_url`."""
        session = self._page_for(
            customer,
            self.api.billing_portal.sessions.create,
            {"customer": customer.gateway_id, "return_url": return_url},
        )
        return Answer(Outcome.YES, action_url=session["url"], gateway_id=session["id"])

    def _page_for(self, customer, method, params):
        try:
            return self.ask(method, params)
        except Refusal as refusal:
            if refusal.code != "resource_missing":
                raise
            customer.forget(at=timezone.now())
            raise Silence(
                "Stripe knows this customer no more; the next try makes another."
            ) from None

    @answering
    def refresh(self, customer):
        """Read which card Stripe collects from and keep it on `customer`.

        A card saved through Checkout becomes that card, once: what is chosen in the Portal later stays.
        """
        known = self._customer(customer)
        if not known.get("deleted") and (saved := self._newly_saved(known)):
            session, card = saved
            self.ask(
                self.api.customers.update,
                known["id"],
                {
                    "invoice_settings": {"default_payment_method": card["id"]},
                    "metadata": {"card_of": session["id"]},
                },
                key=f"{known['id']}-{session['id']}",
            )
            known = self._customer(customer)
        if known.get("deleted"):
            customer.forget(at=timezone.now())
        else:
            customer.keep_card(**card_of(known), at=timezone.now())
        return Answer(Outcome.YES, gateway_id=known["id"])

    def _customer(self, customer):
        expand = {"expand": ["invoice_settings.default_payment_method"]}
        return self.ask(self.api.customers.retrieve, customer.gateway_id, expand)

    def _newly_saved(self, known):
        """The last `(session, card)` of Checkout, unless it was made the card before."""
        page = self.ask(
            self.api.checkout.sessions.list,
            {
                "customer": known["id"],
                "status": "complete",
                "expand": ["data.setup_intent.payment_method"],
            },
        )
        saved = [
            (session, session["setup_intent"]["payment_method"])
            for session in page["data"]
            if session["mode"] == "setup" and session["setup_intent"]["payment_method"]
        ]
        last = max(saved, key=lambda pair: pair[1]["created"], default=None)
        if last is None or last[1].get("customer") is None:
            return None
        return last if known["metadata"].get("card_of") != last[0]["id"] else None

    # Asking ------------------------------------------------------------------------------------

    pause = staticmethod(time.sleep)

    @property
    def api(self):
        return client_of(settings.STRIPE_SECRET_KEY, settings.STRIPE_API_BASE, self.timeout).v1

    @cached_property
    def errors(self):
        import stripe

        return stripe.StripeError, stripe.APIConnectionError

    def ask(self, method, *args, key=None):
        """Call `method` of the SDK and return the object as a dict; raises Silence or Refusal.

        Repeated a few times where that has one effect: with the same key, or because nothing changes.
        """
        began = time.monotonic()
        options = {"idempotency_key": key} if key else {}
        positional = [arg for arg in args if not isinstance(arg, dict)]
        params = next((arg for arg in args if isinstance(arg, dict)), {})
        changes = method.__name__ not in {"retrieve", "list"}
        for again in range(TRIES):
            try:
                found = method(*positional, params=params, options=options)
            except self.errors[0] as error:
                wait = self._wait(error, again, began, safe=bool(key) or not changes)
                if wait is None:
                    raise meaning_of(error) from error
                self.pause(wait)
            except (AttributeError, KeyError, TypeError, ValueError) as error:
                # The SDK stumbles over JSON of another shape.
                logger.exception("An answer of Stripe's makes no sense")
                raise Silence(UNAVAILABLE) from error
            else:
                return self._plain(found)
        raise Silence(UNAVAILABLE)

    def _wait(self, error, again, began, *, safe):
        """How long to wait before asking again, or None when that is no use."""
        status = error.http_status
        for_now = status in NOT_DEFINITE or isinstance(error, self.errors[1])
        if not (safe and for_now) or again + 1 == TRIES:
            return None
        wait = random.uniform(0, 0.5 * 2**again)  # noqa: S311 - full jitter
        asked = (error.headers or {}).get("retry-after", "")
        if asked.isdigit():
            wait += int(asked)
        return wait if time.monotonic() - began + wait < RETRY_WITHIN else None

    def _plain(self, found):
        """An object of the SDK as a dict; anything else is no answer."""
        plain = found.to_dict(for_json=True) if hasattr(found, "to_dict") else None
        if not plain or "object" not in plain:
            raise Silence(UNAVAILABLE)
        return plain

    def _once(self, done, method, *args, key):
        """Ask for something that must happen once; `done` looks whether it has, and returns it.

        A key that keeps answering with a failure is no use any more: then it is looked up, and asked
        for once more with another key, which is the same one for whoever comes this far.
        """
        for again in range(KEYS):
            try:
                return self.ask(method, *args, key=f"{key}-{again}" if again else key)
            except KeptFailure:
                if found := done():
                    return found
        raise Silence(UNAVAILABLE)

    def _payer(self, payment):
        """The organization's Customer with a card, who can be asked for this amount."""
        if payment.currency in COUNTED_DIFFERENTLY:
            raise Refusal(f"{payment.currency} is not collected by card here.", code="currency")
        if payment.amount < self.minimum(payment.currency):
            raise Refusal("The amount is below what can be collected.", code="amount_too_small")
        customer = payment.organization.customers.filter(gateway=self.name).first()
        if customer is None or not customer.has_card:
            raise Refusal("No card is saved.", code="no_card")
        return customer

    def _find(self, service, payment):
        """The customer's object that carries our reference, or None.

        Of a customer who was forgotten since, it is looked for among those of everybody.
        """
        customer = payment.organization.customers.filter(gateway=self.name).first()
        if customer is None:
            return None
        filters = {"created": {"gte": earliest(payment)}}
        if customer.gateway_id and customer.created_at <= payment.created_at:
            filters["customer"] = customer.gateway_id
        return self._search(service, payment.reference, filters)

    def _search(self, service, reference, filters):
        """By listing: Stripe's search lags behind by a minute or more."""
        params = {"limit": PAGE, **filters}
        while True:
            page = self.ask(service.list, params)
            for found in page["data"]:
                if (found.get("metadata") or {}).get("reference") == reference:
                    return found
            if not page["has_more"]:
                return None
            params = params | {"starting_after": page["data"][-1]["id"]}


def key_of(subject, operation):
    """The idempotency key of one step, the same at every repeat: a slow process may still be at it."""
    return f"{subject.reference}-{operation}"


def metadata_of(payment):
    return {"reference": payment.reference, "organization": payment.organization.slug}


def return_url(payment):
    """Where the customer comes back to after confirming a payment."""
    path = reverse("billing:confirm", args=[payment.organization.slug, payment.public_id])
    return settings.BASE_URL + path


def earliest(subject):
    """A moment before which Stripe cannot have made anything of `subject`, by either clock."""
    return int((min(subject.created_at, timezone.now()) - CLOCKS_DIFFER).timestamp())
