"""Tax: one rate per organization, computed once on the net sum of a document."""

from decimal import ROUND_HALF_UP, Decimal


def tax_on(net, rate):
    """The tax on `net` (minor unit, any sign) at `rate` per cent, halves away from zero."""
    return int((Decimal(net) * Decimal(rate) / 100).quantize(Decimal(1), rounding=ROUND_HALF_UP))
