"""What a person has chosen and not yet purchased."""

from dataclasses import dataclass

from chirp_dashboard.billing.gateways import gateway_for

from .models import Hold
from .models.quotes import Quote


@dataclass(frozen=True)
class Basket:
    """The numbers held for somebody, those whose hold has lapsed, and what the held ones cost."""

    held: list[Hold]
    lapsed: list[Hold]
    quote: Quote
    is_prepaid: bool

    @classmethod
    def of(cls, organization, person, *, at):
        holds = list(Hold.objects.of(person, organization))
        held = [hold for hold in holds if hold.is_live(at=at)]
        quote = Quote.of(organization, held, on=organization.local_date(at))
        return cls(
            held=held,
            lapsed=[hold for hold in holds if not hold.is_live(at=at)],
            quote=quote,
            is_prepaid=gateway_for(organization).collects_order_of(quote.total, quote.currency),
        )

    @property
    def is_empty(self):
        return not self.held and not self.lapsed

    @property
    def can_be_extended(self):
        return any(not hold.extended for hold in self.held)
