"""What organizations do: purchases and monthly invoices, paid through Stripe."""

from datetime import UTC, date, datetime

from chirp_dashboard.billing.models import Payment, Rental
from chirp_dashboard.numbers.models import InventoryNumber, Order

from ...numbers.conftest import NOON, quoted
from ..conftest import DECEMBER, noon
from .edge import Answer


def stock_up(count, *, first=0):
    """`count` local numbers for sale."""
    return InventoryNumber.objects.bulk_create(
        InventoryNumber(
            country="US", number=f"+1646{first + number:07}", number_type="local", region="NY",
            city="New York", area_code="646", capabilities=["SMS"],
        )
        for number in range(count)
    )  # fmt: skip


def buy(organization, person, *rows, at=NOON):
    """The order of `rows`, as far as it got at once."""
    return Order.objects.place(
        organization,
        person=person,
        numbers=[row.key for row in rows],
        expected_total=sum(quoted(organization, rows, at=at)),
        idempotency_key=f"buy-{rows[0].number}",
        at=at,
    )


def invoice_everybody(on=DECEMBER):
    """Write the invoices of the day `on` and begin to collect them."""
    Rental.objects.charge_due(on=on, at=noon(on))
    Payment.objects.collect_due(at=noon(on))


def collect(on=DECEMBER):
    Payment.objects.advance_due(at=noon(on))


def later():
    """A moment after everything a test did, by our dates and by Stripe's clock."""
    return max(datetime.now(UTC), noon(date(2027, 1, 15)))


def plant_answer(world, pattern, body):
    """Let `world` answer calls to `pattern` with `body`."""
    respond = world.respond

    def answer(call):
        return Answer(200, body) if call.is_to(pattern) else respond(call)

    world.respond = answer
