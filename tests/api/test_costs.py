"""What was charged, by application: the API's sums are those of the page, and add up to the cent."""

import random
from datetime import timedelta
from decimal import Decimal

import pytest
import time_machine
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chirp_dashboard.billing.models import Charge, Rental
from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.numbers.spending import Spending, split
from chirp_dashboard.organizations.models import Actor, Application, Organization

from ..numbers.conftest import NOON, number, prices, purchase, stock
from ..numbers.owned import SINCE, own, own_many

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db

SUMMARY, RECORDS = "/organization/billing/summary", "/organization/billing/records"
OPERATOR = Actor.system("tests")
TODAY = NOON.date()
FIRST, LAST = TODAY - timedelta(days=400), TODAY + timedelta(days=400)


def summary_of(call, application=None, *, start=FIRST, end=LAST):
    asked = f"{SUMMARY}?start_date={start}&end_date={end}"
    if application:
        asked += f"&app_id={application.public_id}"
    answer = call("GET", asked)
    assert answer.status_code == 200, answer.content
    return answer.json()


def cost_of(call, application=None, **span):
    return Decimal(summary_of(call, application, **span)["total_cost"])


def records_of(call, query=""):
    return call("GET", f"{RECORDS}?limit=100{query}").json()["records"]


def credit(organization, amount, *, corrects=None, at=NOON, on=None):
    return Charge.objects.issue_credit(
        organization, amount=amount, reason="Late", by=OPERATOR, at=at, corrects=corrects, on=on
    )


# Sums -----------------------------------------------------------------------------------------


def test_summary_of_an_app_is_its_share_of_each_charge(
    admin_call, number, storefront, alerts, owner
):
    number.assign(alerts, by=owner, at=NOON + timedelta(hours=1))
    number.assign(storefront, by=owner, at=NOON + timedelta(hours=2))
    third = Application.objects.create(organization=number.organization, name="Third", slug="third")
    number.assign(third, by=owner, at=NOON + timedelta(hours=3))
    Rental.objects.charge_due(on=TODAY + timedelta(days=8), at=NOON + timedelta(days=8))
    # Fee 1.00 and 0.27 before it was assigned to anything; then 1.00 among three.
    assert summary_of(admin_call)["total_cost"] == "2.27"
    sums = [summary_of(admin_call, each) for each in (alerts, storefront, third)]
    assert [each["total_cost"] for each in sums] == ["0.34", "0.33", "0.33"]
    assert {each["record_count"] for each in sums} == {1}
    assert sums[0]["by_product"] == {"phone-numbers": "0.34"}
    page = Spending(number.organization, TODAY, {"month": "2026-12"})
    assert {share.name: share.amount for share in page.shares} == {
        "Alerts": 34, "Storefront": 33, "Third": 33, "Not assigned": 127,
    }  # fmt: skip


@pytest.mark.parametrize("seed", range(2))
def test_apps_and_what_is_assigned_to_none_add_up_to_the_total(
    admin_call, organization, stock, purchase, owner, seed
):
    """Random lives of five numbers and seven applications over five months, with odd cents and credits."""
    chance = random.Random(seed)
    apps = [
        Application.objects.create(organization=organization, name=f"App {n}", slug=f"app-{n}")
        for n in range(7)
    ]
    numbers = purchase(*stock)
    Rental.objects.update(amount=chance.choice([101, 97, 333]))
    at = NOON
    for month in range(1, 6):
        for _ in range(12):
            at += timedelta(hours=chance.randint(1, 30))
            act(chance.choice(numbers), chance.choice(apps), by=owner, at=at)
        at = max(at, NOON + timedelta(days=31 * month))
        Rental.objects.charge_due(on=organization.local_date(at), at=at)
        credit_something(organization, chance, at=at)
    days = sorted({charge.on for charge in Charge.objects.all()})
    for start, end in [(FIRST, LAST), (days[1], days[-2]), (days[2], days[2])]:
        charges = Charge.objects.filter(on__gte=start, on__lte=end)
        none = split(
            charges, "SELECT coalesce(sum(amount), 0)::bigint FROM split WHERE application_id IS NULL"
        )[0][0]  # fmt: skip
        parts = [cost_of(admin_call, app, start=start, end=end) for app in apps]
        assert sum(parts) + Decimal(none) / 100 == cost_of(admin_call, start=start, end=end)
        assert sum(parts) != 0 or start == end


