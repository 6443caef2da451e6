"""Gateways: how money is collected. Account is the default; Stripe will follow this interface."""

from dataclasses import dataclass
from enum import Enum


class Outcome(Enum):
    """What a gateway answered. There is no fourth answer."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"  # no usable answer: look it up by our reference before anything is repeated


@dataclass(frozen=True)
class Answer:
    """`state` is what the gateway says of it.

    Of a payment: authorised, captured, voided, declined, action_required, missing; of a refund:
    refunded, failed, pending, missing. `action_url` is where the customer confirms a payment; `code`
    the gateway's own word for a refusal; `gateway_id` what it calls the object.
    """

    outcome: Outcome
    reason: str = ""
    state: str = ""
    captured: int = 0
    gateway_id: str = ""
    action_url: str = ""
    code: str = ""


class Gateway:
    """One way to collect money. Calls may use the network and run outside every transaction.

    Each takes a Payment whose `reference` is ours; repeating a call with it has one effect.
    """

    name = ""
    words = ""  # what operators call it
    collects_orders = False  # an order is paid by a payment of its own, not by the next invoice
    collects_invoices = False  # asks for unpaid invoices by itself
    saves_cards = False  # the customer saves and changes one at the gateway
    collects_no_money = False  # pretends to; refused in production
    is_by_hand = False  # an operator moves the money and records it; nobody is asked
    terms_days = 0  # from the issue of a monthly invoice to the day it is due

    def authorise(self, payment):
        """Reserve `payment.amount`. Returns an Answer."""
        raise NotImplementedError

    def capture(self, payment, amount):
        """Collect `amount` of what was authorised and let go of the rest. Returns an Answer."""
        raise NotImplementedError

    def void(self, payment):
        """Let go of the whole authorisation, or of a collection not confirmed. Returns an Answer."""
        raise NotImplementedError

    def look_up(self, payment):
        """What the gateway knows of our reference. Returns an Answer with `state`."""
        raise NotImplementedError

    def collect(self, payment):
        """Collect `payment.amount` for `payment.invoice` from the saved card. Returns an Answer.

        Every call for the same reference has one effect together; `payment.tries` above zero says that
        an earlier one may have begun. A customer who has confirmed it comes back to `billing:confirm`.
        """
        raise NotImplementedError

    def refund(self, refund):
        """Give `refund.amount` of `refund.payment` back. Returns an Answer."""
        raise NotImplementedError

    def look_up_refund(self, refund):
        """What the gateway knows of our reference. Returns an Answer with `state`."""
        raise NotImplementedError

    def minimum(self, currency):
        """The smallest sum it collects, in the minor unit; less joins the next invoice."""
        return 0

    def collects_order_of(self, total, currency):
        """Has an order of `total` a payment of its own? Less than the minimum joins the next invoice."""
        return self.collects_orders and total >= max(self.minimum(currency), 1)

    def can_collect(self, organization):
        """Is there a card to collect from? Asks nobody."""
        return True

    def register(self, customer):
        """Make `customer` known. Returns an Answer with its `gateway_id`."""
        raise NotImplementedError

    def set_up_url(self, customer, return_url, cancel_url=""):
        """The page where a card is saved, which leads back. Returns an Answer with `action_url`."""
        raise NotImplementedError

    def portal_url(self, customer, return_url):
        """The page where cards are changed and removed. Returns an Answer with `action_url`."""
        raise NotImplementedError

    def refresh(self, customer):
        """Read the saved card anew and keep its facts on `customer`. Returns an Answer."""
        raise NotImplementedError
