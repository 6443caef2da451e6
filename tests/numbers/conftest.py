from datetime import UTC, date, datetime, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.models import Price
from chirp_dashboard.numbers.models import InventoryNumber, Order, PhoneNumber

# Noon in New York on 23 November 2026: 8 of the 30 days of the period that ends on 1 December.
NOON = datetime(2026, 11, 23, 17, tzinfo=UTC)


@pytest.fixture
def an_hour_later():
    """It is one in the afternoon, and time goes on."""
    with time_machine.travel(NOON + timedelta(hours=1)):
        yield


@pytest.fixture
def prices(db):
    """Local 1.00 + 1.00, toll-free 1.00 + 2.00, short codes 650.00 + 500.00, for everyone."""
    sums = {"local": (100, 100), "tollfree": (100, 200), "shortcode": (65000, 50000)}
    return Price.objects.bulk_create(
        Price(
            country="US",
            number_type=number_type,
            purchase_fee=fee,
            rental=rental,
            valid_from=date(2020, 1, 1),
        )
        for number_type, (fee, rental) in sums.items()
    )


def in_stock(number, **facts):
    facts = {
        "country": "US",
        "number_type": "local",
        "region": "NY",
        "city": "New York",
        "area_code": "212",
        "capabilities": ["SMS", "MMS", "Voice"],
    } | facts
    return InventoryNumber.objects.create(number=number, **facts)


@pytest.fixture
def stock(prices):
    """Five local numbers, (212) 555-0142 to 0146, for sale."""
    return [in_stock(f"+1212555014{digit}") for digit in range(2, 7)]


@pytest.fixture
def purchase(stock, organization, owner):
    """Purchase numbers from stock as the owner: `purchase(row, row, at=…)` returns the phone numbers."""
    placed = []

    def purchase(*rows, at=NOON, by=owner, application=None):
        order = Order.objects.place(
            organization,
            person=by,
            numbers=[row.key for row in rows],
            expected_total=sum(quoted(organization, rows, at=at)),
            idempotency_key=f"purchase-{len(placed)}",
            at=at,
            application=application,
        )
        placed.append(order)
        return [line.phone_number for line in order.lines.select_related("phone_number")]

    return purchase


def quoted(organization, rows, *, at):
    """What each of `rows` is quoted at, in cents."""
    from chirp_dashboard.numbers.carriers import StockCarrier
    from chirp_dashboard.numbers.models.quotes import Quote

    on = organization.local_date(at)
    offers = StockCarrier().priced(organization, rows, on=on)
    return [line.due for line in Quote.of(organization, offers, on=on).lines]


@pytest.fixture
def number(purchase, stock) -> PhoneNumber:
    """(212) 555-0142, owned by the organization since noon, assigned to nothing."""
    return purchase(stock[0])[0]
