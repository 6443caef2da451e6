"""Reading numbers and what is done with those the organization has, as documented."""

import pytest
from django.utils import timezone

from chirp_dashboard.api.schemas import NumberList
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import Activity, Application

from ..numbers.conftest import number, prices, purchase, stock
from ..numbers.owned import own_many, put

__all__ = ["number", "prices", "purchase", "stock"]

pytestmark = pytest.mark.django_db


def test_seed_document_assigns_with_an_app_key(app_call, number, storefront):
    answer = app_call("POST", "/phone-numbers", {"phoneNumberId": number.public_id})
    assert answer.status_code == 201
    body = answer.json()
    assert set(body) == {"phoneNumberId", "appId", "number", "createdAt", "updatedAt"}
    assert (body["phoneNumberId"], body["appId"]) == (number.public_id, storefront.public_id)
    assert body["number"] == number.number
    assert number.assignments.open().count() == 1
    activity = Activity.objects.filter(verb="assigned").get()
    assert activity.actor_kind == "key"


def test_seed_document_removes_with_an_app_key(app_call, number, storefront, owner):
    number.assign(storefront, by=owner, at=timezone.now())
    answer = app_call("DELETE", f"/phone-numbers/{number.public_id}")
    assert (answer.status_code, set(answer.json())) == (200, {"message"})
    assert not number.assignments.open().exists()
    again = app_call("DELETE", f"/phone-numbers/{number.public_id}")
    assert again.status_code == 400
    assert again.json()["error"]["code"] == "phone_number_not_assigned"


def test_assigning_twice_is_409(app_call, number):
    body = {"phoneNumberId": number.public_id, "telnyxMessagingProfile": {"id": 1}}
    app_call("POST", "/phone-numbers", body)
    again = app_call("POST", "/phone-numbers", body)
    assert again.status_code == 409
    assert again.json()["error"]["code"] == "resource_already_exists"


def test_live_and_test_numbers_stay_with_applications_of_their_kind(
    admin_call, number, organization, storefront, owner
):
    sandbox = Application.objects.create(
        organization=organization, name="Sandbox", slug="sandbox", kind=Application.Kind.TEST
    )
    made_up = PhoneNumber.objects.add_test(
        sandbox, "+15005550142", number_type="local", by=owner, at=timezone.now()
    )
    for application, other in ((storefront, made_up), (sandbox, number)):
        path = f"/organization/apps/{application.public_id}/phone-numbers"
        answer = admin_call("POST", path, {"phoneNumberId": other.public_id})
        assert answer.status_code == 404
        assert answer.json()["error"]["param"] == "phoneNumberId"
    assert not number.assignments.exists()
    assert [each.application for each in made_up.assignments.all()] == [sandbox]


def test_assigning_to_a_named_app_tells_facts(admin_call, number, storefront):
    path = f"/organization/apps/{storefront.public_id}/phone-numbers"
    body = admin_call("POST", path, {"phoneNumberId": number.public_id}).json()
    assert (body["numberType"], body["location"]) == ("local", "New York, NY")
    assert body["features"] == number.capabilities
    assert admin_call("DELETE", f"{path}/{number.public_id}").status_code == 200


def test_number_is_shared_by_setting_its_apps(admin_call, number, storefront, alerts):
    path = f"/organization/phone-numbers/{number.public_id}/apps"
    both = admin_call("PUT", path, {"appIds": [storefront.public_id, alerts.public_id]})
    assert [app["appSlug"] for app in both.json()["apps"]] == ["storefront", "alerts"]
    one = admin_call("PUT", path, {"appIds": [alerts.public_id]})
    assert [app["appSlug"] for app in one.json()["apps"]] == ["alerts"]
    none = admin_call("PUT", path, {"appIds": []})
    assert none.json()["apps"] == []
    assert organization_has(admin_call, number)


def organization_has(call, number):
    return call("GET", f"/organization/phone-numbers/{number.public_id}").status_code == 200


def test_put_of_an_old_version_changes_nothing(admin_call, number, storefront, owner):
    path = f"/organization/phone-numbers/{number.public_id}"
    version = admin_call("GET", path).headers["ETag"]
    number.rename("Van", by=owner, at=timezone.now())
    late = admin_call("PUT", f"{path}/apps", {"appIds": [storefront.public_id]}, If_Match=version)
    assert late.status_code == 412
    assert not number.assignments.exists()
    version = admin_call("GET", path).headers["ETag"]
    now = admin_call("PUT", f"{path}/apps", {"appIds": [storefront.public_id]}, If_Match=version)
    assert now.status_code == 200
    assert now.headers["ETag"] != version


def test_unknown_app_in_a_put_changes_nothing(admin_call, rival_application, number, storefront):
    path = f"/organization/phone-numbers/{number.public_id}/apps"
    body = {"appIds": [storefront.public_id, rival_application.public_id]}
    assert admin_call("PUT", path, body).status_code == 404
    assert not number.assignments.exists()


