import re
from datetime import date, timedelta
from html import unescape

import pytest
import time_machine

from chirp_dashboard.billing.models import Charge, Rental
from chirp_dashboard.numbers.models import Assignment, PhoneNumber

from .conftest import NOON

pytestmark = pytest.mark.usefixtures("an_hour_later")

LIST = "/o/northwind/numbers/"
HTMX = {"HX-Request": "true"}


@pytest.fixture
def page(number):
    return f"{LIST}{number.public_id}/"


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def looking_at(address):
    return HTMX | {"HX-Current-URL": f"http://testserver{address}"}


def fields(page):
    """What the form of `page` posts as it stands, hidden fields included."""
    return dict(re.findall(r'<input type="hidden" name="(expected_\w+)" value="(.*?)"', page))


# Release ---------------------------------------------------------------------------------------


def test_preview_says_what_release_ends_and_costs(owner_client, number, page, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    words = text_of(owner_client.get(f"{page}release/"))
    for word in (
        "Release (212) 555-0142?", "1 application will lose it Storefront",
        "It works until the end of 30 Nov 2026", "What is paid up to 30 Nov 2026 is not refunded",
        "Paid until 30 Nov 2026", "Refund None", "From then on $1.00 a month less",
        "Until 15 Dec 2026, or 7 Dec 2026 if released now", "No purchase fee",
    ):  # fmt: skip
        assert word in words


def test_preview_changes_nothing(owner_client, number, page):
    owner_client.get(f"{page}release/")
    number.refresh_from_db()
    assert number.releases_on is None


def test_end_of_the_period_is_what_is_chosen_at_first(owner_client, page):
    content = owner_client.get(f"{page}release/").content.decode()
    assert 'value="period_end" checked' in content
    assert 'value="now" checked' not in content


def test_release_at_period_end_offers_undo(owner_client, number, page):
    response = owner_client.post(f"{page}release/", {"when": "period_end"}, follow=True)
    number.refresh_from_db()
    assert (number.state, number.releases_on) == ("active", date(2026, 12, 1))
    assert "(212) 555-0142 works until the end of 30 Nov 2026." in text_of(response)
    assert f'action="{page}cancel-release/"' in response.content.decode()
    assert "Releasing 30 Nov" in text_of(response)


def test_release_now_says_until_when_it_can_be_brought_back(owner_client, number, page):
    response = owner_client.post(f"{page}release/", {"when": "now"}, follow=True)
    number.refresh_from_db()
    assert number.is_released
    assert "It can be brought back until 7 Dec 2026." in text_of(response)


def test_number_being_released_can_still_be_released_now(owner_client, number, page, owner):
    number.release(when="period_end", by=owner, at=NOON)
    content = owner_client.get(f"{page}release/").content.decode()
    assert "period_end" not in content
    owner_client.post(f"{page}release/", {"when": "now"})
    number.refresh_from_db()
    assert number.is_released


def test_list_gets_the_row_as_it_now_is(owner_client, number, page):
    response = owner_client.post(
        f"{page}release/", {"when": "period_end"}, headers=looking_at(LIST)
    )
    assert f'<tr id="{number.public_id}" hx-swap-oob="true">' in response.content.decode()
    assert "Releasing 30 Nov" in text_of(response)
    assert "Cancel release…" in text_of(response)


@pytest.mark.parametrize("when", ["", "yesterday", "\x00"])
def test_release_without_a_time_is_a_mistake_in_the_form(owner_client, number, page, when):
    response = owner_client.post(f"{page}release/", {"when": when})
    assert response.status_code == 422
    number.refresh_from_db()
    assert number.releases_on is None


def test_locked_number_says_how_to_unlock(owner_client, number, page, owner):
    number.set_release_lock(True, by=owner, at=NOON)
    response = owner_client.get(f"{page}release/")
    assert "is locked against release" in text_of(response)
    assert f'href="{page}lock/"' in response.content.decode()
    for headers in ({}, looking_at(LIST)):
        response = owner_client.post(f"{page}release/", {"when": "now"}, headers=headers)
        assert response.status_code == 409
        assert "Switch the lock off first." in text_of(response)
    number.refresh_from_db()
    assert number.releases_on is None


def test_released_meanwhile_is_409_with_the_number_as_it_now_is(owner_client, number, page, owner):
    number.release(when="now", by=owner, at=NOON)
    assert "was released already" in text_of(owner_client.get(f"{page}release/"))
    response = owner_client.post(f"{page}release/", {"when": "now"}, headers=looking_at(page))
    assert response.status_code == 409
    assert "was released already." in text_of(response)
    assert 'id="number" hx-swap-oob="true"' in response.content.decode()
    assert "This number was released" in text_of(response)


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_release_seen_before_a_period_began_is_asked_again(owner_client, number, page, when):
    seen = fields(owner_client.get(f"{page}release/").content.decode())
    assert seen == {"expected_end": "2026-12-01"}
    with time_machine.travel(NOON + timedelta(days=9)):
        response = owner_client.post(f"{page}release/", {"when": when} | seen)
        assert response.status_code == 409
        assert "is another since you looked" in text_of(response)
        seen = fields(owner_client.get(f"{page}release/").content.decode())
        assert owner_client.post(f"{page}release/", {"when": when} | seen).status_code == 302
    number.refresh_from_db()
    assert number.releases_on


def test_undo_seen_before_it_cost_more_is_asked_again(owner_client, number, page, owner):
    number.release(when="now", by=owner, at=NOON)
    seen = fields(owner_client.get(f"{page}undo-release/").content.decode())
    assert seen == {"expected_cost": "0"}
    with time_machine.travel(NOON + timedelta(days=9)):
        response = owner_client.post(f"{page}undo-release/", seen)
        assert response.status_code == 409
        assert "changed since you looked" in text_of(response)
        assert PhoneNumber.objects.get().is_released
        seen = fields(owner_client.get(f"{page}undo-release/").content.decode())
        assert owner_client.post(f"{page}undo-release/", seen).status_code == 302
    assert Charge.objects.latest("id").amount == int(seen["expected_cost"]) > 0


# Cancel ----------------------------------------------------------------------------------------


def test_release_is_cancelled_and_undo_is_offered(owner_client, number, page, owner):
    number.release(when="period_end", by=owner, at=NOON)
    words = text_of(owner_client.get(f"{page}cancel-release/"))
    assert "to be released at the end of 30 Nov 2026" in words
    assert "goes on being billed $1.00 a month" in words
    response = owner_client.post(f"{page}cancel-release/", follow=True)
    number.refresh_from_db()
    assert number.releases_on is None
    assert f'action="{page}release/?when=period_end"' in response.content.decode()


def test_undo_button_of_the_toast_releases_again(owner_client, number, page):
    owner_client.post(f"{page}release/?when=period_end")
    number.refresh_from_db()
    assert number.is_releasing


def test_nothing_to_cancel_is_409(owner_client, page):
    assert "is not being released" in text_of(owner_client.get(f"{page}cancel-release/"))
    response = owner_client.post(f"{page}cancel-release/")
    assert response.status_code == 409
    assert "is not being released." in text_of(response)


# Undo ------------------------------------------------------------------------------------------


@pytest.fixture
def released(number, storefront, alerts, owner):
    """The number, released at noon out of two applications, one of them archived since."""
    for application in (storefront, alerts):
        number.assign(application, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    Assignment.objects.archive(alerts, by=owner, at=NOON)
    return number


def test_preview_of_undo_says_what_it_costs_and_restores(owner_client, released, page):
    words = text_of(owner_client.get(f"{page}undo-release/"))
    for word in (
        "Bring (212) 555-0142 back?", "assigned again to Storefront",
        "not assigned again to Alerts", "which is archived", "Purchase fee none",
        "Rental 23–30 Nov 2026, paid already $0.00", "Added to your account $0.00",
        "From 1 Dec 2026 $1.00 a month",
    ):  # fmt: skip
        assert word in words


def test_undo_after_the_paid_days_costs_the_rest_of_the_period(owner_client, released, page):
    with time_machine.travel(NOON + timedelta(days=10)):
        words = text_of(owner_client.get(f"{page}undo-release/"))
    assert "Rental 3–31 Dec 2026 $0.94" in words


def test_undo_brings_number_and_assignment_back(owner_client, released, page):
    response = owner_client.post(f"{page}undo-release/", follow=True)
    released.refresh_from_db()
    assert (released.state, released.assignment_count) == ("active", 1)
    assert "(212) 555-0142 is yours again. Not assigned again: Alerts (archived)." in text_of(
        response
    )
    assert Charge.objects.filter(kind="purchase_fee").count() == 1


def test_undo_twice_is_409(owner_client, released, page):
    owner_client.post(f"{page}undo-release/")
    response = owner_client.post(f"{page}undo-release/", headers=looking_at(page))
    assert response.status_code == 409
    assert "is not released." in text_of(response)
    assert Rental.objects.filter(ends_on=None).count() == 1
    assert "was brought back meanwhile" in text_of(owner_client.get(f"{page}undo-release/"))


def test_undo_after_14_days_is_refused(owner_client, released, page):
    with time_machine.travel(NOON + timedelta(days=14, minutes=1)):
        assert "cannot be brought back" in text_of(owner_client.get(f"{page}undo-release/"))
        response = owner_client.post(f"{page}undo-release/")
    assert response.status_code == 409
    assert "more than 14 days ago" in text_of(response)


def test_undo_beyond_the_credit_limit_is_refused(owner_client, organization, released, page):
    organization.credit_limit = 100
    organization.save()
    with time_machine.travel(NOON + timedelta(days=10)):
        response = owner_client.post(f"{page}undo-release/")
    assert response.status_code == 409
    assert "credit limit" in text_of(response)
    released.refresh_from_db()
    assert released.is_released


# Who may ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("what", ["release", "cancel-release", "undo-release"])
def test_releasing_is_for_those_who_purchase(
    developer_client, billing_client, viewer_client, rival_client, number, page, what
):
    before = PhoneNumber.objects.values().get()
    for client in (developer_client, billing_client, viewer_client):
        assert client.get(f"{page}{what}/").status_code == 403
        assert client.post(f"{page}{what}/", {"when": "now"}).status_code == 403
    assert rival_client.post(f"{page}{what}/", {"when": "now"}).status_code == 404
    address = f"{page}{what}/".replace("northwind", "rival")
    assert rival_client.post(address, {"when": "now"}).status_code == 404
    assert PhoneNumber.objects.values().get() == before


def test_release_and_change_of_mind_in_the_browser(visit, number, owner, page):
    screen = visit(owner, path=page)
    screen.get_by_role("link", name="Release number…").click()
    screen.get_by_role("button", name="Release (212) 555-0142").click()
    screen.get_by_text("This number is being released").wait_for()
    assert screen.locator("#dialog[open]").count() == 0
    screen.get_by_role("link", name="Cancel release…").click()
    screen.locator("#dialog").get_by_role("button", name="Cancel release").click()
    screen.get_by_text("This number is being released").wait_for(state="detached")
    number.refresh_from_db()
    assert number.releases_on is None


def test_refusal_shows_in_the_dialog_and_behind_it(visit, number, owner, page):
    screen = visit(owner, path=page)
    screen.get_by_role("link", name="Release number…").click()
    screen.get_by_role("button", name="Release (212) 555-0142").wait_for()
    number.release(when="now", by=owner, at=NOON)
    screen.get_by_role("button", name="Release (212) 555-0142").click()
    screen.locator("#dialog").get_by_text("was released already").wait_for()
    assert screen.locator("main").get_by_text("This number was released").count() == 1
    screen.get_by_role("link", name="Close").click()
    assert screen.locator("#dialog[open]").count() == 0


def test_release_without_javascript(visit, number, owner, page):
    screen = visit(owner, path=page, javascript=False)
    screen.get_by_role("link", name="Release number…").click()
    screen.get_by_label("Now").check()
    screen.get_by_role("button", name="Release (212) 555-0142").click()
    assert screen.url.endswith(page)
    screen.get_by_role("link", name="Undo release…").click()
    screen.get_by_role("button", name="Undo release").click()
    assert "is yours again" in screen.locator("#toasts").inner_text()