def act(number, application, *, by, at):
    if number.assignments.open().filter(application=application).exists():
        number.remove(application, by=by, at=at)
    else:
        number.assign(application, by=by, at=at)


def credit_something(organization, chance, *, at):
    charges = Charge.objects.filter(kind="rental").order_by("id")
    corrected = chance.choice([None, *charges])
    left = Charge.objects.left_of([corrected])[corrected] if corrected else 50
    if left:
        credit(organization, chance.randint(1, left), corrects=corrected, at=at)


@pytest.mark.parametrize(
    ("currency", "total", "parts"),
    [("JPY", "227", ["64", "63"]), ("KWD", "0.227", ["0.064", "0.063"]), ("USD", "2.27", ["0.64", "0.63"])],
)  # fmt: skip
def test_decimals_are_those_of_the_currency(
    admin_call, organization, storefront, alerts, currency, total, parts
):
    Organization.objects.filter(pk=organization.pk).update(currency=currency)
    organization.refresh_from_db()
    (owned,) = own(organization, "+12125550142", currency=currency)
    share(owned, storefront, alerts)
    charge(owned, 127, at=NOON)
    charge(owned, 100, at=SINCE)  # before anybody had it
    assert summary_of(admin_call)["total_cost"] == total
    assert [summary_of(admin_call, app)["total_cost"] for app in (storefront, alerts)] == parts
    assert {each["cost_currency"] for each in records_of(admin_call)} == {currency}
    costs = [Decimal(each["cost_amount"]) for each in records_of(admin_call)]
    assert sum(costs) == Decimal(total)


def share(number, *applications, at=SINCE + timedelta(days=1)):
    Assignment.objects.bulk_create(
        Assignment(
            organization=number.organization, phone_number=number, application=application,
            number=number.number, assigned_at=at + timedelta(seconds=place),
        )
        for place, application in enumerate(applications)
    )  # fmt: skip


def charge(number, amount, *, at, kind="adjustment"):
    from chirp_dashboard.billing.models import Entry

    entry = Entry.objects.create(organization=number.organization, kind="rental", at=at)
    return Charge.objects.create(
        organization=number.organization, entry=entry, kind=kind, phone_number=number,
        amount=amount, currency=number.organization.currency, on=at.date(), created_at=at,
    )  # fmt: skip


def test_credit_takes_back_from_those_who_bore_the_charge(
    admin_call, organization, purchase, stock, storefront, alerts, owner
):
    (number,) = purchase(stock[0], application=storefront)
    number.assign(alerts, by=owner, at=NOON + timedelta(hours=1))
    fee = Charge.objects.get(kind="purchase_fee")
    credit(organization, 100, corrects=fee, at=NOON + timedelta(days=1))
    credit(organization, 7, at=NOON + timedelta(days=1))
    assert summary_of(admin_call, storefront)["total_cost"] == "0.27"
    assert summary_of(admin_call, storefront)["record_count"] == 3
    assert summary_of(admin_call, alerts)["total_cost"] == "0.00"
    assert summary_of(admin_call)["total_cost"] == "0.20"
    credits = [each for each in records_of(admin_call) if each["record_type"] == "credit"]
    assert [(each["cost_amount"], each["app_id"], each["phone_number"]) for each in credits] == [
        ("-0.07", None, None), ("-1.00", storefront.public_id, number.number),
    ]  # fmt: skip


def test_credit_alone_makes_a_negative_sum(admin_call, organization, number):
    credit(organization, 500, at=NOON + timedelta(days=3))
    day = TODAY + timedelta(days=3)
    assert summary_of(admin_call, start=day, end=day)["total_cost"] == "-5.00"


