import re
from datetime import timedelta
from html import unescape

import pytest
import time_machine

from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.numbers.timeline import Timeline
from chirp_dashboard.organizations.models import Activity, Actor

from .conftest import NOON
from .owned import own

pytestmark = pytest.mark.usefixtures("an_hour_later")

HTMX = {"HX-Request": "true"}


@pytest.fixture
def page(number):
    return f"/o/northwind/numbers/{number.public_id}/"


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


# What it shows ---------------------------------------------------------------------------------


def test_page_says_what_the_number_is_and_costs(owner_client, number, page):
    words = text_of(owner_client.get(page))
    for word in (
        "(212) 555-0142", "Not assigned", "No label", "Type Local", "Location New York, NY",
        "Purchased 23 Nov 2026", "Price $1.00 a month", "This period 23–30 Nov 2026",
        "Next charge 1 Dec", "Cost so far $1.27",
    ):  # fmt: skip
        assert word in words


def test_page_says_who_assigned_it_where_and_when(
    owner_client, number, page, storefront, developer
):
    number.assign(storefront, by=developer, at=NOON)
    words = text_of(owner_client.get(page))
    assert "Storefront 23 Nov 2026 developer@northwind.example" in words


def test_charges_are_for_roles_that_see_billing(billing_client, developer_client, number, page):
    words = text_of(billing_client.get(page))
    assert "Purchase fee once 23 Nov 2026 $1.00" in words
    assert "Rental 23–30 Nov 2026 23 Nov 2026 $0.27" in words
    words = text_of(developer_client.get(page))
    assert "Charges" not in words
    assert "Cost so far" not in words


def test_released_number_keeps_its_page(owner_client, number, page, owner):
    number.release(when="now", by=owner, at=NOON)
    words = text_of(owner_client.get(page))
    assert "This number was released" in words
    assert "It can be brought back until 7 Dec 2026, 12:00" in words, "local time"
    assert "Undo release…" in words
    assert "Release number…" not in words


def test_after_14_days_nothing_offers_to_bring_it_back(owner_client, number, page, owner):
    number.release(when="now", by=owner, at=NOON)
    with time_machine.travel(NOON + timedelta(days=14)):
        words = text_of(owner_client.get(page))
    assert "It can no longer be brought back" in words
    assert "Undo release" not in words


def test_suspended_number_says_that_rent_goes_on(owner_client, number, page):
    PhoneNumber.objects.update(state="suspended", suspended_on=NOON.date())
    words = text_of(owner_client.get(page))
    assert "Unpaid since 23 Nov" in words
    assert "Rent goes on meanwhile" in words
    assert "Assign to…" not in words


