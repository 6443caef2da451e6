"""Webhooks: where an application hears of its numbers. The same with its own key and an admin key."""

from datetime import datetime

from django.db import transaction
from django.utils import timezone
from ninja import Field, Router, Status

from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key, app_key
from chirp_dashboard.api.schemas import Camel, Message
from chirp_dashboard.api.shapes import HEADER_NAMES, Event, HeaderName, HeaderValue, Url
from chirp_dashboard.api.tags import check_match, tagged
from chirp_dashboard.organizations.forms import HEADERS_AT_MOST, KEPT, WebhookForm
from chirp_dashboard.organizations.models import secret_of

from .applications import find_app

own = Router(auth=app_key, by_alias=True, tags=["Webhooks"])
named = Router(auth=admin_key, by_alias=True, tags=["Webhooks"])


REACHABLE = "Reachable from the internet by https; without user name, password and #fragment."
OWN_HEADERS = "Sent with every event. Headers that HTTP or the signature needs cannot be set."


class WebhookIn(Camel):
    url: Url = Field(description=REACHABLE, examples=["https://example.com/hooks"])
    events: list[Event] = Field(min_length=1, max_length=50, examples=[["phone_numbers.assigned"]])
    headers: dict[HeaderName, HeaderValue] = Field(
        {}, max_length=HEADERS_AT_MOST, description=OWN_HEADERS,
        examples=[{"X-Token": "something secret"}], json_schema_extra=HEADER_NAMES,
    )  # fmt: skip


class WebhookChange(Camel):
    url: Url | None = Field(None, description=REACHABLE)
    events: list[Event] | None = Field(None, min_length=1, max_length=50)
    headers: dict[HeaderName, HeaderValue] | None = Field(
        None, max_length=HEADERS_AT_MOST, description=OWN_HEADERS, json_schema_extra=HEADER_NAMES
    )


class Webhook(Camel):
    id: str
    appId: str
    url: str
    events: list[str]
    headers: dict[str, str] = Field(description="Values are not shown again.")
    created_at: datetime
    updated_at: datetime


class NewWebhook(Webhook):
    secret: str = Field(
        description="Signs every delivery (Standard Webhooks). Shown this once; a repeat of the request "
        "shows its end only."
    )


class WebhookList(Camel):
    webhooks: list[Webhook]


def webhook_view(webhook):
    return {
        "id": webhook.public_id,
        "appId": webhook.application.public_id,
        "url": webhook.url,
        "events": webhook.events,
        "headers": dict.fromkeys(webhook.headers, KEPT),
        "createdAt": webhook.created_at,
        "updatedAt": webhook.updated_at,
    }


def cleaned(facts, webhook=None):
    """`facts` as the form of the dashboard cleans them; raises ApiError with the field it refuses."""
    lines = "\n".join(f"{name}: {value}" for name, value in facts["headers"].items())
    form = WebhookForm(facts | {"headers": lines}, webhook=webhook)
    if not form.is_valid():
        field, messages = next(iter(form.errors.items()))
        raise ApiError(400, messages[0], param=field)
    return form.cleaned_data


def create(request, application, payload):
    webhook = application.add_webhook(
        **cleaned(payload.model_dump()), by=request.key.actor, at=timezone.now()
    )
    return Status(
        201, webhook_view(webhook) | {"secret": secret_of(webhook, webhook.secret_version)}
    )


def show_all(application):
    found = application.webhooks.select_related("application").order_by("id")
    return {"webhooks": [webhook_view(webhook) for webhook in found]}


def find(application, webhookId):
    found = application.webhooks.select_related("application__organization")
    if webhook := found.filter(public_id=webhookId).first():
        return webhook
    raise ApiError(404, "There is no such webhook.", param="webhookId")


@transaction.atomic
def change(request, webhook, payload):
    """Under the lock that every change of it takes, so that no version slips in after the check."""
    webhook.application.lock()
    webhook.lock()
    given = payload.model_dump(exclude_none=True)
    facts = {
        "url": webhook.url,
        "events": webhook.events,
        "headers": dict.fromkeys(webhook.headers, KEPT),
    }
    check_match(request, webhook_view(webhook), Webhook)
    webhook.application.change_webhook(
        webhook, **cleaned(facts | given, webhook), by=request.key.actor, at=timezone.now()
    )
    return tagged(webhook_view(webhook), Webhook)


def remove(request, webhook):
    webhook.application.remove_webhook(webhook, by=request.key.actor, at=timezone.now())
    return {"message": "The webhook was removed."}


# With an app key ------------------------------------------------------------------------------


@own.post("/webhooks", response={201: NewWebhook}, summary="Create a webhook of the app")
def create_webhook(request, payload: WebhookIn):
    return create(request, request.key.application, payload)


@own.get("/webhooks", response=WebhookList, summary="List webhooks of the app")
def list_webhooks(request):
    return show_all(request.key.application)


@own.get("/webhooks/{webhookId}", response=Webhook, summary="Get a webhook of the app")
def get_webhook(request, webhookId: str):
    return tagged(webhook_view(find(request.key.application, webhookId)), Webhook)


@own.put("/webhooks/{webhookId}", response=Webhook, summary="Change a webhook of the app")
def change_webhook(request, webhookId: str, payload: WebhookChange):
    return change(request, find(request.key.application, webhookId), payload)


@own.delete("/webhooks/{webhookId}", response=Message, summary="Remove a webhook of the app")
def remove_webhook(request, webhookId: str):
    return remove(request, find(request.key.application, webhookId))


# With an admin key ----------------------------------------------------------------------------

OF_APP = "/apps/{appId}/webhooks"


@named.post(OF_APP, response={201: NewWebhook}, summary="Create a webhook of an app")
def create_webhook_of_app(request, appId: str, payload: WebhookIn):
    return create(request, find_app(request, appId), payload)


@named.get(OF_APP, response=WebhookList, summary="List webhooks of an app")
def list_webhooks_of_app(request, appId: str):
    return show_all(find_app(request, appId))


@named.get(OF_APP + "/{webhookId}", response=Webhook, summary="Get a webhook of an app")
def get_webhook_of_app(request, appId: str, webhookId: str):
    return tagged(webhook_view(find(find_app(request, appId), webhookId)), Webhook)


@named.put(OF_APP + "/{webhookId}", response=Webhook, summary="Change a webhook of an app")
def change_webhook_of_app(request, appId: str, webhookId: str, payload: WebhookChange):
    return change(request, find(find_app(request, appId), webhookId), payload)


@named.delete(OF_APP + "/{webhookId}", response=Message, summary="Remove a webhook of an app")
def remove_webhook_of_app(request, appId: str, webhookId: str):
    return remove(request, find(find_app(request, appId), webhookId))