def test_archived_app_keeps_what_it_spent(admin_call, purchase, stock, storefront, owner):
    purchase(stock[0], application=storefront)
    Assignment.objects.archive(storefront, by=owner, at=NOON + timedelta(days=1))
    assert summary_of(admin_call, storefront)["total_cost"] == "1.27"


# Days -----------------------------------------------------------------------------------------


def test_both_days_of_a_span_count(admin_call, number):
    day = timedelta(days=1)
    assert summary_of(admin_call, start=TODAY, end=TODAY)["total_cost"] == "1.27"
    assert summary_of(admin_call, start=TODAY - day, end=TODAY - day)["record_count"] == 0
    assert summary_of(admin_call, start=TODAY + day, end=LAST)["total_cost"] == "0.00"
    assert len(records_of(admin_call, f"&start_date={TODAY}&end_date={TODAY}")) == 2
    assert records_of(admin_call, f"&end_date={TODAY - day}") == []
    assert len(records_of(admin_call, f"&start_date={TODAY}")) == 2


@pytest.mark.parametrize(
    ("query", "start", "end"),
    [("", "2026-11-01", "2026-11-23"), ("?end_date=2026-10-15", "2026-10-01", "2026-10-15"),
     ("?start_date=2026-11-20", "2026-11-20", "2026-11-23"),
     ("?start_date=2027-02-03", "2027-02-03", "2027-02-03"),
     ("?start_date=9999-12-31", "9999-12-31", "9999-12-31")],
)  # fmt: skip
def test_days_that_are_not_said_are_those_of_the_month_so_far(admin_call, query, start, end):
    with time_machine.travel(NOON, tick=False):
        answer = admin_call("GET", f"{SUMMARY}{query}").json()
    assert answer["period"] == {"start": start, "end": end}


def test_days_are_those_of_the_organization(admin_call, organization):
    Organization.objects.filter(pk=organization.pk).update(time_zone="Pacific/Auckland")
    with time_machine.travel(NOON, tick=False):
        assert admin_call("GET", SUMMARY).json()["period"]["end"] == "2026-11-24"


@pytest.mark.parametrize("path", [SUMMARY, RECORDS])
def test_span_that_ends_before_it_begins_is_400(admin_call, path):
    answer = admin_call("GET", f"{path}?start_date=2026-11-02&end_date=2026-11-01")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "end_date")


# Whose ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("app_id", "status"), [("app_2wGqVtZ5jK3mN8pQ4rS6tUvWxYz", 404), ("app id", 400), ("", 400)]
)
def test_app_that_is_not_there_is_refused_with_its_param(admin_call, app_id, status):
    answer = admin_call("GET", f"{SUMMARY}?app_id={app_id.replace(' ', '%20')}")
    error = answer.json()["error"]
    assert (answer.status_code, error["type"], error["param"]) == (
        status, "invalid_request_error", "app_id",
    )  # fmt: skip