def test_viewer_sees_no_action(viewer_client, number, page, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    words = text_of(viewer_client.get(page))
    assert "…" not in words
    assert "label" not in words.replace("No label", "")


def test_page_of_another_organization_is_404(rival_client, stranger_client, number, page, rival):
    assert rival_client.get(page).status_code == 404
    assert rival_client.get(page.replace("northwind", "rival")).status_code == 404
    assert stranger_client.get(page).status_code == 404


def test_page_takes_as_many_queries_for_one_application_as_for_five(
    owner_client, organization, owner, number, page, django_assert_num_queries
):
    counts = []
    for index in range(5):
        application = organization.applications.create(name=f"App {index}", slug=f"app-{index}")
        number.assign(application, by=owner, at=NOON)
        if index in {0, 4}:
            with django_assert_num_queries(counts[0] if counts else 10) as queries:
                owner_client.get(page)
            counts.append(len(queries))


# History ---------------------------------------------------------------------------------------


def sentences(number):
    number.refresh_from_db()
    return [entry.text for entry in Timeline(number).entries]


def test_history_tells_every_verb_as_a_sentence(number, storefront, alerts, owner):
    number.rename("Sales", by=owner, at=NOON)
    number.rename("Support", by=owner, at=NOON)
    number.rename("", by=owner, at=NOON)
    number.assign(storefront, by=owner, at=NOON)
    number.move(storefront, alerts, by=owner, at=NOON)
    number.assign(storefront, by=owner, at=NOON)
    number.remove(storefront, by=owner, at=NOON)
    number.set_release_lock(True, by=owner, at=NOON)
    number.set_release_lock(False, by=owner, at=NOON)
    number.release(when="period_end", by=owner, at=NOON)
    number.cancel_release(by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    number.undo_release(by=owner, at=NOON + timedelta(minutes=1))
    assert sentences(number)[::-1] == [
        "Purchased",
        "Labelled “Sales”",
        "Label changed from “Sales” to “Support”",
        "Label “Support” taken away",
        "Assigned to Storefront",
        "Moved from Storefront to Alerts",
        "Assigned to Storefront",
        "Removed from Storefront",
        "Release lock switched on",
        "Release lock switched off",
        "Release asked for; it works until the end of 30 Nov 2026",
        "Release cancelled; the number is kept",
        "Released; 1 assignment ended",
        "Release undone; back in Alerts",
    ]


def test_history_says_what_did_not_come_back(number, storefront, alerts, owner):
    for application in (storefront, alerts):
        number.assign(application, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    storefront.archived_at = NOON
    storefront.save()
    number.undo_release(by=owner, at=NOON)
    assert sentences(number)[0] == (
        "Release undone; back in Alerts; not back in Storefront, which is archived"
    )


def test_history_says_what_the_system_did_and_knows_later_verbs(number):
    Activity.objects.record(
        number.organization, "ported_in", subject=number, by=Actor.system("carriers"), at=NOON
    )
    entry = Timeline(number).entries[0]
    assert (entry.text, entry.who) == ("Ported in", "carriers (automatically)")


def test_history_is_read_page_by_page(owner_client, number, page, owner):
    for index in range(45):
        number.rename(f"Label {index}", by=owner, at=NOON)
    seen, address = [], page
    while address:
        response = owner_client.get(address, headers=HTMX | {"HX-Target": "timeline"})
        assert [template.name for template in response.templates] == ["numbers/_timeline.html"]
        timeline = response.context["timeline"]
        seen += [entry.text for entry in timeline.entries]
        address = f"{page}?before={timeline.older}" if timeline.older else ""
    assert len(seen) == 46
    assert seen[-1] == "Purchased"
    assert "Newest" in text_of(owner_client.get(f"{page}?before=1"))


@pytest.mark.parametrize("before", ["x", "-1", "9" * 40, "٣", "%00"])
def test_garbage_for_a_place_in_history_is_its_beginning(owner_client, number, page, before):
    assert "Purchased" in text_of(owner_client.get(page, {"before": before}))


def test_history_shows_only_this_number(owner_client, organization, number, page, owner):
    other = own(organization, "+12125550199")[0]
    other.rename("Somebody else", by=owner, at=NOON)
    assert "Somebody else" not in text_of(owner_client.get(page))


# Label -----------------------------------------------------------------------------------------


def test_label_is_saved_and_leads_back(developer_client, number, page):
    response = developer_client.post(f"{page}label/", {"label": "  Sales   New York "})
    assert (response.status_code, response["Location"]) == (302, page)
    number.refresh_from_db()
    assert number.label == "Sales New York"


def test_label_form_leads_back_to_the_list_it_came_from(developer_client, number, page):
    here = "/o/northwind/numbers/?q=212"
    form = developer_client.get(f"{page}label/", headers={"Referer": f"http://testserver{here}"})
    assert form.context["back"] == here
    response = developer_client.post(f"{page}label/", {"label": "Sales", "back": here})
    assert response["Location"] == here


@pytest.mark.parametrize(
    "back",
    ["https://evil.example/o/northwind/", "//evil.example", "/o/rival/", "javascript:1", "\\"],
)
def test_form_leads_nowhere_else(developer_client, number, page, back):
    response = developer_client.post(f"{page}label/", {"label": "Sales", "back": back})
    assert response["Location"] == page


def test_label_in_a_dialog_answers_with_the_page_as_it_now_is(developer_client, number, page):
    headers = HTMX | {"HX-Current-URL": f"http://testserver{page}"}
    form = developer_client.get(f"{page}label/", headers=headers)
    assert form.templates[0].name == "numbers/_label.html"
    response = developer_client.post(f"{page}label/", {"label": "Sales"}, headers=headers)
    names = [template.name for template in response.templates]
    assert "numbers/_number_whole.html" in names
    assert "base.html" not in names
    assert "close-dialog" in response["HX-Trigger"]
    assert "Label saved." in text_of(response)


def test_label_too_long_comes_back_with_what_was_typed(developer_client, number, page):
    for headers in ({}, HTMX):
        response = developer_client.post(f"{page}label/", {"label": "x" * 81}, headers=headers)
        assert response.status_code == 422
        assert "A label has at most 80 characters." in text_of(response)
        assert "x" * 81 in response.content.decode()
    number.refresh_from_db()
    assert number.label == ""


def test_label_is_for_developers_and_stronger(
    viewer_client, billing_client, rival_client, number, page
):
    for client in (viewer_client, billing_client):
        assert client.get(f"{page}label/").status_code == 403
        assert client.post(f"{page}label/", {"label": "Sales"}).status_code == 403
    address = f"{page}label/".replace("northwind", "rival")
    assert rival_client.post(address, {"label": "Ours"}).status_code == 404
    number.refresh_from_db()
    assert number.label == ""


# Release lock ----------------------------------------------------------------------------------


def test_lock_goes_on_and_off(owner_client, number, page):
    assert "Nobody can release it until" in text_of(owner_client.get(f"{page}lock/"))
    owner_client.post(f"{page}lock/", {"locked": "yes"})
    number.refresh_from_db()
    assert number.release_locked
    assert "Locked: nobody can release it" in text_of(owner_client.get(page))
    owner_client.post(f"{page}lock/", {"locked": "no"})
    number.refresh_from_db()
    assert not number.release_locked


def test_lock_twice_stays_on(owner_client, number, page):
    """The form says what it wants, so two people who both lock do not unlock."""
    for _ in range(2):
        owner_client.post(f"{page}lock/", {"locked": "yes"})
    number.refresh_from_db()
    assert number.release_locked
    assert Activity.objects.filter(verb="locked").count() == 1


def test_lock_without_a_choice_is_refused(owner_client, number, page):
    assert owner_client.post(f"{page}lock/").status_code == 422
    assert owner_client.post(f"{page}lock/", {"locked": "maybe"}).status_code == 422


def test_lock_is_for_those_who_purchase(developer_client, number, page):
    assert developer_client.post(f"{page}lock/", {"locked": "yes"}).status_code == 403
