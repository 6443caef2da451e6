"""Test numbers in the dashboard: added for nothing, shown as what they are, counted apart from live ones."""

import re
import threading
from html import unescape

import pytest
from django.db import IntegrityError, connection, transaction
from django.utils import timezone

from chirp_dashboard.billing.models import Charge, Rental
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import (
    Assignment,
    InventoryNumber,
    Order,
    PhoneNumber,
)
from chirp_dashboard.numbers.models.releasing import ReleaseRefused
from chirp_dashboard.numbers.models.testing import (
    LIVE_AT_MOST,
    AddsTestNumbers,
    TestNumberGone,
    made_up,
    problem_of,
)
from chirp_dashboard.organizations.models import (
    Activity,
    Application,
    Delivery,
    Organization,
    WebhookEvent,
)

from ..conftest import signed_in
from .conftest import NOON
from .owned import own
from .test_at_once import Meanwhile, the
from .test_suspend import suspend

pytestmark = pytest.mark.usefixtures("an_hour_later")

HOME = "/o/northwind/"
APP = f"{HOME}apps/sandbox/numbers/"
ADD = f"{APP}test/"
LIST = f"{HOME}numbers/"
HTMX = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{APP}"}
FIRST = "+15005550100"


@pytest.fixture
def sandbox(organization):
    return organization.applications.create(name="Sandbox", slug="sandbox", kind="test")


@pytest.fixture
def trial(organization):
    return organization.applications.create(name="Trial", slug="trial", kind="test")


@pytest.fixture
def test_number(sandbox, owner):
    """(500) 555-0100, a test number in Sandbox."""
    return PhoneNumber.objects.add_test(sandbox, FIRST, number_type="local", by=owner, at=NOON)


def add(client, number="", number_type="local", address=ADD, **request):
    return client.post(address, {"number_type": number_type, "number": number}, **request)


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split()).replace(" .", ".")


def balanced():
    return check_books(at=timezone.now()) == []


# Adding -----------------------------------------------------------------------------------------


def test_form_says_that_it_costs_nothing_and_which_numbers_refuse(owner_client, sandbox):
    words = text_of(owner_client.get(ADD))
    assert "costs nothing and never reaches a carrier" in words
    assert "+15005550000 answers as one that was just sold" in words
    assert "+15005550002 as a payment that was refused" in words
    assert "(500) 555-0100, unless you write another" in words


def test_number_is_added_and_costs_nothing(owner_client, sandbox):
    response = add(owner_client, "+1 (212) 555-0142", follow=True)
    assert response.redirect_chain == [(APP, 302)]
    assert "Added (212) 555-0142. It costs nothing." in text_of(response)
    number = PhoneNumber.objects.get()
    assert (number.number, number.is_test, number.carrier) == ("+12125550142", True, "test")
    assert [each.application for each in number.assignments.open()] == [sandbox]
    assert not Charge.objects.exists()
    assert not Rental.objects.exists()
    assert not Order.objects.exists()
    assert balanced()


@pytest.mark.parametrize(
    ("number_type", "number"),
    [("local", FIRST), ("tollfree", "+18885550100"), ("shortcode", "10100")],
)
def test_left_empty_it_is_the_number_that_was_offered(owner_client, sandbox, number_type, number):
    words = text_of(owner_client.get(ADD))
    response = add(owner_client, number_type=number_type)
    assert response.status_code == 302
    added = PhoneNumber.objects.get()
    assert (added.number, added.number_type) == (number, number_type)
    assert f"{added.display}, unless you write another" in words


TYPED = {
    "212-555-0142": ("+12125550142", "local"),
    "1 212 555 0142": ("+12125550142", "local"),
    "+44 20 7946 0958": ("+442079460958", "local"),
    "(800) 555-0199": ("+18005550199", "tollfree"),
    "701 42": ("70142", "shortcode"),
}


@pytest.mark.parametrize("typed", TYPED)
def test_numbers_may_be_typed_as_people_write_them(owner_client, sandbox, typed):
    number, number_type = TYPED[typed]
    assert add(owner_client, typed, number_type).status_code == 302
    assert PhoneNumber.objects.get().number == number


