"""What a new row of the price list affects: purchases from its day on. Running rentals keep theirs."""

from dataclasses import dataclass
from datetime import date

from django.db.models import Count, Q, Sum

from chirp_dashboard.organizations.models import Organization

from .prices import Price
from .rentals import Rental

NAMED = 20  # organizations


@dataclass(frozen=True)
class PriceEffect:
    """`running` has `{interval_months, price, rentals, sum}` for each price that running rentals pay."""

    price: Price
    replaces: Price | None
    replaced_on: date | None
    organizations: list
    organization_count: int
    left_out: list
    running: list

    @classmethod
    def of(cls, price, *, at):
        """The effect of `price`, which may not be saved yet."""
        left_out = cls._with_their_own(price)
        organizations = cls._organizations(price, left_out)
        alike = price.alike()
        following = alike.filter(valid_from__gt=price.valid_from).order_by("valid_from").first()
        return cls(
            price=price,
            replaces=alike.filter(valid_from__lt=price.valid_from).order_by("valid_from").last(),
            replaced_on=following and following.valid_from,
            organizations=list(organizations[:NAMED]),
            organization_count=organizations.count(),
            left_out=list(left_out[:NAMED]),
            running=cls._running(price, organizations, at=at),
        )

    @staticmethod
    def _with_their_own(price):
        """Whom a price for everyone leaves out by then."""
        own = Price.objects.filter(
            organization__isnull=False, country=price.country, number_type=price.number_type,
            currency=price.currency, valid_from__lte=price.valid_from,
        )  # fmt: skip
        chosen = Organization.objects.filter(pk__in=own.values("organization"))
        return chosen.none() if price.organization_id else chosen

    @staticmethod
    def _organizations(price, left_out):
        if price.organization_id:
            return Organization.objects.filter(pk=price.organization_id)
        everyone = Organization.objects.filter(currency=price.currency)
        return everyone.exclude(pk__in=left_out.values("pk"))

    @staticmethod
    def _running(price, organizations, *, at):
        rentals = Rental.objects.running(at=at).with_price(on=at.date())
        of_kind = rentals.filter(
            Q(organization__in=organizations.order_by().values("pk")),
            phone_number__country=price.country,
            phone_number__number_type=price.number_type,
        )
        sums = of_kind.values("interval_months", "price").annotate(
            rentals=Count("pk"), sum=Sum("price")
        )
        return list(sums.order_by("interval_months", "price"))

    @property
    def rentals(self):
        return sum(row["rentals"] for row in self.running)

    @property
    def more_organizations(self):
        return self.organization_count - len(self.organizations)
