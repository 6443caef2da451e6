"""On account: purchases join the next invoice, invoices are paid by transfer, an operator records it."""

from .base import Gateway


class AccountGateway(Gateway):
    name = "account"
