"""Applications and their keys, and the keys of the organization."""

from django.db import transaction
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status

from chirp_dashboard.api import paging
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key
from chirp_dashboard.api.schemas import (
    AdminKeyIn,
    App,
    AppChange,
    AppIn,
    AppKeyIn,
    AppList,
    KeyList,
    Message,
    NewKey,
    SlugAnswer,
)
from chirp_dashboard.api.shapes import Count, Id, Slug
from chirp_dashboard.api.tags import check_match, tagged
from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.organizations.forms import RESERVED_SLUGS
from chirp_dashboard.organizations.models import ApiKey, Application, SlugTaken

router = Router(auth=admin_key, by_alias=True)


def find_app(request, appId):
    """The application of the key's organization that is called so, archived ones not; else 404."""
    found = Application.objects.open().filter(organization=request.key.organization)
    if application := found.filter(public_id=appId).first():
        return application
    raise ApiError(404, "There is no such application.", param="appId")


def app_view(application):
    paused = application.billing_paused_at is not None
    return {
        "id": application.public_id,
        "slug": application.slug,
        "name": application.name,
        "status": "billing_paused" if paused else "active",
        "createdAt": application.created_at,
        "updatedAt": application.renamed_at or application.created_at,
    }


@router.post("/apps", response={201: App}, tags=["Apps"], summary="Create an app")
def create_app(request, payload: AppIn):
    if payload.slug in RESERVED_SLUGS:
        raise ApiError(400, f"“{payload.slug}” is an address of the dashboard.", param="slug")
    try:
        application = Application.objects.add(
            request.key.organization, name=payload.name, slug=payload.slug,
            kind=Application.Kind.LIVE, by=request.key.actor, at=timezone.now(),
        )  # fmt: skip
    except SlugTaken as refusal:
        raise ApiError(409, str(refusal), code="resource_already_exists", param="slug") from None
    return Status(201, app_view(application))


@router.get("/apps", response=AppList, tags=["Apps"], summary="List apps")
def list_apps(request, page: Query[paging.PageQuery]):
    apps = Application.objects.open().filter(organization=request.key.organization)
    rows, cursor = page.read(apps.values("id"))
    shown = apps.in_bulk([row["id"] for row in rows])
    return {
        "apps": [app_view(shown[row["id"]]) for row in rows if row["id"] in shown],
        "nextCursor": cursor,
        "totalCount": apps.count(),
    }


class SlugQuery(Schema):
    slug: Slug


@router.get("/apps/check-slug", response=SlugAnswer, tags=["Apps"], summary="Is a slug free?")
def check_slug(request, query: Query[SlugQuery]):
    apps = Application.objects.filter(organization=request.key.organization)
    taken = query.slug in RESERVED_SLUGS or apps.filter(slug=query.slug).exists()
    return {"slug": query.slug, "available": not taken}


@router.get("/apps/{appId}", response=App, tags=["Apps"], summary="Get an app")
def get_app(request, appId: str):
    return tagged(app_view(find_app(request, appId)), App)


@router.put("/apps/{appId}", response=App, tags=["Apps"], summary="Rename an app")
def rename_app(request, appId: str, payload: AppChange):
    with transaction.atomic():
        application = find_app(request, appId)
        application.lock()
        check_match(request, app_view(application), App)
        application.rename(payload.name, by=request.key.actor, at=timezone.now())
    return tagged(app_view(application), App)


@router.delete("/apps/{appId}", response=Message, tags=["Apps"], summary="Archive an app")
def delete_app(request, appId: str):
    """Its numbers stay in the organization and go on being billed; its slug stays taken."""
    application = find_app(request, appId)
    ended = Assignment.objects.archive(application, by=request.key.actor, at=timezone.now())
    return {"message": f"{application} was archived; {ended} assignments ended."}


# Keys -----------------------------------------------------------------------------------------


class KeyQuery(Schema):
    limit: Count = Field(paging.DEFAULT, ge=1, le=paging.LARGEST)
    offset: Count = Field(0, ge=0, le=10_000)


class AppKeyQuery(KeyQuery):
    appId: Id | None = None


def key_view(key):
    return {
        "id": key.public_id,
        "name": key.name,
        "keyPreview": key.preview,
        "appId": key.application and key.application.public_id,
        "lastUsedAt": key.used_at,
        "createdAt": key.created_at,
        "updatedAt": key.created_at,
    }


def new_key(request, name, application=None):
    key, secret = ApiKey.objects.issue(
        request.key.organization, name=name, application=application,
        by=request.key.actor, at=timezone.now(),
    )  # fmt: skip
    return Status(201, key_view(key) | {"key": secret})


def list_keys(request, query, **kind):
    keys = ApiKey.objects.in_use().filter(organization=request.key.organization, **kind)
    keys = keys.select_related("application").order_by("-id")
    shown = keys[query.offset : query.offset + query.limit]
    return {"keys": [key_view(key) for key in shown], "totalCount": keys.count()}


def revoke(request, keyId, kind):
    keys = ApiKey.objects.in_use().filter(organization=request.key.organization, kind=kind)
    key = keys.filter(public_id=keyId).select_related("application", "organization").first()
    if key is None:
        raise ApiError(404, "There is no such key in use.", param="keyId")
    key.revoke(by=request.key.actor, at=timezone.now())
    return {"message": f"{key} was revoked."}


@router.post("/app-keys", response={201: NewKey}, tags=["Keys"], summary="Create an app key")
def create_app_key(request, payload: AppKeyIn):
    return new_key(request, payload.name, find_app(request, payload.app_id))


@router.get("/app-keys", response=KeyList, tags=["Keys"], summary="List app keys")
def list_app_keys(request, query: Query[AppKeyQuery]):
    if not query.appId:
        return list_keys(request, query, kind=ApiKey.Kind.APP)
    return list_keys(request, query, application=find_app(request, query.appId))


@router.delete("/app-keys/{keyId}", response=Message, tags=["Keys"], summary="Revoke an app key")
def delete_app_key(request, keyId: str):
    return revoke(request, keyId, ApiKey.Kind.APP)


@router.post("/admin-keys", response={201: NewKey}, tags=["Keys"], summary="Create an admin key")
def create_admin_key(request, payload: AdminKeyIn):
    return new_key(request, payload.name)


@router.get("/admin-keys", response=KeyList, tags=["Keys"], summary="List admin keys")
def list_admin_keys(request, query: Query[KeyQuery]):
    return list_keys(request, query, kind=ApiKey.Kind.ADMIN)


@router.delete(
    "/admin-keys/{keyId}", response=Message, tags=["Keys"], summary="Revoke an admin key"
)
def delete_admin_key(request, keyId: str):
    return revoke(request, keyId, ApiKey.Kind.ADMIN)
