import re
from html import unescape

import pytest

from chirp_dashboard.numbers.models import Assignment, PhoneNumber
from chirp_dashboard.numbers.picking import AT_ONCE
from chirp_dashboard.organizations.models import Application

from .conftest import NOON
from .owned import own, own_many, put

pytestmark = pytest.mark.usefixtures("an_hour_later")

APP = "/o/northwind/apps/storefront/numbers/"
ASSIGN = f"{APP}assign/"
HTMX = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{APP}"}


@pytest.fixture
def page(number):
    return f"/o/northwind/numbers/{number.public_id}/"


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def names(response):
    return [template.name for template in response.templates]


def offered(response):
    """The numbers the picker offers, in order."""
    return [row["e164"] for row in response.context["picker"].shown]


def open_pairs():
    pairs = Assignment.objects.open().values_list("number", "application__slug")
    return sorted(pairs)


# One number to an application ------------------------------------------------------------------


def test_number_is_assigned_and_undo_is_offered(developer_client, number, page, storefront):
    response = developer_client.post(f"{page}assign/", {"application": "storefront"}, follow=True)
    assert response.redirect_chain == [(page, 302)]
    assert open_pairs() == [("+12125550142", "storefront")]
    assert "Assigned to Storefront." in text_of(response)
    assert f'action="{page}remove/?application=storefront"' in response.content.decode()


def test_undo_button_of_the_toast_removes_it_again(developer_client, number, page, storefront):
    developer_client.post(f"{page}assign/", {"application": "storefront"})
    developer_client.post(f"{page}remove/?application=storefront")
    assert open_pairs() == []


def test_number_may_be_in_several_applications(developer_client, number, page, storefront, alerts):
    for slug in ("storefront", "alerts"):
        developer_client.post(f"{page}assign/", {"application": slug})
    assert len(open_pairs()) == 2


