"""The calendar of billing, and the feed of it that needs no sign-in."""

import re
from datetime import date, timedelta

import pytest
import time_machine
from django.core.management import call_command

from chirp_dashboard.billing import ical
from chirp_dashboard.billing.agenda import Agenda, Event
from chirp_dashboard.billing.models import CalendarFeed, Dunning
from chirp_dashboard.billing.statement import Statement
from chirp_dashboard.organizations.models import Activity, Membership

from .conftest import DECEMBER, JANUARY, noon, rent, run

CALENDAR = "/o/northwind/billing/calendar/"
NOVEMBER_25 = date(2026, 11, 25)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def late_november():
    with time_machine.travel(noon(NOVEMBER_25), tick=False):
        yield


def agenda(organization, on=NOVEMBER_25):
    return Agenda(Statement(organization, on))


def events(organization, on=NOVEMBER_25):
    return [(str(event.date), event.title) for event in agenda(organization, on).events]


# The page ---------------------------------------------------------------------------------------


def test_every_kind_of_day_stands_in_the_calendar(organization):
    rent(organization, on=date(2026, 10, 10), fee=None)
    rent(organization, on=date(2026, 10, 10), numbers=2, ends_on=JANUARY, fee=None)
    rent(organization, on=date(2026, 9, 15), amount=9_000, months=3, fee=None)
    run(date(2026, 11, 20))
    assert events(organization) == [
        ("2026-12-01", "Invoice, about $3.00"),
        ("2026-12-15", "1 lease renews, $90.00"),
        ("2026-12-20", "Invoice 000001 is due, $90.00"),
        ("2026-12-20", "Invoice 000002 is due, $5.13"),
        ("2026-12-31", "Last day of 2 numbers"),
        ("2027-01-01", "Invoice, about $91.00"),
        ("2027-02-01", "Invoice, about $1.00"),
    ]


def test_months_are_whole_weeks_from_this_month_to_the_last_invoice(organization, rental):
    months = agenda(organization).months
    assert [f"{first:%Y-%m}" for first, _ in months] == ["2026-11", "2026-12", "2027-01", "2027-02"]
    for first, weeks in months:
        days = [each for week in weeks for each in week]
        assert len(days) % 7 == 0
        assert days[0].date.weekday() == 0
        inside = [each.date for each in days if each.is_inside]
        assert (inside[0], inside[-1].month) == (first, first.month)
    today = [each.date for _, weeks in months for week in weeks for each in week if each.is_today]
    assert today == [NOVEMBER_25] * len(today)


def test_overdue_invoice_stands_above_the_months(organization, rental):
    run(DECEMBER)
    assert agenda(organization, on=date(2026, 12, 31)).earlier == []
    (event,) = agenda(organization, on=JANUARY).earlier
    assert (event.date, event.title) == (date(2026, 12, 31), "Invoice 000001 is due, $2.27")


def test_steps_of_dunning_are_in_the_calendar(organization, rental):
    run(DECEMBER)
    Dunning.objects.walk(at=noon(date(2027, 1, 1)))
    assert Dunning.objects.of(organization)
    titles = [title for _, title in events(organization, on=JANUARY)]
    assert "Purchases stop" in titles


def test_empty_calendar_is_a_calendar(billing_client):
    page = billing_client.get(CALENDAR).content.decode()
    assert "Invoice, about $0.00" in page
    assert "Make an address" in page


def test_page_takes_as_many_queries_for_any_number_of_rentals(
    billing_client, organization, django_assert_num_queries
):
    rent(organization, on=date(2026, 11, 5), numbers=40)
    with django_assert_num_queries(5):
        billing_client.get(CALENDAR)


# iCalendar --------------------------------------------------------------------------------------


def calendar(*given, name="Northwind billing"):
    return ical.calendar(
        name, given, host="northwind.numbers.example", on=NOVEMBER_25, link="https://n.example/"
    )


def unfolded(body):
    return body.decode().replace("\r\n ", "").split("\r\n")


def test_calendar_is_valid_as_rfc_5545_wants_it():
    body = calendar(Event(DECEMBER, "invoice", "invoice-20261201", "Invoice, about $3.00", "Due."))
    assert body.endswith(b"END:VCALENDAR\r\n")
    assert b"\n" not in body.replace(b"\r\n", b"")
    lines = unfolded(body)
    assert lines[:3] == ["BEGIN:VCALENDAR", "VERSION:2.0", f"PRODID:{ical.PRODUCT}"]
    begin, end = lines.index("BEGIN:VEVENT"), lines.index("END:VEVENT")
    event = dict(line.split(":", 1) for line in lines[begin + 1 : end])
    assert event == {
        "UID": "invoice-20261201@northwind.numbers.example",
        "DTSTAMP": "20261125T000000Z",
        "DTSTART;VALUE=DATE": "20261201",
        "DTEND;VALUE=DATE": "20261202",
        "SUMMARY": "Invoice\\, about $3.00",
        "DESCRIPTION": "Due.\\nhttps://n.example/",
        "URL": "https://n.example/",
        "TRANSP": "TRANSPARENT",
    }


@pytest.mark.parametrize("text", ["é" * 90, "📞" * 50, "a,b;c\\d\r\ne\0f\x1bg" * 12, "x" * 75])
def test_long_lines_are_folded_between_letters_at_75_octets(text):
    body = calendar(Event(DECEMBER, "due", "k", text), name=text)
    for line in body.split(b"\r\n"):
        assert len(line) <= 75
        line.decode()  # no letter is cut
    summary = next(line for line in unfolded(body) if line.startswith("SUMMARY:"))
    back = re.sub(r"\\(.)", lambda m: "\n" if m[1] == "n" else m[1], summary[8:])
    assert back == text.replace("\r\n", "\n").replace("\0", "").replace("\x1b", "")


