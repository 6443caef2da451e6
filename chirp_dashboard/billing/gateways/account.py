"""On account: purchases join the next invoice, invoices are paid by transfer, an operator records it."""

from .base import Gateway


class AccountGateway(Gateway):
    """Asks nobody: the credit limit decides, and no order has a payment of its own."""

    name = "account"
    words = "On account, paid by transfer"
    terms_days = 30
    is_by_hand = True
