"""What an organization has and should look at, in one query. What it owes, its Statement knows."""

from dataclasses import dataclass
from datetime import date, timedelta
from functools import cached_property

from django.contrib.postgres.expressions import ArraySubquery
from django.db.models import Exists, F, OuterRef
from django.db.models.functions import JSONObject

from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.organizations.models import Application, Organization

from .drawing import display, short_day
from .listing import COUNTED_UP_TO, Counted, count_text
from .models import Order, PhoneNumber
from .models.phone_numbers import LIVE

SHOWN = 5
UNSETTLED = (*Order.OPEN, Order.State.STUCK)


@dataclass(frozen=True)
class Overview:
    """The numbers and orders of `organization` on its local date `on`."""

    organization: Organization
    on: date

    @cached_property
    def facts(self):
        owned = PhoneNumber.objects.filter(organization=OuterRef("pk"))
        tests = PhoneNumber.objects.tests_of(OuterRef("pk"))
        idle = owned.filter(LIVE, assignment_count=0)
        leaving = owned.filter(LIVE, releases_on__isnull=False)
        orders = Order.objects.filter(organization=OuterRef("pk"), state__in=UNSETTLED)
        applications = Application.objects.open().filter(organization=OuterRef("pk"))
        number = JSONObject(
            id="public_id", number="number", label="label", releases_on="releases_on"
        )
        return (
            Organization.objects.filter(pk=self.organization.pk)
            .values(
                numbers=F("totals__numbers"),
                tests=Counted(tests),
                monthly=F("totals__monthly"),
                was_used=Exists(owned.filter(is_test=False)),
                has_applications=Exists(applications),
                idle=Counted(idle),  # from its index alone, which does not know test numbers
                idle_tests=Counted(tests.filter(assignment_count=0)),
                first_idle=first(idle.filter(is_test=False).order_by("number", "id"), number),
                leaving=Counted(leaving),
                first_leaving=first(leaving.order_by("releases_on", "number", "id"), number),
                suspended=Counted(owned.filter(state=PhoneNumber.State.SUSPENDED)),
                under_way=Counted(orders),
                first_orders=first(
                    orders.order_by("-id"),
                    JSONObject(id="public_id", state="state", placed_on="placed_on"),
                ),
            )
            .get()
        )

    # Numbers

    @property
    def is_unused(self):
        return not self.facts["was_used"]

    @property
    def numbers(self):
        """Its live numbers: test numbers cost nothing and are counted apart."""
        return (self.facts["numbers"] or 0) - self.tests

    @property
    def tests(self):
        return self.facts["tests"]

    @property
    def only_live(self):
        """What a link to the list adds, so that it shows as many as were counted."""
        return "&kind=live" if self.tests else ""

    @property
    def monthly(self):
        return self.facts["monthly"] or 0

    @property
    def idle(self):
        size = self.facts["idle"]
        if size <= COUNTED_UP_TO:
            size -= self.facts["idle_tests"]
        return Part(size, [drawn(row) for row in self.facts["first_idle"]])

    @property
    def leaving(self):
        rows = [
            drawn(row) | {"word": f"Releasing {self.last_day(row['releases_on'])}"}
            for row in self.facts["first_leaving"]
        ]
        return Part(self.facts["leaving"], rows)

    @property
    def orders(self):
        rows = [
            row | {"on": self.short(row["placed_on"]), "word": Order.State(row["state"]).label}
            for row in self.facts["first_orders"]
        ]
        return Part(self.facts["under_way"], rows)

    @property
    def suspended(self):
        return Part(self.facts["suspended"])

    @property
    def next_invoice(self):
        return short_day(
            next_billing_date(self.organization.billing_day, after=self.on), on=self.on
        )

    def short(self, iso):
        return short_day(date.fromisoformat(iso), on=self.on)

    def last_day(self, iso):
        """The day before a release: until its end the number works."""
        return short_day(date.fromisoformat(iso) - timedelta(days=1), on=self.on)


@dataclass(frozen=True)
class Part:
    """How many there are, counted up to a cap, and the first few of them."""

    size: int
    rows: tuple | list = ()

    @property
    def text(self):
        return count_text(self.size, up_to=COUNTED_UP_TO)

    @property
    def more(self):
        return self.size > len(self.rows)


def first(rows, facts):
    return ArraySubquery(rows.values(data=facts)[:SHOWN])


def drawn(row):
    return row | {"text": display(row["number"])}
