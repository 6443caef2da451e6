"""Phone numbers: reading them, and what is done with those the organization has."""

import re
from typing import Literal

from django.db import transaction
from django.utils import timezone
from ninja import Field, Query, Router, Schema, Status
from ninja.responses import Response

from chirp_dashboard.api import paging
from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.keys import admin_key, app_key
from chirp_dashboard.api.schemas import (
    AppIds,
    Assign,
    AssignedNumber,
    Message,
    Number,
    NumberList,
    NumberOfApp,
    NumberOfAppList,
    Released,
    Timeline,
)
from chirp_dashboard.api.shapes import Type, WithDigits
from chirp_dashboard.api.tags import check_match, tagged
from chirp_dashboard.api.views import (
    COUNTED_TO,
    assigned_view,
    assigned_view_with_facts,
    number_view,
    owned,
    page_of_all,
    page_of_app,
    view_of,
)
from chirp_dashboard.numbers.models import Assignment, Totals
from chirp_dashboard.numbers.models.assigning import NotAssigned
from chirp_dashboard.numbers.models.releasing import NOW, PERIOD_END
from chirp_dashboard.numbers.timeline import sentence
from chirp_dashboard.organizations.models import Activity, Application

from .applications import find_app

router = Router(by_alias=True, tags=["Phone numbers"])


def find_number(request, phoneNumberId, *, live=True):
    """The number of the key's organization that is called so; else 404."""
    numbers = owned(request.key.organization) if live else request.key.organization.phone_numbers
    found = numbers.filter(public_id=phoneNumberId).select_related("organization")
    if number := found.first():
        return number
    raise ApiError(404, "Your organization has no such number.", param="phoneNumberId")


def count_up_to(rows):
    return rows.values("pk")[: COUNTED_TO + 1].count()


def capped(count):
    """`count`, or None beyond what is counted."""
    return count if count <= COUNTED_TO else None


# With an app key ------------------------------------------------------------------------------


@router.get(
    "/phone-numbers", response=NumberOfAppList, auth=app_key, summary="List the app's numbers"
)
def list_numbers_of_app(request, page: Query[paging.NumberPageQuery]):
    application = request.key.application
    rows, cursor, count = page_of_app(application, page)
    shown = [
        {
            "phoneNumberId": row["public_id"],
            "appId": application.public_id,
            "number": row["number"],
            "createdAt": row["assigned_at"],
            "updatedAt": row["assigned_at"],
        }
        for row in rows
    ]
    if count is None:
        count = count_up_to(Assignment.objects.open().filter(application=application))
    return Response({"phoneNumbers": shown, "nextCursor": cursor, "totalCount": capped(count)})


@router.post(
    "/phone-numbers",
    response={201: NumberOfApp},
    auth=app_key,
    summary="Assign a number to the app",
)
def assign_to_own_app(request, payload: Assign):
    number = number_for(request, request.key.application, payload.phone_number_id)
    return Status(201, assigned_view(assign(request, number, request.key.application)))


@router.delete(
    "/phone-numbers/{phoneNumberId}",
    response=Message,
    auth=app_key,
    summary="Remove a number from the app",
)
def remove_from_own_app(request, phoneNumberId: str):
    """The organization keeps the number and goes on paying for it."""
    return remove(request, request.key.application, phoneNumberId)


# With an admin key: assignments ---------------------------------------------------------------


@router.post(
    "/organization/apps/{appId}/phone-numbers",
    response={201: AssignedNumber},
    auth=admin_key,
    summary="Assign a number to an app",
)
def assign_to_app(request, appId: str, payload: Assign):
    application = find_app(request, appId)
    number = number_for(request, application, payload.phone_number_id)
    return Status(201, assigned_view_with_facts(assign(request, number, application)))


@router.delete(
    "/organization/apps/{appId}/phone-numbers/{phoneNumberId}",
    response=Message,
    auth=admin_key,
    summary="Remove a number from an app",
)
def remove_from_app(request, appId: str, phoneNumberId: str):
    """The organization keeps the number and goes on paying for it."""
    return remove(request, find_app(request, appId), phoneNumberId)


@router.put(
    "/organization/phone-numbers/{phoneNumberId}/apps",
    response=Number,
    auth=admin_key,
    summary="Set all apps of a number",
)
def set_apps(request, phoneNumberId: str, payload: AppIds):
    """Replaces what was assigned before; `[]` takes the number out of every app and keeps it."""
    wanted = [find_app(request, appId) for appId in dict.fromkeys(payload.app_ids)]
    with transaction.atomic():
        number = find_number(request, phoneNumberId)
        for application in sorted(wanted, key=lambda each: each.pk):
            application.lock()
        number.lock()
        check_match(request, view_of(number), Number)
        replace(request, number, wanted)
        return tagged(view_of(number), Number)


def number_for(request, application, phoneNumberId):
    """A number that `application` may take: test applications have numbers of their own kind."""
    numbers = owned(request.key.organization).select_related("organization")
    found = numbers.filter(public_id=phoneNumberId, is_test=application.is_test).first()
    if found is None:
        raise ApiError(404, "Your organization has no such number.", param="phoneNumberId")
    return found