def test_release_without_when_is_now_and_can_be_undone(admin_call, number, storefront, owner):
    number.assign(storefront, by=owner, at=timezone.now())
    path = f"/organization/phone-numbers/{number.public_id}"
    released = admin_call("DELETE", path).json()
    assert released["success"] is True
    assert [app["appSlug"] for app in released["affectedApps"]] == ["storefront"]
    assert admin_call("GET", path).json()["status"] == "released"
    undone = admin_call("POST", f"{path}/undo-release").json()
    assert undone["status"] == "active"
    assert [app["appSlug"] for app in undone["apps"]] == ["storefront"]


def test_release_at_period_end_can_be_cancelled(admin_call, number):
    path = f"/organization/phone-numbers/{number.public_id}"
    assert admin_call("DELETE", f"{path}?when=period_end").status_code == 200
    assert admin_call("GET", path).json()["status"] == "releasing"
    kept = admin_call("POST", f"{path}/cancel-release").json()
    assert (kept["status"], kept["releasesOn"]) == ("active", None)
    assert admin_call("POST", f"{path}/cancel-release").status_code == 409
    assert admin_call("DELETE", f"{path}?when=tomorrow").json()["error"]["param"] == "when"


def test_timeline_tells_who_did_what(admin_call, number):
    admin_call("DELETE", f"/organization/phone-numbers/{number.public_id}")
    path = f"/organization/phone-numbers/{number.public_id}/timeline"
    events = admin_call("GET", path).json()["events"]
    assert [event["event"] for event in events] == ["released", "purchased"]
    assert events[0]["actor"].startswith("Tests (sk_admin_****")


def test_pages_neither_skip_nor_repeat_while_rows_change(admin_call, purchase, stock, owner):
    numbers = purchase(*stock)
    seen, cursor = [], ""
    while cursor is not None:
        body = admin_call("GET", f"/organization/phone-numbers?limit=2&cursor={cursor}").json()
        seen += [each["number"] for each in body["phoneNumbers"]]
        cursor = body["nextCursor"]
        if len(seen) == 2:  # one that was seen goes, others change
            first = next(each for each in numbers if each.number == seen[0])
            first.release(when="now", by=owner, at=timezone.now())
            numbers[-1].rename("Changed", by=owner, at=timezone.now())
    assert seen == sorted(each.number for each in numbers)
    assert body["totalCount"] == len(numbers) - 1


@pytest.mark.parametrize("query", ["limit=0", "limit=101", "limit=x", "cursor=%00", "cursor=abc"])
def test_page_that_makes_no_sense_is_400(admin_call, query):
    answer = admin_call("GET", f"/organization/phone-numbers?{query}")
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == query.split("=")[0]


def test_nothing_of_another_organization_is_found(rival_call, number, storefront):
    base = "/organization/phone-numbers"
    path = f"{base}/{number.public_id}"
    asked = [
        rival_call("GET", path), rival_call("DELETE", path),
        rival_call("POST", f"{path}/undo-release"), rival_call("GET", f"{path}/timeline"),
        rival_call("PUT", f"{path}/apps", {"appIds": []}),
        rival_call("GET", f"/organization/apps/{storefront.public_id}"),
        rival_call("DELETE", f"/organization/apps/{storefront.public_id}"),
    ]  # fmt: skip
    assert {answer.status_code for answer in asked} == {404}
    assert rival_call("GET", base).json()["phoneNumbers"] == []
    assert Application.objects.get(pk=storefront.pk).archived_at is None


def test_list_needs_few_queries(admin_call, purchase, stock, django_assert_max_num_queries):
    purchase(*stock)
    with django_assert_max_num_queries(5):
        admin_call("GET", "/organization/phone-numbers")


def test_list_without_a_filter_answers_as_one_with_it(
    admin_call, purchase, stock, storefront, alerts, owner
):
    first, *_ = purchase(*stock, application=storefront)
    first.assign(alerts, by=owner, at=timezone.now())
    first.rename("Front desk ☎", by=owner, at=timezone.now())
    path = "/organization/phone-numbers?limit=2"
    plain, found = admin_call("GET", path), admin_call("GET", f"{path}&q=1")
    assert plain.content == found.content
    NumberList.model_validate(plain.json(), by_alias=True)
    cursor = plain.json()["nextCursor"]
    again = admin_call("GET", f"{path}&cursor={cursor}").json()
    assert again == admin_call("GET", f"{path}&cursor={cursor}&q=1").json()


# For sale -------------------------------------------------------------------------------------


def test_numbers_for_sale_are_found_with_their_prices(admin_call, prices, stock):
    body = admin_call("GET", "/organization/available-phone-numbers?areaCode=212&limit=1").json()
    (offer,) = body["phoneNumbers"]
    assert (offer["purchaseFee"], offer["monthlyRental"], offer["currency"]) == (100, 100, "USD")
    page = f"/organization/available-phone-numbers?areaCode=212&cursor={body['nextCursor']}"
    following = admin_call("GET", page.replace("+", "%2B")).json()["phoneNumbers"]
    assert offer["number"] not in [each["number"] for each in following]