def test_what_happened_is_recorded_and_told_as_through_the_api(owner_client, sandbox, owner):
    sandbox.set_webhook(
        url="https://hooks.example/", events=WebhookEvent.values, headers={}, by=owner, at=NOON
    )
    add(owner_client)
    number = PhoneNumber.objects.get()
    row = Activity.objects.get(subject=number.public_id)
    assert (row.verb, row.actor_name) == ("purchased", str(owner))
    delivery = Delivery.objects.get()
    assert delivery.event == "phone_numbers.purchased"
    assert delivery.body["data"]["phoneNumber"]["phoneNumberId"] == number.public_id
    page = text_of(owner_client.get(f"{LIST}{number.public_id}/"))
    assert "Added as a test number of Sandbox" in page
    assert "Added the test number (500) 555-0100 to Sandbox" in text_of(owner_client.get(HOME))


def test_dialog_answers_with_the_list_behind_it(owner_client, sandbox):
    response = add(owner_client, headers=HTMX)
    assert "close-dialog" in response.headers["HX-Trigger"]
    words = text_of(response)
    assert "(500) 555-0100" in words
    assert "1 number" in words
    assert "Added (500) 555-0100. It costs nothing." in words


def test_dialog_on_another_page_leads_to_the_list(owner_client, sandbox):
    headers = HTMX | {"HX-Current-URL": f"http://testserver{HOME}"}
    assert add(owner_client, headers=headers).headers["HX-Redirect"] == APP


@pytest.mark.parametrize(
    ("typed", "number_type", "reason"),
    [
        ("call me", "local", "Write a number such as +12125550142"),
        ("12", "local", "Write a number such as"),
        ("+0123456789", "local", "Write a number such as"),
        ("+12125550142", "shortcode", "Write a number such as"),
        ("7" * 39, "local", "Write a number such as"),
        ("7" * 41, "local", "A number has at most 15 digits."),
        ("+1212555014٢", "local", "Write a number such as"),
        ("+18005550199", "local", "A toll-free number begins with"),
        ("+12125550142", "tollfree", "A toll-free number begins with"),
        ("", "", "Choose a type."),
        ("", "mobile", "Choose local, toll-free or short code."),
    ],
)
def test_what_cannot_be_a_number_is_said_where_it_was_typed(
    owner_client, sandbox, typed, number_type, reason
):
    for headers in ({}, HTMX):
        response = add(owner_client, typed, number_type, headers=headers)
        assert response.status_code == 422
        assert reason in text_of(response)
        assert f'value="{typed}"' in response.content.decode() or not typed
    assert not PhoneNumber.objects.exists()


@pytest.mark.parametrize("serial", ["0", "99", "10000", "x", "-1"])
def test_a_serial_that_nobody_offered_is_refused(owner_client, sandbox, serial):
    response = owner_client.post(ADD, {"number_type": "local", "number": "", "serial": serial})
    assert response.status_code == 422
    assert not PhoneNumber.objects.exists()


def test_nul_byte_is_no_number(owner_client, sandbox):
    assert add(owner_client, "+1212\x005550142").status_code == 422


def test_empty_form_adds_the_number_that_is_free(owner_client, test_number):
    assert add(owner_client).status_code == 302
    assert PhoneNumber.objects.filter(number="+15005550101").exists()


def test_sending_it_twice_is_one_number_and_409_with_the_number_as_it_is(owner_client, sandbox):
    form = {"number_type": "local", "number": "", "serial": "100"}
    assert owner_client.post(ADD, form).status_code == 302
    again = owner_client.post(ADD, form)
    assert again.status_code == 409
    words = text_of(again)
    assert "(500) 555-0100 is one of your test numbers already" in words
    assert "It is in Sandbox. Nothing was added." in words
    assert "(500) 555-0101, unless you write another" in words, "another one is offered"
    assert f'<tr id="{PhoneNumber.objects.get().public_id}"' in again.content.decode()
    dialog = owner_client.post(ADD, form, headers=HTMX)
    assert dialog.status_code == 409
    assert 'hx-swap-oob="true"' in dialog.content.decode(), "the list behind it"
    assert Activity.objects.filter(verb="purchased").count() == 1
    assert balanced()


def test_number_in_another_application_is_one_of_theirs_already(owner_client, test_number, trial):
    response = add(owner_client, FIRST, address=f"{HOME}apps/trial/numbers/test/")
    assert response.status_code == 409
    assert "It is in Sandbox." in text_of(response)
    test_number.remove(test_number.assignments.get().application, by=None, at=timezone.now())
    response = add(owner_client, FIRST, address=f"{HOME}apps/trial/numbers/test/")
    assert "It is in no application." in text_of(response)


