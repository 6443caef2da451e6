"""What was charged: in snake_case and decimals, as documented for this part alone."""

from datetime import date, datetime
from decimal import Decimal

from django.db.models import Count, Sum
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from chirp_dashboard import keyset
from chirp_dashboard.api import paging, shapes
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key
from chirp_dashboard.api.shapes import Day, Id
from chirp_dashboard.billing.lists import BY_DAY
from chirp_dashboard.billing.models import Charge
from chirp_dashboard.numbers.spending import bearers, share_of
from chirp_dashboard.organizations.templatetags.ui import DECIMALS

router = Router(auth=admin_key, tags=["Billing"])
PRODUCT = "phone-numbers"
DayCursor = shapes.shaped("([1-9][0-9]{0,5}-[1-9][0-9]{0,17})?", paging.WRONG, longest=25)
"""The day of the last row of a page, counted from the year 1, and its number."""
APP_ID = "app_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz"


class Period(Schema):
    start: date = Field(description="The first day.", examples=["2026-11-01"])
    end: date = Field(description="The last day.", examples=["2026-11-30"])


class Summary(Schema):
    total_cost: str = Field(
        description="Charges less credits, without tax; negative where credits prevail.",
        examples=["12.00"],
    )
    currency: str = Field(description="ISO 4217.", examples=["USD"])
    period: Period
    by_product: dict[str, str] = Field(examples=[{PRODUCT: "12.00"}])
    record_count: int = Field(
        description="How many charges; with app_id those of which the app bears a part.",
        examples=[8],
    )


class Record(Schema):
    id: str = Field(examples=["chg_4711"])
    organization_id: str = Field(examples=["org_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz"])
    app_id: str | None = Field(
        description="The app whose number it was when it was charged. Null where several apps shared "
        "the number or none had it. A credit goes where the charge went that it corrects.",
        examples=[APP_ID],
    )
    record_type: str = Field(
        description="purchase_fee, rental, credit or adjustment", examples=["rental"]
    )
    product: str = Field(examples=[PRODUCT])
    cost_amount: str = Field(
        description="In the currency's unit; negative for a credit.", examples=["1.00"]
    )
    cost_currency: str = Field(description="ISO 4217.", examples=["USD"])
    phone_number: str | None = Field(
        description="Null for a credit that is for no number.", examples=["+12125550142"]
    )
    description: str = Field(
        description="The order of a purchase, the reason of a credit; may be empty.",
        examples=["Order ord_2wGqVyB3cF6iL9oR2uW5xZ8bD1e"],
    )
    occurred_at: date = Field(
        description="The day it counts for, in the organization's time zone.",
        examples=["2026-11-23"],
    )
    created_at: datetime


class RecordList(Schema):
    records: list[Record]
    next_cursor: str | None = Field(description="Null on the last page.", examples=["739943-4711"])


class Span(Schema):
    start_date: Day | None = Field(
        None, description="The first day, in the organization's time zone.", examples=["2026-11-01"]
    )
    end_date: Day | None = Field(
        None, description="The last day, counted too.", examples=["2026-11-30"]
    )

    def check(self, start, end):
        if start and end and start > end:
            raise ApiError(400, "end_date is before start_date.", param="end_date")


class SummaryQuery(Span):
    app_id: Id | None = Field(None, description="Only what this app bears.", examples=[APP_ID])

    def span(self, today):
        """The first and the last day: without any, the month so far."""
        start = self.start_date or (self.end_date or today).replace(day=1)
        end = self.end_date or max(start, today)
        self.check(start, end)
        return start, end


class RecordQuery(Span):
    limit: shapes.Count = Field(paging.DEFAULT, ge=1, le=paging.LARGEST)
    cursor: DayCursor = Field("", description="The next_cursor of the page before.")

    @property
    def after(self):
        """What `keyset` calls the last row of the page before."""
        if not self.cursor:
            return ""
        on, pk = map(int, self.cursor.split("-"))
        return keyset.encode([date.fromordinal(on), pk])

    def read(self, charges):
        """The dicts of the page of `charges`, the latest day first, and the cursor of the next one or None."""
        self.check(self.start_date, self.end_date)
        if self.start_date:
            charges = charges.filter(on__gte=self.start_date)
        if self.end_date:
            charges = charges.filter(on__lte=self.end_date)
        page = keyset.read_page(
            charges.values(*FACTS), BY_DAY, descending=True, after=self.after, before="",
            size=self.limit,
        )  # fmt: skip
        last = page.rows[-1] if page.older else None
        return page.rows, last and f"{last['on'].toordinal()}-{last['id']}"


def decimal(amount, currency):
    """`amount` of the minor unit as a decimal string: "1.00"."""
    return f"{Decimal(amount).scaleb(-DECIMALS.get(currency, 2)):f}"


def charged(request):
    return Charge.objects.filter(organization=request.key.organization)


def find_bearer(request, app_id):
    """The application to sum up; an archived one keeps what it spent."""
    if found := request.key.organization.applications.filter(public_id=app_id).first():
        return found
    raise ApiError(404, "There is no such application.", param="app_id")


@router.get("/summary", response=Summary, summary="What was charged in a time")
def summary(request, asked: Query[SummaryQuery]):
    """Without days, the month so far. With `app_id`, what that app bears: a charge for a number that
    several apps shared is split equally among them, odd cents to those that had it first.
    """
    organization = request.key.organization
    start, end = asked.span(organization.local_date(timezone.now()))
    charges = charged(request).filter(on__gte=start, on__lte=end)
    if asked.app_id:
        amount, count = share_of(find_bearer(request, asked.app_id), charges)
    else:
        amount, count = charges.aggregate(sum=Sum("amount", default=0), count=Count("pk")).values()
    total = decimal(amount, organization.currency)
    return {
        "total_cost": total,
        "currency": organization.currency,
        "period": {"start": start, "end": end},
        "by_product": {PRODUCT: total},
        "record_count": count,
    }


FACTS = (
    "id", "kind", "amount", "currency", "phone_number__number", "description", "on", "created_at",
)  # fmt: skip


def views_of(request, rows):
    """`rows` of charges as records; one query tells the application of each."""
    alone = bearers(charged(request).filter(pk__in=[row["id"] for row in rows])) if rows else {}
    return [
        {
            "id": f"chg_{row['id']}",
            "organization_id": request.key.organization.public_id,
            "app_id": alone.get(row["id"]),
            "record_type": row["kind"],
            "product": PRODUCT,
            "cost_amount": decimal(row["amount"], row["currency"]),
            "cost_currency": row["currency"],
            "phone_number": row["phone_number__number"],
            "description": row["description"],
            "occurred_at": row["on"],
            "created_at": row["created_at"],
        }
        for row in rows
    ]


@router.get("/records", response=RecordList, summary="List charges")
def records(request, asked: Query[RecordQuery]):
    """Every charge and credit, the latest day first; without days, all there are."""
    rows, cursor = asked.read(charged(request))
    return {"records": views_of(request, rows), "next_cursor": cursor}


@router.get("/records/{recordId}", response=Record, summary="Get a charge")
def record(request, recordId: str):
    digits = recordId.removeprefix("chg_")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 19
    wanted = charged(request).filter(pk=int(digits)) if is_number else Charge.objects.none()
    if row := wanted.values(*FACTS).first():
        return views_of(request, [row])[0]
    raise ApiError(404, "There is no such record.", param="recordId")
