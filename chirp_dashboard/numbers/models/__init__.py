from .assignments import Assignment
from .holds import Hold
from .inventory import InventoryNumber
from .orders import Order, OrderLine
from .phone_numbers import PhoneNumber, Totals

__all__ = [
    "Assignment",
    "Hold",
    "InventoryNumber",
    "Order",
    "OrderLine",
    "PhoneNumber",
    "Totals",
]
