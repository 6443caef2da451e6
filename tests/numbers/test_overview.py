"""The overview: what an organization has, owes and should look at, by role, in five queries."""

from datetime import date, timedelta

import pytest
import time_machine

from chirp_dashboard.billing.models import Charge, Invoice, Payment, PriceChange, Rental
from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import Activity

from .conftest import NOON, in_stock

PAGE = "/o/northwind/"
TODAY = NOON.date()
FIRST_OF_DECEMBER = NOON.replace(month=12, day=1)


@pytest.fixture(autouse=True)
def clock():
    with time_machine.travel(NOON + timedelta(hours=1), tick=False):
        yield


def page(client):
    return client.get(PAGE).content.decode()


def activity(client):
    return [step["text"] for step in client.get(PAGE).context["recent"]]


# Numbers


def test_numbers_and_their_rental_are_counted(viewer_client, purchase, stock, storefront):
    purchase(*stock[:2], application=storefront)
    purchase(stock[2])
    content = page(viewer_client)
    assert "$3.00" in content
    assert "1 not assigned" in content
    assert "(212) 555-0144" in content


def test_numbers_not_assigned_can_be_assigned_by_who_may(developer_client, viewer_client, number):
    link = f'href="/o/northwind/numbers/{number.public_id}/assign/" data-dialog'
    assert link in page(developer_client)
    assert link not in page(viewer_client)


