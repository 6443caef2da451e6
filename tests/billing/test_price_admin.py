"""Prices at the operator's desk: what a row affects is seen before it is saved or announced."""

import re
from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.models import Price, PriceChange, RentalPrice
from chirp_dashboard.organizations.models import Mail, Organization, User

from .conftest import rent

HOME = "/admin/billing/"


@pytest.fixture
def today():
    return timezone.now().date()


@pytest.fixture
def listed(db, today):
    """1.50 a month for everyone, in force since yesterday."""
    return Price.objects.create(
        country="US", number_type="local", purchase_fee=100, rental=150,
        valid_from=today - timedelta(days=1),
    )  # fmt: skip


@pytest.fixture
def rented(organization, rival, today):
    """Two rentals of Northwind and one of Rival at 1.00."""
    return rent(organization, on=today, numbers=2) + rent(rival, on=today)


def typed(**changed):
    return {
        "country": "us", "number_type": "local", "currency": "usd", "purchase_fee": "100",
        "rental": "180", "interval_months": "1", "valid_from": "2999-01-01",
    } | changed  # fmt: skip


def text(response):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


def add(client, **changed):
    return client.post(f"{HOME}price/add/", typed(**changed))


# A new row ------------------------------------------------------------------------------------


def test_a_new_row_is_shown_with_what_it_affects_before_it_is_saved(
    operator_client, listed, rented, organization, rival
):
    shown = text(add(operator_client))
    assert not Price.objects.filter(rental=180).exists()
    assert "From 1 Jan 2999. Until then $1.00 once and $1.50 monthly" in shown
    assert "For 2 organizations: Northwind, Rival." in shown
    assert "Running rentals keep what they pay" in shown
    assert "3 $1.00 monthly $3.00" in shown
    assert add(operator_client, seen="yes", _continue="yes").status_code == 302
    assert Price.objects.get(rental=180).valid_from == date(2999, 1, 1)


def test_the_page_brings_back_what_was_typed(operator_client, listed):
    page = add(operator_client, _addanother="yes").content.decode()
    fields = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', page))
    assert fields["_addanother"] == "yes"
    assert operator_client.post(f"{HOME}price/add/", fields).status_code == 302
    assert Price.objects.filter(rental=180).exists()


def test_a_row_of_one_organization_names_it_alone(operator_client, listed, rented, organization):
    shown = text(add(operator_client, organization=organization.pk))
    assert "For 1 organization: Northwind." in shown
    assert "2 $1.00 monthly $2.00" in shown
    assert "the price for everyone" in shown


def test_organizations_with_a_price_of_their_own_are_left_out(operator_client, rented, rival):
    Price.objects.create(
        organization=rival, country="US", number_type="local", purchase_fee=0, rental=80,
        valid_from=date(2026, 1, 1),
    )  # fmt: skip
    shown = text(add(operator_client))
    assert "Not for those with a price of their own: Rival." in shown
    assert "2 $1.00 monthly" in shown


def test_the_row_that_takes_its_place_later_is_named(operator_client, listed):
    add(operator_client, seen="yes")
    assert "until the row of 1 Jan 2999 takes its place" in text(
        add(operator_client, valid_from="2998-01-01")
    )


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"rental": "-1"}, "greater than or equal to 0"),
        ({"currency": "EUR", "organization": "northwind"}, "Northwind pays in USD."),
        ({"valid_from": "listed"}, "is on the price list of everyone already"),
        ({"valid_from": "2020-01-01"}, "is in force for everyone. A new one begins on"),
    ],
)
def test_a_row_that_contradicts_the_list_is_refused(
    operator_client, listed, organization, wrong, says
):
    named = {"northwind": organization.pk, "listed": str(listed.valid_from)}
    wrong = {name: named.get(value, value) for name, value in wrong.items()}
    for seen in ({}, {"seen": "yes"}):
        assert says in text(add(operator_client, **wrong, **seen))
    assert Price.objects.get() == listed


def test_a_row_that_was_in_force_is_not_changed(operator_client, listed):
    path = f"{HOME}price/{listed.pk}/change/"
    for seen in ({}, {"seen": "yes"}):
        assert operator_client.post(path, typed(**seen)).status_code == 403
    assert operator_client.get(path).status_code == 200
    listed.refresh_from_db()
    assert listed.rental == 150


def test_the_effect_is_shown_to_those_who_may_save(listed, clerk):
    assert add(clerk("view_price")).status_code == 403
    assert add(clerk("view_price", "add_price")).status_code == 200


# Running rentals ------------------------------------------------------------------------------


@pytest.fixture
def clerk(db):
    def clerk(*permissions):
        person = User.objects.create_user(
            f"{len(permissions)}{permissions[-1]}@chirp.example", "correct horse", is_staff=True
        )
        person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(person)
        return client

    return clerk


def act(client, model, action, row, **answer):
    sent = {"action": action, "_selected_action": [row.pk]} | answer
    return client.post(f"{HOME}{model}/", sent, follow=True)


def first_period(today):
    return today + timedelta(days=70)


def see(client, price, today, **answer):
    once = act(client, "price", "apply_to_running", price).context["once"]
    answer = {"applies_from": first_period(today), "reason": "Carriers raised theirs"} | answer
    return act(client, "price", "apply_to_running", price, answer=once, **answer)


def confirm(client, price, seen):
    """Send the confirmation, and let the worker come."""
    form = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', seen.content.decode())
    response = client.post(f"{HOME}price/", dict(form), follow=True)
    tasks.announce_prices(timestamp=0)
    return response