def test_only_fitting_applications_are_offered(
    developer_client, organization, number, page, storefront, alerts, owner
):
    organization.applications.create(name="Sandbox", slug="sandbox", kind="test")
    organization.applications.create(name="Old", slug="old", archived_at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    response = developer_client.get(f"{page}assign/")
    assert [each.slug for each in response.context["applications"]] == ["storefront"]


def test_question_is_a_dialog_for_htmx_and_a_page_without(
    developer_client, number, page, storefront
):
    assert "base.html" in names(developer_client.get(f"{page}assign/"))
    dialog = developer_client.get(f"{page}assign/", headers=HTMX)
    assert names(dialog)[0] == "numbers/_assign_number.html"
    assert "base.html" not in names(dialog)


@pytest.mark.parametrize(
    ("slug", "reason"),
    [
        ("old", "Old is archived."),
        ("sandbox", "Live numbers go to live applications"),
        ("storefront", "(212) 555-0142 is already assigned to Storefront."),
    ],
)
def test_refusal_says_why_and_shows_the_number_as_it_is(
    developer_client, organization, number, page, storefront, owner, slug, reason
):
    organization.applications.create(name="Sandbox", slug="sandbox", kind="test")
    organization.applications.create(name="Old", slug="old", archived_at=NOON)
    number.assign(storefront, by=owner, at=NOON)
    response = developer_client.post(f"{page}assign/", {"application": slug})
    assert response.status_code == 409
    assert reason in text_of(response)
    assert "Storefront" in text_of(response)
    response = developer_client.post(f"{page}assign/", {"application": slug}, headers=HTMX)
    assert response.status_code == 409
    assert names(response)[0] == "numbers/_refused.html"
    assert f'<tr id="{number.public_id}" hx-swap-oob="true">' in response.content.decode()
    assert open_pairs() == [("+12125550142", "storefront")]


@pytest.mark.parametrize("verb", ["assign", "move", "remove", "release"])
def test_question_about_a_released_number_offers_to_undo(
    owner_client, number, page, storefront, owner, verb
):
    number.release(when="now", by=owner, at=NOON)
    words = text_of(owner_client.get(f"{page}{verb}/"))
    assert "(212) 555-0142 was released" in words
    assert "Undo release" in words


@pytest.mark.parametrize("slug", ["", "rival-app", "no-such", "\x00"])
def test_unknown_application_is_a_mistake_in_the_form(
    developer_client, number, page, rival_application, slug
):
    response = developer_client.post(f"{page}assign/", {"application": slug})
    assert response.status_code == 422
    assert Assignment.objects.count() == 0


def test_suspended_number_is_not_assigned(developer_client, number, page, storefront):
    PhoneNumber.objects.update(state="suspended", suspended_on=NOON.date())
    response = developer_client.post(f"{page}assign/", {"application": "storefront"})
    assert response.status_code == 409
    assert "suspended until the open invoice is paid" in text_of(response)


def test_assigning_is_for_developers_and_stronger(
    viewer_client, billing_client, rival_client, number, page, storefront
):
    for client in (viewer_client, billing_client):
        assert client.post(f"{page}assign/", {"application": "storefront"}).status_code == 403
        assert client.get(f"{page}assign/").status_code == 403
        assert client.get(ASSIGN).status_code == 403
    assert rival_client.post(f"{page}assign/", {"application": "storefront"}).status_code == 404
    assert Assignment.objects.count() == 0


# An application's list -------------------------------------------------------------------------


def test_application_lists_its_numbers_and_where_else_they_are(
    viewer_client, organization, storefront, alerts
):
    mine, shared, other = own_many(organization, 3)
    put([mine, shared], storefront)
    put([shared, other], alerts)
    response = viewer_client.get(APP)
    rows = response.context["list"].rows
    assert [row["e164"] for row in rows] == [mine.number, shared.number]
    assert [[each["slug"] for each in row["applications"]] for row in rows] == [[], ["alerts"]]
    assert "2 numbers" in text_of(response)


def test_ended_assignments_are_not_listed(viewer_client, number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.remove(storefront, by=owner, at=NOON)
    assert viewer_client.get(APP).context["list"].rows == []


def test_application_is_searched_and_htmx_gets_the_table(viewer_client, organization, storefront):
    put(own(organization, "+12125550142", "+14035550117"), storefront)
    response = viewer_client.get(APP, {"q": "403", "state": "released"}, headers=HTMX)
    assert names(response)[0] == "numbers/_number_swap.html"
    assert [row["e164"] for row in response.context["list"].rows] == ["+14035550117"]
    assert response["HX-Push-Url"] == f"{APP}?q=403"


@pytest.mark.parametrize("count", [3, 60])
def test_application_takes_five_queries_however_long(
    viewer_client, organization, storefront, django_assert_num_queries, count
):
    put(own_many(organization, count), storefront)
    for address in (APP, f"{APP}?q=555", f"{APP}?sort=-purchased"):
        with django_assert_num_queries(5):
            viewer_client.get(address)


def test_empty_application_says_what_to_do_next(
    owner_client, developer_client, viewer_client, organization, storefront
):
    assert "Purchase one, then assign it here." in text_of(owner_client.get(APP))
    assert "An owner or admin can purchase" in text_of(developer_client.get(APP))
    own_many(organization, 1)
    assert "Assign one that your organization has" in text_of(developer_client.get(APP))
    assert "A developer, admin or owner can assign" in text_of(viewer_client.get(APP))


def test_archived_application_says_so(owner_client, storefront, owner):
    Assignment.objects.archive(storefront, by=owner, at=NOON)
    assert "This application is archived" in text_of(owner_client.get(APP))
    assert "nothing can be assigned to it" in text_of(owner_client.get(ASSIGN))


def test_application_of_another_organization_is_404(owner_client, rival_client, rival_application):
    assert owner_client.get("/o/northwind/apps/rival-app/numbers/").status_code == 404
    assert owner_client.get("/o/northwind/apps/rival-app/numbers/assign/").status_code == 404
    assert rival_client.get(APP).status_code == 404


# The picker ------------------------------------------------------------------------------------


def test_picker_offers_what_could_be_assigned_idle_numbers_first(
    developer_client, organization, rival, storefront, alerts
):
    here, elsewhere, idle, suspended = own_many(organization, 4)
    put([here], storefront)
    put([elsewhere], alerts)
    PhoneNumber.objects.filter(pk=suspended.pk).update(state="suspended", suspended_on=NOON.date())
    own(rival, "+12125559999")
    own(organization, "+12125558888", is_test=True)
    assert offered(developer_client.get(ASSIGN)) == [idle.number, elsewhere.number]


def test_test_application_is_offered_test_numbers(developer_client, organization):
    organization.applications.create(name="Sandbox", slug="sandbox", kind="test")
    own_many(organization, 2)
    fake = own(organization, "+12125558888", is_test=True)[0]
    address = "/o/northwind/apps/sandbox/numbers/assign/"
    assert offered(developer_client.get(address)) == [fake.number]


def test_picker_searches_and_htmx_gets_the_options(developer_client, organization, storefront):
    own(organization, "+12125550142", "+14035550117")
    headers = HTMX | {"HX-Target": "picker-options"}
    response = developer_client.get(ASSIGN, {"q": "403"}, headers=headers)
    assert names(response) == ["numbers/_picker_options.html"]
    assert offered(response) == ["+14035550117"]
    response = developer_client.get(ASSIGN, {"q": "7777"}, headers=headers)
    assert "matches “7777”" in text_of(response)


def test_choice_survives_the_next_search(developer_client, organization, storefront):
    chosen, other = own(organization, "+12125550142", "+14035550117")
    response = developer_client.get(ASSIGN, {"q": "403", "number": chosen.public_id})
    assert f'value="{chosen.public_id}" checked' in response.content.decode()
    assert offered(response) == [other.number]


def test_picker_never_draws_them_all(
    developer_client, organization, storefront, django_assert_max_num_queries
):
    own_many(organization, 120)
    with django_assert_max_num_queries(6):
        response = developer_client.get(ASSIGN)
    assert len(offered(response)) == 50
    assert "These are the first 50" in text_of(response)


def test_choice_is_confirmed_before_anything_happens(developer_client, organization, storefront):
    numbers = own_many(organization, 2)
    ids = [number.public_id for number in numbers]
    response = developer_client.get(ASSIGN, {"number": ids, "confirm": "1"})
    assert "Assign 2 numbers to Storefront?" in text_of(response)
    assert Assignment.objects.count() == 0
    response = developer_client.post(ASSIGN, {"number": ids})
    assert "2 numbers assigned to Storefront" in text_of(response)
    assert [number for number, _ in open_pairs()] == [number.number for number in numbers]


def test_each_number_gets_its_own_answer(developer_client, organization, storefront):
    here, free = own_many(organization, 2)
    put([here], storefront)
    ids = [here.public_id, free.public_id]
    response = developer_client.post(ASSIGN, {"number": ids}, headers=HTMX)
    words = text_of(response)
    assert response.status_code == 200
    assert "1 of 2 numbers assigned" in words
    assert "is already assigned to Storefront." in words
    assert 'id="numbers" hx-swap-oob="true"' in response.content.decode(), "the list behind"
    assert len(open_pairs()) == 2


def test_nothing_assigned_is_a_conflict(developer_client, organization, storefront):
    here = own_many(organization, 1)
    put(here, storefront)
    response = developer_client.post(ASSIGN, {"number": here[0].public_id})
    assert response.status_code == 409
    assert "Nothing was assigned to Storefront" in text_of(response)


@pytest.mark.parametrize("method", ["get", "post"])
def test_choosing_nothing_or_too_much_is_said(developer_client, organization, storefront, method):
    numbers = own_many(organization, AT_ONCE + 1)
    for ids, problem in (
        ([], "Choose at least one number."),
        ([number.public_id for number in numbers], "Choose at most 50 numbers at once"),
        (["ph_unknown"], "These numbers are not here any more."),
    ):
        response = getattr(developer_client, method)(ASSIGN, {"number": ids, "confirm": "1"})
        assert response.status_code == 422
        assert problem in text_of(response)
    assert Assignment.objects.count() == 0


def test_numbers_of_another_organization_are_not_assigned(
    developer_client, rival, storefront, organization
):
    stolen = own(rival, "+12125559999")[0]
    response = developer_client.post(ASSIGN, {"number": stolen.public_id, "confirm": "1"})
    assert response.status_code == 422
    assert "+12125559999" not in response.content.decode()
    assert Assignment.objects.count() == 0


def test_archived_application_refuses_every_number(developer_client, organization, storefront):
    number = own_many(organization, 1)[0]
    Application.objects.update(archived_at=NOON)
    response = developer_client.post(ASSIGN, {"number": number.public_id})
    assert response.status_code == 409
    assert "Storefront is archived." in text_of(response)