def test_scheduled_release_is_announced(owner_client, viewer_client, number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    assert "Releasing 30 Nov" in page(owner_client)
    keep = f"/o/northwind/numbers/{number.public_id}/cancel-release/"
    assert keep in page(owner_client)
    assert keep not in page(viewer_client)


def test_suspended_numbers_are_said_first(viewer_client, number):
    type(number).objects.update(state="suspended", suspended_on=TODAY)
    assert "1 number suspended" in page(viewer_client)


def test_order_under_way_is_listed(viewer_client, purchase, stock):
    purchase(stock[0])
    Order.objects.update(state="ordered")
    content = page(viewer_client)
    assert "Orders under way" in content
    assert f"/o/northwind/orders/{Order.objects.get().public_id}/" in content


# Money


def test_forecast_is_what_the_next_invoice_asks_for(billing_client, purchase, stock, owner):
    numbers = purchase(*stock[:3])
    numbers[0].release(when="period_end", by=owner, at=NOON)
    content = page(billing_client)
    Rental.objects.charge_due(at=FIRST_OF_DECEMBER)
    assert Invoice.objects.get().total == 3 * 127 + 200
    assert "$5.81" in content
    assert "$2.00 rental and $3.81 not yet invoiced" in content


def test_a_credit_is_said_beside_the_forecast(billing_client, organization, owner):
    Charge.objects.issue_credit(organization, amount=50, reason="Sorry", by=owner, at=NOON)
    in_stock("+12125559999")
    type(organization).objects.get().phone_numbers.create(
        country="US", number="+12125559999", number_type="local", rental_amount=0, currency="USD"
    )
    assert "less $0.50 credited" in page(billing_client)


def test_money_paid_in_advance_is_said(billing_client, organization, number, owner):
    Payment.objects.record_transfer(
        organization, amount=1000, received_on=TODAY, reference="Early", by=owner, at=NOON
    )
    assert "$10.00 paid in advance" in page(billing_client)


def test_due_now_is_what_invoices_still_ask_for(billing_client, organization, number, owner):
    Rental.objects.charge_due(at=FIRST_OF_DECEMBER)
    Payment.objects.record_transfer(
        organization, amount=27, received_on=TODAY, reference="Part", by=owner, at=NOON
    )
    with time_machine.travel(FIRST_OF_DECEMBER):
        content = page(billing_client)
    assert "$2.00" in content
    assert Invoice.objects.get().title in content
    assert "overdue" not in content


def test_overdue_invoice_is_said_first(client, billing_person, viewer, number):
    Rental.objects.charge_due(at=FIRST_OF_DECEMBER)
    with time_machine.travel(FIRST_OF_DECEMBER + timedelta(days=32)):
        client.force_login(billing_person)
        assert "Invoice 000001 is overdue" in page(client)
        client.force_login(viewer)
        assert "overdue" not in page(client)


def test_money_owed_is_for_those_who_see_billing(
    billing_client, owner_client, developer_client, viewer_client, number
):
    Rental.objects.charge_due(at=FIRST_OF_DECEMBER)
    for client in (billing_client, owner_client):
        assert "Due now" in page(client)
        assert "Invoice 000001 issued: $2.27" in activity(client)
    for client in (developer_client, viewer_client):
        assert "Due now" not in page(client)
        assert "Invoice 000001" not in page(client)


# Activity


def test_what_was_done_to_many_at_once_is_one_sentence(viewer_client, purchase, stock, storefront):
    purchase(*stock[:3], application=storefront)
    assert activity(viewer_client) == [
        "Assigned (212) 555-0142 and 2 more to Storefront",
        "Purchased (212) 555-0142 and 2 more",
    ]


def test_activity_reads_as_sentences(owner_client, number, storefront, alerts, owner, organization):
    number.assign(storefront, by=owner, at=NOON)
    number.move(storefront, alerts, by=owner, at=NOON)
    number.remove(alerts, by=owner, at=NOON)
    number.rename("Front desk", by=owner, at=NOON)
    number.rename("", by=owner, at=NOON)
    number.set_release_lock(True, by=owner, at=NOON)
    number.set_release_lock(False, by=owner, at=NOON)
    number.release(when="period_end", by=owner, at=NOON)
    number.cancel_release(by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON + timedelta(minutes=1))
    number.undo_release(by=owner, at=NOON + timedelta(minutes=2))
    expected = [
        "Brought back (212) 555-0142",
        "Released (212) 555-0142",
        "Cancelled the release of (212) 555-0142",
        "Scheduled (212) 555-0142 for release after 30 Nov 2026",
        "Unlocked (212) 555-0142 for release",
        "Locked (212) 555-0142 against release",
        "Labelled (212) 555-0142 no more",
        "Labelled (212) 555-0142 “Front desk”",
        "Removed (212) 555-0142 from Alerts",
        "Moved (212) 555-0142 from Storefront to Alerts",
    ]
    assert activity(owner_client) == expected


def test_activity_of_the_organization_reads_as_sentences(
    owner_client, organization, storefront, owner, stranger
):
    storefront.rename("Shop", by=owner, at=NOON)
    storefront.set_webhook(url="https://a.example", events=[], headers={}, by=owner, at=NOON)
    storefront.remove_webhook(by=owner, at=NOON)
    organization.change_settings({"name": "Northwind Traders"}, by=owner, at=NOON)
    organization.admit(stranger, "viewer", by=owner, at=NOON)
    organization.admit(stranger, "billing", by=owner, at=NOON)
    organization.memberships.get(user=stranger).end(by=owner, at=NOON)
    Charge.objects.issue_credit(organization, amount=50, reason="Sorry", by=owner, at=NOON)
    assert activity(owner_client) == [
        "Credit of $0.50 given: Sorry",
        "Took stranger@elsewhere.example out of the organization",
        "Made stranger@elsewhere.example billing",
        "Added stranger@elsewhere.example as viewer",
        "Changed the settings of the organization",
        "Removed the webhook of Shop",
        "Saved the webhook of Shop",
        "Renamed the application Storefront to Shop",
    ]


def test_what_went_wrong_with_an_order_is_told(viewer_client, purchase, stock, owner):
    purchase(stock[0])
    order = Order.objects.get()
    order.state = "declined"
    order.note("placed", at=NOON)
    assert activity(viewer_client)[0] == f"Order {order}: payment declined"


def test_an_announced_price_is_told_to_who_may_see_billing(
    viewer_client, billing_client, operator, purchase, stock
):
    purchase(stock[0])
    change = PriceChange.objects.announce(
        country="US", number_type="local", interval_months=1, amount=150, currency="USD",
        applies_from=date(2027, 2, 1), reason="Carriers raised theirs", by=operator, at=NOON,
    )[0]  # fmt: skip
    assert activity(billing_client)[0] == "Announced a new price: $1.50 from 1 Feb 2027"
    change.withdraw(reason="A slip", by=operator, at=NOON)
    assert activity(billing_client)[0].endswith("from 1 Feb 2027: A slip")
    assert not any("price" in text for text in activity(viewer_client))


def test_a_verb_of_a_later_version_is_still_a_sentence(viewer_client, organization, owner):
    Activity.objects.record(organization, "ported_in", subject="ph_x", by=owner, at=NOON)
    assert activity(viewer_client) == ["ph_x: ported in"]


def test_what_people_wrote_is_not_taken_as_markup(viewer_client, number, owner):
    number.rename("<b>{what}</b>", by=owner, at=NOON)
    content = page(viewer_client)
    assert "<b>{what}" not in content
    assert "&lt;b&gt;{what}" in content


def test_more_than_is_read_is_not_counted(viewer_client, organization, owner):
    for part in range(3):
        Activity.objects.bulk_record(
            organization,
            "suspended",
            [(f"ph_{part}_{n}", None, None) for n in range(100)],
            by=owner,
            at=NOON,
        )
    assert activity(viewer_client) == ["Suspended ph_1_0 and many more: rent is unpaid"]


# Beginning


def test_new_organization_is_told_to_begin_with_an_application(owner_client):
    content = page(owner_client)
    assert "Start with an application" in content
    assert "/o/northwind/apps/create/" in content


def test_with_an_application_the_next_step_is_a_number(owner_client, storefront):
    content = page(owner_client)
    assert "Purchase your first phone number" in content
    assert content.count("/o/northwind/numbers/purchase/") == 1


def test_who_may_not_purchase_is_told_who_may(viewer_client, organization):
    content = page(viewer_client)
    assert "An owner or admin" in content
    assert "/numbers/purchase/" not in content


# Queries, and others


@pytest.mark.parametrize(("client", "queries"), [("viewer_client", 5), ("owner_client", 6)])
def test_overview_takes_few_queries(
    request, client, queries, purchase, stock, storefront, prices, django_assert_num_queries
):
    client = request.getfixturevalue(client)
    purchase(*stock, application=storefront)
    purchase(*(in_stock(f"+1212556{n:04}") for n in range(12)))
    Rental.objects.charge_due(at=FIRST_OF_DECEMBER)
    # Session, person, frame, facts, activity; and the statement of the billing page, so that the
    # two pages never disagree.
    with django_assert_num_queries(queries):
        client.get(PAGE)


@pytest.mark.parametrize("client", ["rival_client", "stranger_client"])
def test_overview_of_others_is_not_found(request, client, number):
    assert request.getfixturevalue(client).get(PAGE).status_code == 404


def test_nothing_of_others_is_in_it(rival_client, rival, number):
    content = rival_client.get("/o/rival/").content.decode()
    assert "555-0142" not in content
    assert "No phone" in content or "Start with" in content


def test_post_is_refused(owner_client):
    assert owner_client.post(PAGE).status_code == 405