# The feed ---------------------------------------------------------------------------------------


@pytest.fixture
def secret(organization, billing_person):
    return CalendarFeed.objects.issue(organization, billing_person, at=noon(NOVEMBER_25))


def address(secret):
    return f"/calendar/{secret}.ics"


def test_feed_is_read_without_signing_in(client, organization, rental, secret):
    response = client.get(address(secret))
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "text/calendar; charset=utf-8"
    assert response.headers["Cache-Control"] == "private, max-age=3600"
    assert "SUMMARY:Invoice\\, about $2.27" in unfolded(response.content)
    assert secret.encode() not in response.content
    assert not response.cookies


def test_address_is_shown_once_and_stored_hashed(billing_client, organization, settings):
    settings.BASE_URL = "https://numbers.example"
    page = billing_client.post(f"{CALENDAR}feed/").content.decode()
    shown = set(re.findall(r"https://numbers.example/calendar/(\w{30})\.ics", page))
    (secret,) = shown
    assert billing_client.get(address(secret)).status_code == 200
    assert secret not in billing_client.get(CALENDAR).content.decode()
    row = CalendarFeed.objects.values().get()
    assert secret not in str(row)
    assert secret not in str(list(Activity.objects.values()))


def test_another_key_of_the_site_leaves_calendars_working(client, secret, settings):
    settings.SECRET_KEY = "another" * 10
    assert client.get(address(secret)).status_code == 200


def test_new_address_ends_the_one_before(client, organization, billing_person, secret):
    newer = CalendarFeed.objects.issue(organization, billing_person, at=noon(NOVEMBER_25))
    assert client.get(address(secret)).status_code == 404
    assert client.get(address(newer)).status_code == 200
    assert CalendarFeed.objects.open().count() == 1


def test_revoked_address_is_not_found(client, billing_client, secret):
    assert billing_client.post(f"{CALENDAR}feed/revoke/").status_code == 302
    assert client.get(address(secret)).status_code == 404
    assert billing_client.post(f"{CALENDAR}feed/revoke/").status_code == 302
    verbs = list(Activity.objects.order_by("id").values_list("verb", flat=True))
    assert verbs == ["calendar_feed_issued", "calendar_feed_revoked"]


def lose_role(organization, person):
    membership = Membership.objects.get(organization=organization, user=person)
    membership.change_role("developer", by=person, at=noon(NOVEMBER_25))


def lose_membership(organization, person):
    membership = Membership.objects.get(organization=organization, user=person)
    membership.end(by=person, at=noon(NOVEMBER_25))


def lose_account(organization, person):
    person.is_active = False
    person.save()


@pytest.mark.parametrize("lose", [lose_role, lose_membership, lose_account])
def test_feed_ends_with_the_right_to_see_billing(
    client, organization, billing_person, secret, lose
):
    lose(organization, billing_person)
    assert client.get(address(secret)).status_code == 404


@pytest.mark.parametrize("guess", ["x", "0" * 30, "é" * 30, "a" * 3000, "secret"])
def test_unknown_address_is_not_found(client, secret, guess):
    assert client.get(address(guess)).status_code == 404


def test_feed_of_one_shows_nothing_of_another(client, organization, rival, secret):
    rent(rival, on=date(2026, 11, 5), amount=77_700)
    assert b"777" not in client.get(address(secret)).content


def test_feed_that_is_known_is_not_sent_again(client, organization, secret):
    tag = client.get(address(secret)).headers["ETag"]
    assert client.get(address(secret), headers={"If-None-Match": tag}).status_code == 304
    rent(organization, on=NOVEMBER_25)
    assert client.get(address(secret), headers={"If-None-Match": tag}).status_code == 200


def test_feed_takes_few_queries_and_notes_its_use_once_an_hour(
    client, organization, secret, django_assert_num_queries
):
    with django_assert_num_queries(3):
        client.get(address(secret))
    with django_assert_num_queries(2):
        client.get(address(secret))
    assert CalendarFeed.objects.get().used_at == noon(NOVEMBER_25)
    with time_machine.travel(noon(NOVEMBER_25) + timedelta(hours=2), tick=False):
        client.get(address(secret))
    assert CalendarFeed.objects.get().used_at > noon(NOVEMBER_25)


def test_only_get_and_head_are_answered(client, secret):
    assert client.head(address(secret)).status_code == 200
    assert client.post(address(secret)).status_code == 405


def test_ids_of_events_last(client, organization, rental, secret):
    def ids():
        return {
            line for line in unfolded(client.get(address(secret)).content) if line.startswith("UID")
        }

    before = ids()
    rent(organization, on=NOVEMBER_25)
    assert ids() == before
    assert len(before) == 3


def test_feeds_of_two_people_are_apart(client, organization, owner, secret):
    mine = CalendarFeed.objects.issue(organization, owner, at=noon(NOVEMBER_25))
    CalendarFeed.objects.revoke(organization, owner, at=noon(NOVEMBER_25))
    assert client.get(address(mine)).status_code == 404
    assert client.get(address(secret)).status_code == 200


def test_books_still_balance_after_all_that(organization, rental, secret):
    run(DECEMBER)
    call_command("check_books")