def assign(request, number, application):
    if number.assignments.open().filter(application=application).exists():
        raise ApiError(
            409, f"{number} is already assigned to {application}.", code="resource_already_exists",
            param="phoneNumberId",
        )  # fmt: skip
    return number.assign(application, by=request.key.actor, at=timezone.now())


def remove(request, application, phoneNumberId):
    number = number_for(request, application, phoneNumberId)
    try:
        number.remove(application, by=request.key.actor, at=timezone.now())
    except NotAssigned as refusal:
        raise ApiError(
            400, str(refusal), code="phone_number_not_assigned", param="phoneNumberId"
        ) from None
    return {"message": f"{number} was removed from {application}. Your organization keeps it."}


def replace(request, number, wanted):
    """Assign `number` to the applications `wanted` and to no other, under its lock."""
    by, at = request.key.actor, timezone.now()
    assigned = {
        each.application for each in number.assignments.open().select_related("application")
    }
    for application in assigned - set(wanted):
        number.remove(application, by=by, at=at)
    for application in wanted:
        if application not in assigned:
            number.assign(application, by=by, at=at)


# With an admin key: the organization's numbers ------------------------------------------------


class NumberQuery(paging.NumberPageQuery):
    numberType: Type | None = None
    q: WithDigits = Field("", description="Digits that stand in the number.")


@router.get(
    "/organization/phone-numbers",
    response=NumberList,
    auth=admin_key,
    summary="List the organization's numbers",
)
def list_numbers(request, asked: Query[NumberQuery]):
    """Read and written without a detour: of all requests, programs make this one most."""
    organization, kind = request.key.organization, asked.numberType or ""
    digits = re.sub("[^0-9]", "", asked.q)[:20]
    rows, cursor, count = page_of_all(organization, asked, number_type=kind, digits=digits)
    if not kind and not digits:
        count = total(organization) if count is None else count
    else:
        count = capped(found(organization, kind, digits) if count is None else count)
    return Response(
        {
            "phoneNumbers": [number_view(row) for row in rows],
            "nextCursor": cursor,
            "totalCount": count,
        }
    )


def found(organization, kind, digits):
    """How many there are, where a page behind the last row is asked for."""
    numbers = owned(organization).filter(search__contains=digits)
    return count_up_to(numbers.filter(number_type=kind) if kind else numbers)


def total(organization):
    kept = Totals.objects.filter(organization=organization).values_list("numbers", flat=True)
    return kept.first() or 0


@router.get(
    "/organization/phone-numbers/{phoneNumberId}",
    response=Number,
    auth=admin_key,
    summary="Get a number",
)
def get_number(request, phoneNumberId: str):
    return tagged(view_of(find_number(request, phoneNumberId, live=False)), Number)


class ReleaseQuery(Schema):
    when: Literal[NOW, PERIOD_END] = Field(NOW, description="now or period_end")


@router.delete(
    "/organization/phone-numbers/{phoneNumberId}",
    response=Released,
    auth=admin_key,
    summary="Release a number",
)
def release(request, phoneNumberId: str, query: Query[ReleaseQuery]):
    """Gives the number back: every assignment and the rental end. It can be undone for 14 days."""
    number = find_number(request, phoneNumberId)
    affected = Application.objects.filter(
        assignments__phone_number=number, assignments__ended_at=None
    ).order_by("assignments__id")
    apps = [
        {"appId": each.public_id, "appName": each.name, "appSlug": each.slug} for each in affected
    ]
    number.release(when=query.when, by=request.key.actor, at=timezone.now())
    return {"success": True, "phoneNumberId": number.public_id, "affectedApps": apps}


@router.post(
    "/organization/phone-numbers/{phoneNumberId}/cancel-release",
    response=Number,
    auth=admin_key,
    summary="Cancel a scheduled release",
)
def cancel_release(request, phoneNumberId: str):
    number = find_number(request, phoneNumberId)
    number.cancel_release(by=request.key.actor, at=timezone.now())
    return tagged(view_of(number), Number)


@router.post(
    "/organization/phone-numbers/{phoneNumberId}/undo-release",
    response=Number,
    auth=admin_key,
    summary="Undo a release",
)
def undo_release(request, phoneNumberId: str):
    """Brings number, label and assignments back without a purchase fee, within 14 days."""
    number = find_number(request, phoneNumberId, live=False)
    number.undo_release(by=request.key.actor, at=timezone.now())
    return tagged(view_of(number), Number)


@router.get(
    "/organization/phone-numbers/{phoneNumberId}/timeline",
    response=Timeline,
    auth=admin_key,
    summary="What happened to a number",
)
def timeline(request, phoneNumberId: str, page: Query[paging.PageQuery]):
    number = find_number(request, phoneNumberId, live=False)
    happened = Activity.objects.filter(
        organization=number.organization, subject=number.public_id
    ).values("verb", "before", "after", "actor_name", "at")
    rows, cursor = page.read(happened, descending=True)
    return {"events": [event_view(row) for row in rows], "nextCursor": cursor}


def event_view(row):
    facts = Activity(verb=row["verb"], before=row["before"], after=row["after"])
    return {
        "event": row["verb"],
        "description": sentence(facts),
        "actor": row["actor_name"],
        "occurredAt": row["at"],
    }
