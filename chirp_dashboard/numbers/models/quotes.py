"""Quotes: what a purchase costs today, what it adds each month, to the cent."""

from dataclasses import dataclass
from datetime import date
from decimal import Decimal

from chirp_dashboard.billing.periods import Period, first_period, next_billing_date
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.organizations.refusals import Refused

from .inventory import NumberFacts


class QuoteChanged(Refused):
    """The total the person saw no longer holds; nothing was purchased.

    `quote` is what it costs now (None when nothing is left), `lost` says what is gone and why:
    `{(country, number): reason}`.
    """

    def __init__(self, quote, lost):
        self.quote, self.lost = quote, lost
        if lost:
            gone = ", ".join(f"{number} ({reason})" for (_, number), reason in lost.items())
            message = f"Nothing was purchased. No longer available: {gone}."
        else:
            message = "Nothing was purchased. What it costs changed since you saw it."
        super().__init__(message)


@dataclass(frozen=True)
class QuoteLine:
    """One number at the prices it is offered at. All sums are in the minor unit."""

    facts: NumberFacts
    carrier: str
    purchase_fee: int
    rental: int
    interval_months: int
    first: Period

    @property
    def due(self):
        return self.purchase_fee + self.first.amount

    @property
    def monthly(self):
        """What it adds to each month; a lease of several months adds nothing to the others."""
        return self.rental if self.interval_months == 1 else 0


@dataclass(frozen=True)
class Quote:
    currency: str
    on: date
    next_invoice_on: date
    lines: tuple[QuoteLine, ...]
    tax_rate: Decimal = Decimal(0)

    @classmethod
    def of(cls, organization, offers, *, on):
        """Quote `offers` (Holds, or anything with the facts and prices of one) on the local date `on`."""
        return cls(
            currency=organization.currency,
            tax_rate=organization.tax_rate,
            on=on,
            next_invoice_on=next_billing_date(organization.billing_day, after=on),
            lines=tuple(
                QuoteLine(
                    facts=offer,
                    carrier=offer.carrier,
                    purchase_fee=offer.purchase_fee,
                    rental=offer.rental,
                    interval_months=offer.interval_months,
                    first=first_period(
                        organization.billing_day,
                        offer.rental,
                        on=on,
                        interval_months=offer.interval_months,
                    ),
                )
                for offer in offers
            ),
        )

    @property
    def fees(self):
        return sum(line.purchase_fee for line in self.lines)

    @property
    def first_rentals(self):
        return sum(line.first.amount for line in self.lines)

    @property
    def net(self):
        return self.fees + self.first_rentals

    @property
    def tax(self):
        return tax_on(self.net, self.tax_rate)

    @property
    def total(self):
        """What is asked for, tax included."""
        return self.net + self.tax

    @property
    def monthly(self):
        return sum(line.monthly for line in self.lines)