def test_app_of_another_organization_is_404(admin_call, rival_call, number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    assert rival_call("GET", f"{SUMMARY}?app_id={storefront.public_id}").status_code == 404
    assert summary_of(rival_call)["record_count"] == 0
    assert records_of(rival_call) == []


def test_record_names_the_app_that_had_the_number_alone(
    admin_call, organization, purchase, stock, storefront, alerts, owner
):
    alone, shared, none = purchase(*stock[:3])
    alone.assign(storefront, by=owner, at=NOON + timedelta(hours=1))
    shared.assign(storefront, by=owner, at=NOON + timedelta(hours=1))
    shared.assign(alerts, by=owner, at=NOON + timedelta(hours=2))
    Rental.objects.charge_due(on=TODAY + timedelta(days=8), at=NOON + timedelta(days=8))
    alone.remove(storefront, by=owner, at=NOON + timedelta(days=9))
    records = records_of(admin_call)
    december = {
        each["phone_number"]: each["app_id"] for each in records if each["created_at"] > "2026-12"
    }
    assert december == {
        alone.number: storefront.public_id, shared.number: None, none.number: None,
    }  # fmt: skip
    assert {each["app_id"] for each in records if each["created_at"] < "2026-12"} == {None}
    for record in records:
        assert record == admin_call("GET", f"{RECORDS}/{record['id']}").json()
        assert record["organization_id"] == organization.public_id
    assert organization.public_id.startswith("org_")


# Pages and queries ----------------------------------------------------------------------------


@pytest.fixture
def charged(organization, storefront, alerts):
    """`charged(40)`: as many numbers, shared by two applications, each charged on three days."""

    def charged(count):
        for owned in own_many(organization, count):
            share(owned, storefront, alerts)
            for days in (1, 2, 40):
                charge(owned, 100, at=SINCE + timedelta(days=days, hours=1))

    return charged


def test_pages_of_records_neither_skip_nor_repeat(admin_call, organization, charged):
    charged(11)
    seen, cursor = [], ""
    while cursor is not None:
        body = admin_call("GET", f"{RECORDS}?limit=4&cursor={cursor}").json()
        seen += [
            (each["occurred_at"], int(each["id"].removeprefix("chg_"))) for each in body["records"]
        ]
        if len(seen) == 4:  # one of today comes in before all of them
            credit(organization, 1, at=NOON)
        cursor = body["next_cursor"]
    assert seen == sorted(seen, reverse=True)
    assert len(seen) == len(set(seen)) == 33


@pytest.mark.parametrize("cursor", ["x", "0-1", "1000000-1", "5", "5-", "5-0", "-", "739943-4711x"])
def test_cursor_of_no_list_is_400(admin_call, cursor):
    answer = admin_call("GET", f"{RECORDS}?cursor={cursor}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "cursor")


def test_cursor_of_rows_that_are_gone_starts_where_they_were(admin_call, number):
    later = admin_call("GET", f"{RECORDS}?cursor={LAST.toordinal()}-1").json()
    assert len(later["records"]) == 2
    assert admin_call("GET", f"{RECORDS}?cursor=1-1").json()["records"] == []


def plan_of(query):
    """How PostgreSQL answers `query`, where it may neither read a whole table nor sort."""
    with connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off; SET LOCAL enable_sort = off")
        cursor.execute(f"EXPLAIN {query.replace('%', '%%')}")
        return "\n".join(row[0] for row in cursor.fetchall())


@pytest.mark.parametrize("span", ["", "&start_date=2026-09-01&end_date=2026-09-30"])
@pytest.mark.parametrize("cursor", ["", "739860-1"])
def test_records_are_read_from_an_index_in_their_order(admin_call, charged, span, cursor):
    charged(20)
    with CaptureQueriesContext(connection) as queries:
        admin_call("GET", f"{RECORDS}?limit=5&cursor={cursor}{span}")
    (listed,) = [each["sql"] for each in queries if "LIMIT 6" in each["sql"]]
    plan = plan_of(listed)
    assert "Index Scan Backward using charge_of_organization" in plan, plan
    assert "Sort" not in plan


@pytest.mark.parametrize("count", [2, 33])
@time_machine.travel(NOON, tick=False)
def test_queries_are_as_many_for_any_number_of_charges(admin_call, storefront, charged, count):
    charged(count)
    asked = {
        f"{RECORDS}?limit=100": 4,
        f"{RECORDS}?limit=100&start_date=2026-09-02": 4,
        f"{SUMMARY}?start_date=2026-09-01": 3,
        f"{SUMMARY}?start_date=2026-09-01&app_id={storefront.public_id}": 4,
    }
    counted = {}
    for path in asked:
        admin_call("GET", path)
        with CaptureQueriesContext(connection) as queries:
            assert admin_call("GET", path).status_code == 200
        counted[path] = len(queries)
    assert counted == asked