@pytest.mark.parametrize(
    ("query", "param"),
    [("numberType=fax", "numberType"), ("startsWith=1&contains=2", "contains"),
     ("features=Fax", "features"), ("contains=%25", "contains"), ("country=USA", "country"),
     ("areaCode=12", "areaCode"), ("cursor=x", "cursor")],
)  # fmt: skip
def test_search_that_makes_no_sense_is_400(admin_call, prices, query, param):
    answer = admin_call("GET", f"/organization/available-phone-numbers?{query}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, param)


def test_mobile_is_accepted_and_has_no_stock(admin_call, prices):
    answer = admin_call("GET", "/organization/available-phone-numbers?numberType=mobile")
    assert answer.json() == {"phoneNumbers": [], "nextCursor": None}


# Billing --------------------------------------------------------------------------------------


def test_summary_and_records_add_up(admin_call, number):
    records = admin_call("GET", "/organization/billing/records").json()["records"]
    assert {record["record_type"] for record in records} == {"purchase_fee", "rental"}
    span = "start_date=2026-01-01&end_date=2027-01-01"
    summary = admin_call("GET", f"/organization/billing/summary?{span}").json()
    assert float(summary["total_cost"]) == sum(float(record["cost_amount"]) for record in records)
    assert summary["record_count"] == 2
    one = admin_call("GET", f"/organization/billing/records/{records[0]['id']}").json()
    assert one == records[0]


def test_record_of_another_organization_is_404(admin_call, rival_call, number):
    record = admin_call("GET", "/organization/billing/records").json()["records"][0]
    assert rival_call("GET", f"/organization/billing/records/{record['id']}").status_code == 404


# Pages of lists -------------------------------------------------------------------------------


@pytest.fixture
def many(organization, storefront):
    """Five local numbers and three toll-free ones, the first four of them in the storefront."""
    rows = own_many(organization, 8)
    for row in rows[5:]:
        row.number_type = "tollfree"
        row.save(update_fields=["number_type"])
    put(rows[:4], storefront)
    return rows


def pages(call, path):
    """All numbers of a list, asked for two at a time, and the totals its pages gave."""
    found, totals, cursor = [], [], ""
    while cursor is not None:
        page = call("GET", f"{path}limit=2&cursor={cursor}").json()
        found += [each["number"] for each in page["phoneNumbers"]]
        totals.append(page["totalCount"])
        cursor = page["nextCursor"]
    return found, set(totals)


def test_pages_of_a_type_have_all_of_it_once(admin_call, many):
    found, totals = pages(admin_call, "/organization/phone-numbers?numberType=tollfree&")
    assert found == sorted(row.number for row in many[5:])
    assert totals == {3}


def test_pages_of_a_search_have_all_that_was_found_once(admin_call, many):
    digits = many[0].number[-7:-2]
    expected = sorted(row.number for row in many if digits in row.number)
    assert len(expected) > 2
    found, totals = pages(admin_call, f"/organization/phone-numbers?q={digits}&")
    assert (found, totals) == (expected, {len(expected)})


@pytest.mark.parametrize("q", ["abc", "%20", "-", "%C2%B2"])
def test_search_without_digits_is_refused_and_does_not_find_everything(admin_call, many, q):
    answer = admin_call("GET", f"/organization/phone-numbers?q={q}")
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "q")


def test_type_and_digits_narrow_together(admin_call, many):
    local, other = many[0].number[-7:], many[5].number[-7:]
    path = "/organization/phone-numbers?numberType=tollfree&"
    assert pages(admin_call, f"{path}q={local}&")[0] == []
    assert pages(admin_call, f"{path}q={other}&")[0] == [many[5].number]


def test_pages_of_an_app_have_its_numbers_alone(app_call, many):
    found, totals = pages(app_call, "/phone-numbers?")
    assert (found, totals) == (sorted(row.number for row in many[:4]), {4})


@pytest.mark.parametrize("query", ["", "numberType=local&", "q=1&"])
def test_page_behind_the_last_one_still_has_the_total(admin_call, many, query):
    path = f"/organization/phone-numbers?{query}"
    total = admin_call("GET", path).json()["totalCount"]
    beyond = admin_call("GET", f"{path}cursor=p999999999999999-1").json()
    assert beyond == {"phoneNumbers": [], "nextCursor": None, "totalCount": total}


def test_rivals_numbers_are_in_no_filtered_list(rival_call, many):
    for query in ("", "numberType=local&", "q=1&"):
        assert pages(rival_call, f"/organization/phone-numbers?{query}") == ([], {0})


@pytest.mark.parametrize(
    "path",
    ["/organization/phone-numbers", "/organization/phone-numbers?numberType=local",
     "/organization/phone-numbers?q=1", "/organization/apps", "/organization/billing/records",
     "/organization/nothing"],
)  # fmt: skip
def test_every_answer_names_its_type_alike(admin_call, number, path):
    assert admin_call("GET", path).headers["Content-Type"] == "application/json"