@pytest.mark.parametrize(
    ("number", "reason"),
    [("+15005550000", "+15005550000 was just sold."), ("+15005550002", "The payment was refused.")],
)
def test_numbers_that_refuse_do_so_and_what_was_typed_stays(owner_client, sandbox, number, reason):
    response = add(owner_client, number)
    assert response.status_code == 409
    assert reason in text_of(response)
    assert f'value="{number}"' in response.content.decode()
    assert not PhoneNumber.objects.exists()


def test_digits_that_somebody_owns_live_are_free_for_tests(owner_client, number, sandbox, stock):
    """A test number meets no real one, whoever has it: an integration is tried with its real digits."""
    assert add(owner_client, number.number).status_code == 302
    assert add(owner_client, stock[1].number).status_code == 302
    assert InventoryNumber.objects.get(pk=stock[1].pk).status == "for_sale"
    assert balanced()


def test_another_organization_may_have_the_same_test_number(
    owner_client, test_number, rival, rival_client
):
    rival.applications.create(name="Theirs", slug="theirs", kind="test")
    response = add(rival_client, FIRST, address="/o/rival/apps/theirs/numbers/test/")
    assert response.status_code == 302
    assert PhoneNumber.objects.filter(number=FIRST).count() == 2
    assert balanced()


@pytest.mark.parametrize(
    ("facts", "reason"),
    [
        ({"slug": "shop", "kind": "live"}, "It is a live application"),
        ({"slug": "old", "kind": "test", "archived_at": NOON}, "An archived application"),
    ],
)
def test_live_and_archived_applications_take_none(owner_client, organization, facts, reason):
    organization.applications.create(name="Other", **facts)
    address = f"{HOME}apps/{facts['slug']}/numbers/test/"
    asked = owner_client.get(address)
    assert asked.status_code == 200
    assert reason in text_of(asked)
    assert 'name="number_type"' not in asked.content.decode()
    for headers in ({}, HTMX):
        refused = add(owner_client, address=address, headers=headers)
        assert refused.status_code == 409
        assert "Nothing was added." in text_of(refused)
    assert not PhoneNumber.objects.exists()


def test_no_more_than_a_thousand_are_added(owner_client, organization, sandbox):
    numbers = [f"+1212555{index:04}" for index in range(LIVE_AT_MOST)]
    own(organization, *numbers, is_test=True, no_fee_reason="test", rental_amount=0)
    response = add(owner_client)
    assert response.status_code == 409
    assert "There are 1,000 test numbers. Release some first." in text_of(response)


@pytest.mark.parametrize("client", ["developer_client", "billing_client", "viewer_client"])
def test_lesser_roles_may_not_add_one(request, client, sandbox):
    client = request.getfixturevalue(client)
    assert client.get(ADD).status_code == 403
    assert add(client).status_code == 403
    assert not PhoneNumber.objects.exists()
    assert ADD not in client.get(APP).content.decode()


@pytest.mark.parametrize("client", ["rival_client", "stranger_client"])
def test_for_others_the_application_does_not_exist(request, client, sandbox):
    client = request.getfixturevalue(client)
    assert client.get(ADD).status_code == 404
    assert add(client).status_code == 404
    assert not PhoneNumber.objects.exists()


def test_test_application_of_others_is_404(owner_client, rival):
    rival.applications.create(name="Theirs", slug="theirs", kind="test")
    path = f"{HOME}apps/theirs/numbers/test/"
    assert owner_client.get(path).status_code == owner_client.post(path).status_code == 404
    assert not PhoneNumber.objects.exists()


def test_application_nobody_has_is_404(owner_client, organization):
    assert owner_client.get(ADD).status_code == 404


def test_without_the_check_a_second_is_no_answer_at_all(owner_client, test_number, monkeypatch):
    """The control: what refuses the second one by name is the check under the organization's lock."""
    monkeypatch.setattr(AddsTestNumbers, "_check_test", lambda *given: None)
    with pytest.raises(IntegrityError):
        add(owner_client, FIRST)


