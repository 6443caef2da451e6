"""The operator's desk for prices and money. The ledger is only read; actions call the verbs."""

from . import books, dunning, feeds, inbox, invoices, ledger, payments, prices, runs

__all__ = [
    "books",
    "dunning",
    "feeds",
    "inbox",
    "invoices",
    "ledger",
    "payments",
    "prices",
    "runs",
]
