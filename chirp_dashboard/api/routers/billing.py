"""What was charged: in snake_case and decimals, as documented for this part alone."""

from datetime import date, datetime
from decimal import Decimal

from django.db.models import Count, Sum
from django.utils import timezone
from ninja import Field, Query, Router, Schema

from chirp_dashboard.api import paging
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key
from chirp_dashboard.api.shapes import Day
from chirp_dashboard.billing.models import Charge
from chirp_dashboard.organizations.templatetags.ui import DECIMALS

router = Router(auth=admin_key, tags=["Billing"])
PRODUCT = "phone-numbers"


class Period(Schema):
    start: date
    end: date


class Summary(Schema):
    total_cost: str = Field(examples=["12.00"])
    currency: str
    period: Period
    by_product: dict[str, str]
    record_count: int


class Record(Schema):
    id: str
    organization_id: str
    app_id: str | None
    record_type: str
    product: str
    cost_amount: str
    cost_currency: str
    phone_number: str | None
    description: str
    occurred_at: date
    created_at: datetime


class RecordList(Schema):
    records: list[Record]
    next_cursor: str | None


class Span(Schema):
    start_date: Day | None = None
    end_date: Day | None = Field(None, description="The day after the last one.")


def span_of(request, asked):
    """`[start, end)` in the organization's local dates: the running month unless it is said."""
    today = request.key.organization.local_date(timezone.now())
    start = asked.start_date or today.replace(day=1)
    end = asked.end_date or (max(start, today) if start.year < 9999 else start)
    if asked.end_date is None and end < date.max:
        end = date.fromordinal(end.toordinal() + 1)
    if start > end:
        raise ApiError(400, "end_date is before start_date.", param="end_date")
    return start, end


def decimal(amount, currency):
    """`amount` of the minor unit as a decimal string: "1.00"."""
    return f"{Decimal(amount).scaleb(-DECIMALS.get(currency, 2)):f}"


def charged(request):
    return Charge.objects.filter(organization=request.key.organization)


@router.get("/summary", response=Summary, summary="What was charged in a time")
def summary(request, asked: Query[Span]):
    start, end = span_of(request, asked)
    currency = request.key.organization.currency
    sums = charged(request).filter(on__gte=start, on__lt=end).aggregate(
        total=Sum("amount", default=0), count=Count("pk")
    )  # fmt: skip
    total = decimal(sums["total"], currency)
    return {
        "total_cost": total,
        "currency": currency,
        "period": {"start": start, "end": end},
        "by_product": {PRODUCT: total},
        "record_count": sums["count"],
    }


class RecordQuery(paging.PageQuery, Span):
    pass


FACTS = (
    "id",
    "kind",
    "amount",
    "currency",
    "phone_number__number",
    "description",
    "on",
    "created_at",
)


def record_view(request, row):
    return {
        "id": f"chg_{row['id']}",
        "organization_id": request.key.organization.slug,
        "app_id": None,
        "record_type": row["kind"],
        "product": PRODUCT,
        "cost_amount": decimal(row["amount"], row["currency"]),
        "cost_currency": row["currency"],
        "phone_number": row["phone_number__number"],
        "description": row["description"],
        "occurred_at": row["on"],
        "created_at": row["created_at"],
    }


@router.get("/records", response=RecordList, summary="List charges")
def records(request, asked: Query[RecordQuery]):
    rows = charged(request)
    if asked.start_date or asked.end_date:
        start, end = span_of(request, asked)
        rows = rows.filter(on__gte=start, on__lt=end)
    rows, cursor = asked.read(rows.values(*FACTS), descending=True)
    return {"records": [record_view(request, row) for row in rows], "next_cursor": cursor}


@router.get("/records/{recordId}", response=Record, summary="Get a charge")
def record(request, recordId: str):
    digits = recordId.removeprefix("chg_")
    is_number = digits.isascii() and digits.isdigit() and len(digits) < 19
    wanted = charged(request).filter(pk=int(digits)) if is_number else Charge.objects.none()
    if row := wanted.values(*FACTS).first():
        return record_view(request, row)
    raise ApiError(404, "There is no such record.", param="id")