@pytest.mark.django_db(transaction=True)
def test_sent_many_times_at_once_it_is_one_number(owner, sandbox):
    clients = [signed_in(owner) for _ in range(6)]
    barrier, statuses = threading.Barrier(len(clients)), []

    def send(client):
        try:
            barrier.wait()
            form = {"number_type": "local", "number": "", "serial": "100"}
            statuses.append(client.post(ADD, form).status_code)
        finally:
            connection.close()

    threads = [threading.Thread(target=send, args=[client]) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(statuses) == [302, 409, 409, 409, 409, 409]
    assert PhoneNumber.objects.get().assignment_count == 1
    assert Assignment.objects.open().count() == 1
    assert Activity.objects.filter(verb="purchased").count() == 1
    assert balanced()


def second_of_two(sandbox, owner):
    """What became of adding a number while another process is about to have added it."""

    def once():
        PhoneNumber.objects.add_test(the(sandbox), FIRST, number_type="local", by=owner, at=NOON)

    with transaction.atomic():
        once()
        second = Meanwhile(once)
        assert second.waits()
    second.thread.join()
    return second.failure


@pytest.mark.django_db(transaction=True)
def test_the_second_waits_for_the_first_and_is_told(sandbox, owner):
    assert isinstance(second_of_two(sandbox, owner), TestNumberGone)
    assert PhoneNumber.objects.count() == 1


@pytest.mark.django_db(transaction=True)
def test_without_the_locks_only_the_database_refuses_it(sandbox, owner, monkeypatch):
    for model in (Organization, Application):
        monkeypatch.setattr(model, "lock", lambda row: None)
    assert isinstance(second_of_two(sandbox, owner), IntegrityError)
    assert PhoneNumber.objects.count() == 1


def test_made_up_numbers_are_numbers_and_none_that_refuses():
    for number_type in ("local", "tollfree", "shortcode"):
        for serial in (100, 9_999):
            assert problem_of(made_up(number_type, serial), number_type) == ""


def test_owned_test_number_is_gone_for_the_api(test_number, sandbox, owner):
    with pytest.raises(TestNumberGone, match="was just sold"):
        PhoneNumber.objects.add_test(sandbox, FIRST, number_type="local", by=owner, at=NOON)


# Where there is none ----------------------------------------------------------------------------


def test_empty_test_application_leads_to_adding_one(owner_client, developer_client, sandbox):
    words = text_of(owner_client.get(APP))
    assert "No test numbers yet" in words
    assert "Add a test number" in words
    assert "Assign one you have" not in words
    assert "An owner or admin can add one." in text_of(developer_client.get(APP))


def test_with_test_numbers_elsewhere_one_can_be_assigned(
    owner_client, developer_client, test_number, trial
):
    address = f"{HOME}apps/trial/numbers/"
    assert "Assign one you have" in text_of(owner_client.get(address))
    assert "Assign a number" in text_of(developer_client.get(address))


def test_live_application_is_not_led_to_test_numbers(owner_client, test_number, storefront):
    words = text_of(owner_client.get(f"{HOME}apps/storefront/numbers/"))
    assert "Your organization has none. Purchase one" in words
    assert "Add test number" not in words


def test_picker_of_a_test_application_leads_to_adding_one(
    owner_client, developer_client, storefront, sandbox
):
    assert ADD in owner_client.get(f"{APP}assign/").content.decode()
    assert ADD not in developer_client.get(f"{APP}assign/").content.decode()
    live = owner_client.get(f"{HOME}apps/storefront/numbers/assign/").content.decode()
    assert "/numbers/test/" not in live


# Where they are shown ---------------------------------------------------------------------------


def rows_of(response):
    return re.findall(r'<tr id="(ph_\w+)"', response.content.decode())


def test_list_tags_them_and_asks_no_rent(owner_client, test_number):
    response = owner_client.get(LIST)
    row = text_of(response).split("(500) 555-0100")[1].split("Actions for")[0]
    assert "Active Test" in row
    assert "free" in row
    assert "$" not in row
    assert "Dec" not in row, "no next charge"


def test_list_counts_them_apart_and_filters_by_kind(owner_client, test_number, number):
    words = text_of(owner_client.get(LIST))
    assert "1 number · $1.00 a month · next invoice 1 Dec · 1 test number" in words
    assert "All 2" in words
    assert rows_of(owner_client.get(f"{LIST}?kind=test")) == [test_number.public_id]
    assert rows_of(owner_client.get(f"{LIST}?kind=live")) == [number.public_id]
    assert len(rows_of(owner_client.get(f"{LIST}?kind=both"))) == 2


def test_filter_by_kind_shows_only_where_there_are_test_numbers(owner_client, number):
    assert 'name="kind"' not in owner_client.get(LIST).content.decode()
    assert 'name="kind"' in owner_client.get(f"{LIST}?kind=test").content.decode()


def test_application_list_counts_them(owner_client, test_number):
    words = text_of(owner_client.get(f"{HOME}apps/"))
    assert "Sandbox sandbox Test 1" in words


def test_overview_counts_live_numbers_and_names_test_ones(
    owner_client, organization, test_number, number, sandbox, owner
):
    test_number.remove(sandbox, by=owner, at=NOON)
    response = owner_client.get(HOME)
    overview = response.context["overview"]
    assert (overview.numbers, overview.tests, overview.idle.size) == (1, 1, 1)
    assert [row["number"] for row in overview.idle.rows] == [number.number]
    assert "1 not assigned · 1 test number" in text_of(response)
    assert f"{LIST}?state=unassigned&amp;kind=live" in response.content.decode()
    assert rows_of(owner_client.get(f"{LIST}?state=unassigned&kind=live")) == [number.public_id]


def test_organization_with_test_numbers_only_still_has_to_begin(owner_client, test_number):
    assert "Purchase your first phone number" in text_of(owner_client.get(HOME))


def test_page_says_that_it_costs_nothing(owner_client, test_number):
    words = text_of(owner_client.get(f"{LIST}{test_number.public_id}/"))
    assert "None. A test number costs nothing and never reaches a carrier." in words
    for word in ("Rental", "Next charge", "Charges", "$0.00", "Cost so far"):
        assert word not in words


@pytest.mark.parametrize(
    "address",
    ["billing/", "billing/charges/", "billing/numbers/", "billing/forecast/",
     "billing/calendar/", "billing/applications/", "billing/payments/", "billing/documents/",
     "billing/charges/csv/", "billing/numbers/csv/", "billing/forecast/csv/",
     "billing/applications/csv/", "orders/"],
)  # fmt: skip
def test_pages_about_money_know_nothing_of_them(owner_client, test_number, number, address):
    response = owner_client.get(f"{HOME}{address}")
    assert response.status_code == 200
    content = b"".join(response) if response.streaming else response.content
    for digits in (b"(500) 555-0100", FIRST.encode(), test_number.public_id.encode()):
        assert digits not in content


def test_forecast_is_that_of_the_live_number(owner_client, number, test_number):
    before = text_of(owner_client.get(f"{HOME}billing/"))
    test_number.release(when="now", by=None, at=timezone.now())
    assert text_of(owner_client.get(f"{HOME}billing/")) == before


def test_admin_shows_them_as_what_they_are(operator_client, test_number, sandbox):
    assert "500" in text_of(operator_client.get("/admin/numbers/phonenumber/?is_test__exact=1"))
    page = operator_client.get(f"/admin/numbers/phonenumber/{test_number.pk}/change/")
    assert (page.status_code, "Sandbox" in text_of(page)) == (200, True)
    page = operator_client.get(f"/admin/organizations/application/{sandbox.pk}/change/")
    assert page.status_code == 200
    operator_client.post(
        "/admin/numbers/phonenumber/",
        {"action": "lock", "_selected_action": [test_number.pk]},
    )
    assert PhoneNumber.objects.get().release_locked


# What is done with them -------------------------------------------------------------------------


def test_live_and_test_do_not_mix(owner_client, test_number, number, sandbox, storefront, trial):
    page = f"{LIST}{test_number.public_id}/"
    offered = owner_client.get(f"{page}assign/").context["applications"]
    assert [each.slug for each in offered] == ["trial"]
    moved = owner_client.get(f"{page}move/").context["targets"]
    assert [each.slug for each in moved] == ["trial"]
    assert "$" not in text_of(owner_client.get(f"{page}move/"))
    for verb, data in (
        ("assign", {"application": "storefront"}),
        ("move", {"from": "sandbox", "to": "storefront"}),
    ):
        response = owner_client.post(f"{page}{verb}/", data)
        assert response.status_code == 409
        assert "test numbers to test applications" in text_of(response)
    response = owner_client.post(f"{APP}assign/", {"number": number.public_id})
    assert response.status_code == 409
    assert "Live numbers go to live applications" in text_of(response)


def test_it_moves_between_test_applications(developer_client, test_number, sandbox, trial):
    page = f"{LIST}{test_number.public_id}/"
    response = developer_client.post(
        f"{page}move/", {"from": "sandbox", "to": "trial"}, follow=True
    )
    assert "Moved from Sandbox to Trial." in text_of(response)
    assert balanced()


def test_removing_it_does_not_speak_of_bills(owner_client, test_number):
    page = f"{LIST}{test_number.public_id}/"
    words = text_of(owner_client.get(f"{page}remove/"))
    assert "a test number costs nothing" in words
    assert "billed" not in words
    response = owner_client.post(f"{page}remove/", {"application": "sandbox"}, follow=True)
    assert "Removed from Sandbox." in text_of(response)
    assert balanced()


def test_label_and_lock_work_as_for_any_number(owner_client, test_number):
    page = f"{LIST}{test_number.public_id}/"
    owner_client.post(f"{page}label/", {"label": "Trial line"})
    assert "unpaid" not in text_of(owner_client.get(f"{page}lock/"))
    owner_client.post(f"{page}lock/", {"locked": "yes"})
    number = PhoneNumber.objects.get()
    assert (number.label, number.release_locked) == ("Trial line", True)
    assert owner_client.post(f"{page}release/", {"when": "now"}).status_code == 409
    assert "locked against release" in text_of(owner_client.get(f"{page}release/"))


def test_release_question_is_about_now_and_says_it_is_final(owner_client, test_number):
    words = text_of(owner_client.get(f"{LIST}{test_number.public_id}/release/"))
    assert "It stops working at once and cannot be brought back" in words
    assert "1 application will lose it" in words
    for word in ("Paid until", "Refund", "Undo", "$0.00", "At the end of the period"):
        assert word not in words


@pytest.mark.parametrize("when", ["now", "period_end"])
def test_release_is_at_once_whenever_it_is_asked_for(owner_client, test_number, when):
    page = f"{LIST}{test_number.public_id}/"
    response = owner_client.post(f"{page}release/", {"when": when}, follow=True)
    words = text_of(response)
    assert "Released (500) 555-0100." in words
    assert "can be brought back" not in words
    assert "A test number is not brought back. Add it again; it is free." in words
    assert "Undo release" not in words
    number = PhoneNumber.objects.get()
    assert (number.is_released, number.assignment_count) == (True, 0)
    assert not Charge.objects.exists()
    assert balanced()


def test_released_test_number_is_not_brought_back_but_added_again(
    owner_client, test_number, owner, sandbox
):
    test_number.release(when="now", by=owner, at=NOON)
    page = f"{LIST}{test_number.public_id}/"
    for address in (f"{page}undo-release/", f"{page}release/", f"{page}remove/", f"{page}assign/"):
        assert "A test number is not brought back." in text_of(owner_client.get(address))
    assert owner_client.post(f"{page}undo-release/", {}).status_code == 409
    with pytest.raises(ReleaseRefused, match="Add it again"):
        test_number.undo_release(by=owner, at=NOON)
    assert "Undo release" not in text_of(owner_client.get(f"{LIST}?state=released"))
    assert owner_client.post(f"{page}cancel-release/", {}).status_code == 409
    assert owner_client.get(f"{page}cancel-release/").status_code == 200
    assert add(owner_client, FIRST).status_code == 302
    assert balanced()


def test_archiving_its_application_leaves_it_free(owner_client, test_number):
    words = text_of(owner_client.get(f"{HOME}apps/sandbox/archive/"))
    assert "cost nothing" in words
    assert "billed" not in words
    owner_client.post(f"{HOME}apps/sandbox/archive/")
    number = PhoneNumber.objects.get()
    assert (number.is_released, number.assignment_count) == (False, 0)
    assert balanced()


def test_unpaid_rent_stops_no_test_number(owner_client, organization, test_number, number, sandbox):
    """They are left alone by the ladder, and adding one purchases nothing."""
    suspend(organization, at=NOON)
    PhoneNumber.objects.follow_standing(at=NOON)
    states = dict(PhoneNumber.objects.values_list("is_test", "state"))
    assert states == {True: "active", False: "suspended"}
    assert add(owner_client).status_code == 302
    assert "Suspended" not in text_of(owner_client.get(APP)).split("Add test number")[1]
