"""Numbers for sale."""

from django.utils import timezone
from ninja import Field, Query, Router, Schema

from chirp_dashboard.api import paging
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key
from chirp_dashboard.api.schemas import AvailableList
from chirp_dashboard.api.views import location_of
from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.numbers.models.inventory import Capability
from chirp_dashboard.numbers.search import Criteria, Position, stock_offers

router = Router(auth=admin_key, by_alias=True, tags=["Purchasing"])
TYPES = {*NumberType.values, "mobile"}
POSITIONS = {
    "startsWith": Position.STARTS_WITH,
    "contains": Position.CONTAINS,
    "endsWith": Position.ENDS_WITH,
}


class Search(Schema):
    """`mobile` is accepted and has no stock."""

    numberType: str = Field("local", description="local, tollfree, shortcode or mobile")
    country: str = Field("US", pattern="^[A-Za-z]{2}$")
    region: str = Field("", max_length=60)
    city: str = Field("", max_length=80)
    areaCode: str = Field("", pattern="^([0-9]{3})?$")
    startsWith: str = Field("", max_length=20)
    contains: str = Field("", max_length=20)
    endsWith: str = Field("", max_length=20)
    features: str = Field("", max_length=80, description="Comma-separated: SMS,MMS,Voice")
    limit: int = Field(paging.DEFAULT, ge=1, le=paging.LARGEST)
    cursor: str = Field("", max_length=20)


def criteria_of(asked):
    """What `asked` looks for. Raises ApiError for what makes no sense."""
    if asked.numberType not in TYPES:
        raise ApiError(400, f"numberType is one of {', '.join(sorted(TYPES))}.", param="numberType")
    patterns = {name: getattr(asked, name) for name in POSITIONS if getattr(asked, name)}
    if len(patterns) > 1:
        raise ApiError(400, "Give one of startsWith, contains and endsWith.", param=[*patterns][1])
    for name, pattern in patterns.items():
        if not pattern.isascii() or not pattern.isalnum():
            raise ApiError(400, "A pattern has digits and letters only.", param=name)
    name, pattern = next(iter(patterns.items()), ("contains", ""))
    return Criteria(
        number_type=asked.numberType, country=asked.country.upper(), region=clean(asked.region),
        city=clean(asked.city), area_code=asked.areaCode, pattern=pattern, position=POSITIONS[name],
        capabilities=features_of(asked.features),
    )  # fmt: skip


def clean(text):
    return " ".join(text.replace("\x00", "").split())


def features_of(text):
    known = {capability.upper(): capability for capability in Capability.values}
    wanted = [name.strip() for name in text.split(",") if name.strip()]
    for name in wanted:
        if name.upper() not in known:
            raise ApiError(400, f"features are {', '.join(Capability.values)}.", param="features")
    return tuple(known[name.upper()] for name in dict.fromkeys(wanted))


def offer_view(offer):
    return {
        "number": offer.number,
        "numberType": offer.number_type,
        "location": location_of({"city": offer.city, "region": offer.region}),
        "features": list(offer.capabilities),
        "purchaseFee": offer.purchase_fee,
        "monthlyRental": offer.rental,
        "intervalMonths": offer.interval_months,
        "currency": offer.currency,
    }


@router.get("/available-phone-numbers", response=AvailableList, summary="Search numbers for sale")
def available(request, asked: Query[Search]):
    """Numbers that others hold are left out. `cursor` is the last number of the page before."""
    criteria = criteria_of(asked)
    after = asked.cursor
    if after and not (after.removeprefix("+").isascii() and after.removeprefix("+").isdigit()):
        raise ApiError(400, "This cursor is not one of this list.", param="cursor")
    if asked.numberType == "mobile":
        return {"phoneNumbers": [], "nextCursor": None}
    page = stock_offers(
        criteria, request.key.organization, at=timezone.now(), after=after, limit=asked.limit
    )
    more = page.has_next and page.offers
    return {
        "phoneNumbers": [offer_view(offer) for offer in page.offers],
        "nextCursor": page.offers[-1].number if more else None,
    }
