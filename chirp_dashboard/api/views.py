"""Phone numbers as the API shows them: rows of dicts, built in one query a page."""

from django.contrib.postgres.expressions import ArraySubquery
from django.db import connection
from django.db.models import DateTimeField, F, OuterRef, Subquery
from django.db.models.functions import Coalesce, JSONObject

from chirp_dashboard.numbers.models import Assignment, PhoneNumber
from chirp_dashboard.organizations.models import Activity
from chirp_dashboard.postgres.prepared import prepared_cursor

from .paging import cursor_of

COUNTED_TO = 10_000
FACTS = ("public_id", "number", "number_type", "city", "region", "capabilities", "label", "state",
         "is_test", "rental_amount", "interval_months", "currency", "releases_on", "purchased_at")  # fmt: skip


def location_of(row):
    return ", ".join(filter(None, [row["city"], row["region"]]))


def owned(organization):
    """The numbers `organization` has."""
    return PhoneNumber.objects.live().filter(organization=organization)


def rows_of(numbers):
    """`numbers` with their applications and the moment of their last change, as dicts."""
    assignments = Assignment.objects.open().filter(phone_number=OuterRef("pk")).order_by("id")
    apps = assignments.values(
        data=JSONObject(
            appId="application__public_id", appName="application__name", appSlug="application__slug"
        )
    )
    changes = Activity.objects.filter(
        organization=OuterRef("organization"), subject=OuterRef("public_id")
    ).order_by("-id")
    changed = Subquery(changes.values("at")[:1], output_field=DateTimeField())
    return numbers.values(
        *FACTS, apps=ArraySubquery(apps), changed_at=Coalesce(changed, F("purchased_at"))
    )


# A page of what an organization has, as `rows_of` would read it, with how many there are. Putting this together
# took longer than reading the rows. Without digits to look for, it is planned once a connection; a search is
# planned for its digits, which may stand in all numbers or in none.
PAGE = """
    SELECT number.id, number.public_id, number.number, number.number_type, number.city, number.region,
           number.capabilities, number.label, number.state, number.is_test, number.rental_amount,
           number.interval_months, number.currency, number.releases_on, number.purchased_at,
           ARRAY(SELECT json_build_object('appId', application.public_id, 'appName', application.name,
                                          'appSlug', application.slug)
                 FROM numbers_assignment assignment
                 JOIN organizations_application application ON application.id = assignment.application_id
                 WHERE assignment.phone_number_id = number.id AND assignment.ended_at IS NULL
                 ORDER BY assignment.id) AS apps,
           coalesce((SELECT activity.at FROM organizations_activity activity
                     WHERE activity.organization_id = number.organization_id
                       AND activity.subject = number.public_id
                     ORDER BY activity.id DESC LIMIT 1), number.purchased_at) AS changed_at,
           ({total}) AS total
    FROM numbers_phonenumber number
    WHERE number.organization_id = %(organization)s AND number.state <> 'released'{condition}
      AND (number.number, number.id) > (%(number)s, %(id)s)
    ORDER BY number.number, number.id LIMIT %(limit)s
"""
ALL = "SELECT numbers FROM numbers_totals WHERE organization_id = %(organization)s"
COUNTED = """SELECT count(*) FROM (
    SELECT FROM numbers_phonenumber number
    WHERE number.organization_id = %(organization)s AND number.state <> 'released'{condition}
    LIMIT %(counted_to)s) AS counted"""
OF_TYPE = " AND number.number_type = %(type)s"
WITH_DIGITS = " AND number.search LIKE %(digits)s"

PAGE_OF_APP = """
    SELECT assignment.id, assignment.number, assignment.assigned_at, number.public_id,
           (SELECT count(*) FROM (
                SELECT FROM numbers_assignment
                WHERE application_id = %(application)s AND ended_at IS NULL
                LIMIT %(counted_to)s) AS counted) AS total
    FROM numbers_assignment assignment
    JOIN numbers_phonenumber number ON number.id = assignment.phone_number_id
    WHERE assignment.application_id = %(application)s AND assignment.ended_at IS NULL
      AND (assignment.number, assignment.id) > (%(number)s, %(id)s)
    ORDER BY assignment.number, assignment.id LIMIT %(limit)s
"""


def page_of_all(organization, page, *, number_type="", digits=""):
    """`(rows, cursor, total)` of the numbers of `organization`, or of those of a type or with `digits`."""
    condition = (OF_TYPE if number_type else "") + (WITH_DIGITS if digits else "")
    total = COUNTED.format(condition=condition) if condition else ALL
    given = {"organization": organization.pk, "type": number_type, "digits": f"%{digits}%"}
    statement = PAGE.format(condition=condition, total=total)
    return read(statement, given, page, cursor=connection.cursor if digits else prepared_cursor)


def page_of_app(application, page):
    """`(rows, cursor, total)` of the numbers assigned to `application`."""
    given = {"application": application.pk}
    return read(PAGE_OF_APP, given, page, cursor=connection.cursor)  # planned for this limit


def read(statement, given, page, *, cursor=prepared_cursor):
    """The rows of `page`; the total is None without rows, and one too many beyond what is counted."""
    number, pk = page.after or ("", 0)
    place = {"number": number, "id": pk, "limit": page.limit + 1, "counted_to": COUNTED_TO + 1}
    with cursor() as reading:
        reading.execute(statement, given | place)
        names = [column.name for column in reading.description]
        rows = [dict(zip(names, row, strict=True)) for row in reading.fetchall()]
    more, rows = len(rows) > page.limit, rows[: page.limit]
    last = cursor_of(rows[-1]["number"], rows[-1]["id"]) if more else None
    return rows, last, rows[0]["total"] if rows else None


def status_of(row):
    if row["state"] == PhoneNumber.State.ACTIVE and row["releases_on"]:
        return "releasing"
    return row["state"]


def number_view(row):
    """A row of `rows_of` as the organization sees it."""
    return {
        "phoneNumberId": row["public_id"],
        "number": row["number"],
        "numberType": row["number_type"],
        "location": location_of(row),
        "features": row["capabilities"],
        "label": row["label"],
        "status": status_of(row),
        "test": row["is_test"],
        "monthlyRental": row["rental_amount"] if row["interval_months"] == 1 else None,
        "currency": row["currency"],
        "releasesOn": row["releases_on"] and row["releases_on"].isoformat(),
        "apps": row["apps"],
        "createdAt": row["purchased_at"],
        "updatedAt": row["changed_at"],
    }


def view_of(number):
    """`number` as the organization sees it now."""
    return number_view(rows_of(PhoneNumber.objects.filter(pk=number.pk)).get())


def assigned_view(assignment):
    """`assignment`, or a dict of it, as its application sees the number."""
    return {
        "phoneNumberId": assignment.phone_number.public_id,
        "appId": assignment.application.public_id,
        "number": assignment.number,
        "createdAt": assignment.assigned_at,
        "updatedAt": assignment.assigned_at,
    }


def assigned_view_with_facts(assignment):
    number = assignment.phone_number
    facts = {"city": number.city, "region": number.region}
    return assigned_view(assignment) | {
        "numberType": number.number_type,
        "location": location_of(facts),
        "features": number.capabilities,
    }
