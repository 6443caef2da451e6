"""What goes in and what comes out of /v1, in the documented names. Money is in the minor unit."""

from datetime import datetime
from typing import Any

from ninja import Field, Schema
from pydantic import ConfigDict
from pydantic.alias_generators import to_camel

from .shapes import Country, Id, Name, PhoneNumber, Slug, Type, Whole


class Camel(Schema):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)


# Errors ---------------------------------------------------------------------------------------


class ErrorFacts(Schema):
    type: str = Field(examples=["invalid_request_error"])
    message: str = Field(description="Fit for an end user.")
    code: str | None = None
    param: str | None = Field(None, description="The field that is wrong, such as `to[0]`.")


class Error(Schema):
    error: ErrorFacts


class Message(Schema):
    message: str


# Applications ---------------------------------------------------------------------------------


class AppIn(Camel):
    slug: Slug = Field(examples=["storefront"])
    name: Name = Field(examples=["Storefront"])


class AppChange(Camel):
    name: Name


class App(Camel):
    id: str = Field(examples=["app_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz"])
    slug: str
    name: str
    status: str = Field(description="active or billing_paused")
    created_at: datetime
    updated_at: datetime


class AppList(Camel):
    apps: list[App]
    next_cursor: str | None
    total_count: int | None


class SlugAnswer(Camel):
    available: bool
    slug: str


class AppOfNumber(Camel):
    app_id: str
    app_name: str
    app_slug: str


# Keys -----------------------------------------------------------------------------------------


class AppKeyIn(Camel):
    name: Name
    app_id: Id


class AdminKeyIn(Camel):
    name: Name


class Key(Camel):
    id: str
    name: str
    key_preview: str = Field(examples=["sk_live_app_****9xQz"])
    app_id: str | None = None
    last_used_at: datetime | None
    created_at: datetime
    updated_at: datetime


class NewKey(Camel):
    id: str
    key: str = Field(description="Shown this once; a repeat of the request shows its end only.")
    name: str
    app_id: str | None = None
    created_at: datetime
    updated_at: datetime


class KeyList(Camel):
    keys: list[Key]
    total_count: int


# Phone numbers --------------------------------------------------------------------------------


class NumberOfApp(Camel):
    phone_number_id: str = Field(examples=["ph_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz"])
    app_id: str
    number: str = Field(examples=["+12125550142"])
    created_at: datetime
    updated_at: datetime


class NumberOfAppList(Camel):
    phone_numbers: list[NumberOfApp]
    next_cursor: str | None
    total_count: int | None = Field(description="Null where more than 10,000 match.")


class AssignedNumber(NumberOfApp):
    number_type: str = Field(examples=["local"])
    location: str = Field(examples=["New York, NY"])
    features: list[str] = Field(examples=[["SMS", "MMS", "Voice"]])


class Number(Camel):
    phone_number_id: str
    number: str = Field(examples=["+12125550142"])
    number_type: str = Field(examples=["local"])
    location: str = Field(examples=["New York, NY"])
    features: list[str]
    label: str
    status: str = Field(description="active, suspended, releasing or released")
    test: bool = Field(description="A test number costs nothing.")
    monthly_rental: int | None = Field(description="In the minor unit; null for leases.")
    currency: str
    releases_on: str | None
    apps: list[AppOfNumber]
    created_at: datetime
    updated_at: datetime


class NumberList(Camel):
    phone_numbers: list[Number]
    next_cursor: str | None
    total_count: int | None


class Assign(Camel):
    phone_number_id: Id
    telnyx_messaging_profile: Any = Field(None, description="Accepted and not used here.")


class AppIds(Camel):
    app_ids: list[Id] = Field(max_length=1000)


class Released(Camel):
    success: bool
    phone_number_id: str
    affected_apps: list[AppOfNumber]


class Event(Camel):
    event: str
    description: str
    actor: str
    occurred_at: datetime


class Timeline(Camel):
    events: list[Event]
    next_cursor: str | None


# Purchasing -----------------------------------------------------------------------------------


class PurchaseIn(Camel):
    phone_number: PhoneNumber = Field(examples=["+12125550142"])
    number_type: Type = Field(examples=["local"])


class Purchased(Camel):
    phone_number_id: str | None
    app_id: str
    number: str
    purchase_history_id: str
    order_id: str | None
    created_at: datetime


class Available(Camel):
    number: str
    number_type: str
    location: str
    features: list[str]
    purchase_fee: int = Field(description="Once, in the minor unit.")
    monthly_rental: int = Field(description="In the minor unit.")
    interval_months: int
    currency: str


class AvailableList(Camel):
    phone_numbers: list[Available]
    next_cursor: str | None


class OrderLineIn(Camel):
    phone_number: PhoneNumber = Field(examples=["+12125550142"])
    country: Country = Field("US")


class OrderIn(Camel):
    lines: list[OrderLineIn] = Field(min_length=1, max_length=20)
    expected_total: Whole | None = Field(
        None,
        ge=0,
        le=2**53,
        description="What the quote said, in the minor unit; needed without dryRun.",
    )
    app_id: Id | None = None


class OrderLine(Camel):
    id: str | None
    number: str
    state: str
    reason: str
    phone_number_id: str | None
    purchase_fee: int
    first_rental: int
    rental: int
    interval_months: int


class Order(Camel):
    id: str | None
    state: str
    lines: list[OrderLine]
    net: int
    tax: int
    total: int
    monthly: int
    currency: str
    next_invoice_on: str | None
    app_id: str | None
    created_at: datetime | None


class OrderList(Camel):
    orders: list[Order]
    next_cursor: str | None