def test_the_announcement_is_seen_and_then_confirmed(
    operator_client, operator, owner, listed, rented, today
):
    seen = see(operator_client, listed, today)
    shown = text(seen)
    assert (
        "3 running rentals of 2 organizations pay $3.00 per month together; then $4.50, a difference of $1.50"
        in shown
    )
    assert "Northwind 2 $2.00 $3.00" in shown
    assert not PriceChange.objects.exists()
    done = confirm(operator_client, listed, seen)
    assert "Being announced. Organizations: 2, running rentals: 3, $1.50 each" in text(done)
    changes = PriceChange.objects.order_by("organization__name")
    assert [(c.organization.name, c.rentals, c.before, c.after) for c in changes] == [
        (effect.organization.name, effect.rentals, effect.before, effect.after)
        for effect in seen.context["seen"]["preview"].effects
    ]
    assert {change.announced_by for change in changes} == {operator}
    assert Mail.objects.filter(kind="price_change_announced").count() == 2


def test_rentals_that_start_while_the_preview_is_read_are_left_alone(
    operator_client, listed, rented, organization, today
):
    seen = see(operator_client, listed, today)
    late = rent(organization, on=today)[0]
    confirm(operator_client, listed, seen)
    assert RentalPrice.objects.count() == 3
    assert not late.prices.exists()


def test_a_confirmation_sent_twice_announces_once(operator_client, listed, rented, today):
    seen = see(operator_client, listed, today)
    confirm(operator_client, listed, seen)
    assert "This form was sent already." in text(confirm(operator_client, listed, seen))
    assert PriceChange.objects.count() == 2


def test_the_worker_announces_and_the_page_says_how_far_it_is(
    operator_client, listed, rented, today, monkeypatch
):
    monkeypatch.setattr(tasks, "announce_prices", NotYet())
    confirm(operator_client, listed, see(operator_client, listed, today))
    assert not PriceChange.objects.exists()
    shown = text(operator_client.get(f"{HOME}priceannouncement/"))
    assert "Waits for the worker 0 of 2 0 of 3 none everyone US Local, per month $1.50" in shown
    monkeypatch.undo()
    tasks.announce_prices(timestamp=0)
    shown = text(operator_client.get(f"{HOME}priceannouncement/"))
    assert "Announced 2 of 2 3 of 3 none everyone" in shown


class NotYet:
    """The worker's task, while the worker has not come."""

    def __call__(self, *, timestamp):
        assert self.is_queued, "the request wakes the worker"

    def defer(self, *, timestamp):
        self.is_queued = True


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"applies_from": "soon"}, "Enter a valid date."),
        ({"applies_from": "2020-01-01"}, "A change is announced 30 days before"),
        ({"reason": " "}, "This field is required."),
    ],
)
def test_a_first_period_that_makes_no_sense_is_refused(
    operator_client, listed, rented, today, wrong, says
):
    seen = see(operator_client, listed, today, **wrong)
    assert says in text(seen)
    assert not seen.context["seen"]
    assert not PriceChange.objects.exists()


def test_nothing_to_change_is_said(operator_client, listed, today):
    assert "Nothing would change" in text(see(operator_client, listed, today))


def test_the_form_suggests_a_billing_date_that_gives_notice(operator_client, listed, today):
    form = act(operator_client, "price", "apply_to_running", listed).context["form"]
    suggested = form.initial["applies_from"]
    assert suggested.day == 1
    assert suggested - today >= timedelta(days=30)


def test_withdrawal_asks_for_a_reason(operator_client, listed, rented, organization, today):
    confirm(operator_client, listed, see(operator_client, listed, today))
    change = PriceChange.objects.get(organization=organization)
    once = act(operator_client, "pricechange", "withdraw", change).context["once"]
    done = act(
        operator_client, "pricechange", "withdraw", change, answer=once, reason="Decided otherwise"
    )
    assert "Withdrawn: US Local from" in text(done)
    change.refresh_from_db()
    assert change.is_withdrawn
    assert "Withdrawn" in text(operator_client.get(f"{HOME}pricechange/"))
    once = act(operator_client, "pricechange", "withdraw", change).context["once"]
    again = act(operator_client, "pricechange", "withdraw", change, answer=once, reason="Again")
    assert "It was withdrawn already." in text(again)


@pytest.mark.parametrize(
    ("model", "action", "permission"),
    [
        ("price", "apply_to_running", "add_pricechange"),
        ("pricechange", "withdraw", "change_pricechange"),
    ],
)
def test_announcing_and_withdrawing_have_permissions_of_their_own(
    clerk, operator_client, listed, rented, today, model, action, permission
):
    confirm(operator_client, listed, see(operator_client, listed, today))
    may_look = (f"view_{model}", "view_price", "change_price")
    assert f'value="{action}"' not in clerk(*may_look).get(f"{HOME}{model}/").content.decode()
    assert (
        f'value="{action}"' in clerk(*may_look, permission).get(f"{HOME}{model}/").content.decode()
    )


def test_the_preview_takes_no_more_queries_for_more_organizations(
    operator_client, listed, rented, today
):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            see(operator_client, listed, today)
        return len(captured)

    few = queries()
    for number in range(10):
        each = Organization.objects.create(name=f"Org {number}", slug=f"org-{number}")
        rent(each, on=today, numbers=2)
    assert queries() <= few
