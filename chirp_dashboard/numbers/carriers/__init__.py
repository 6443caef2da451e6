from .base import Answer, Carrier, Outcome
from .stock import StockCarrier
from .test import TestCarrier

CARRIERS = {carrier.name: carrier for carrier in (StockCarrier(), TestCarrier())}

__all__ = ["CARRIERS", "Answer", "Carrier", "Outcome", "StockCarrier", "carrier_named"]


def carrier_named(name):
    return CARRIERS[name]
