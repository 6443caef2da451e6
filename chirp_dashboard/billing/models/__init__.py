from .announcements import PriceAnnouncement
from .books import Account, Charge, Entry, Posting, Standing
from .checks import BooksBroken, BooksCheck, Reconciliation
from .customers import Customer
from .dunning import Dunning, DunningStep
from .feeds import CalendarFeed
from .inbox import InboxEvent
from .invoices import Invoice, InvoiceLine, InvoiceSequence
from .payments import Payment, PaymentEvent, TestAuthorisation
from .price_changes import PriceChange, RentalPrice
from .prices import NumberType, Price
from .refunds import Refund, RefundEvent
from .rentals import Rental
from .runs import BillingRun

__all__ = [
    "Account",
    "BillingRun",
    "BooksBroken",
    "BooksCheck",
    "CalendarFeed",
    "Charge",
    "Customer",
    "Dunning",
    "DunningStep",
    "Entry",
    "InboxEvent",
    "Invoice",
    "InvoiceLine",
    "InvoiceSequence",
    "NumberType",
    "Payment",
    "PaymentEvent",
    "Posting",
    "Price",
    "PriceAnnouncement",
    "PriceChange",
    "Reconciliation",
    "Refund",
    "RefundEvent",
    "Rental",
    "RentalPrice",
    "Standing",
    "TestAuthorisation",
]
