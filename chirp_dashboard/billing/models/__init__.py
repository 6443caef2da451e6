from .books import Charge, Entry, Posting, Standing
from .invoices import Invoice, InvoiceLine, InvoiceSequence
from .payments import Payment, PaymentEvent, TestAuthorisation
from .prices import NumberType, Price
from .rentals import Rental
from .runs import BillingRun

__all__ = [
    "BillingRun",
    "Charge",
    "Entry",
    "Invoice",
    "InvoiceLine",
    "InvoiceSequence",
    "NumberType",
    "Payment",
    "PaymentEvent",
    "Posting",
    "Price",
    "Rental",
    "Standing",
    "TestAuthorisation",
]
