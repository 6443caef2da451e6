"""Running rentals keep their price until an announced change applies from a named period."""

from datetime import date, timedelta

import pytest
from django.db import ProgrammingError, connection, transaction
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chirp_dashboard.billing.models import (
    Charge,
    Invoice,
    Price,
    PriceChange,
    Rental,
    RentalPrice,
    Standing,
)
from chirp_dashboard.billing.models.price_changes import PriceChangeRefused
from chirp_dashboard.organizations.models import Activity, Mail, Organization
from chirp_dashboard.organizations.templatetags.ui import day

from .conftest import DECEMBER, JANUARY, NOON, noon, periods, rent, run

FEBRUARY = date(2027, 2, 1)
LOCAL = {"country": "US", "number_type": "local", "interval_months": 1, "currency": "USD"}
TO_150 = {**LOCAL, "amount": 150, "applies_from": JANUARY}


def announce(organization=None, *, by, at=NOON, reason="Carriers raised theirs", **facts):
    return PriceChange.objects.announce(
        organization, **{**TO_150, **facts}, reason=reason, by=by, at=at
    )


def preview(organization=None, *, at=NOON, **facts):
    return PriceChange.objects.preview(organization, **{**TO_150, **facts}, at=at)


def nothing_was_written():
    return not (
        PriceChange.objects.exists()
        or RentalPrice.objects.exists()
        or Mail.objects.filter(kind__startswith="price").exists()
        or Activity.objects.filter(verb__startswith="price").exists()
    )


# What it costs --------------------------------------------------------------------------------


def test_announced_price_is_charged_from_the_named_period_on(organization, operator, rental):
    announce(organization, by=operator)
    run(FEBRUARY)
    assert periods(rental)[1:] == [
        ("2026-12-01", "2027-01-01", 100),
        ("2027-01-01", "2027-02-01", 150),
        ("2027-02-01", "2027-03-01", 150),
    ]
    assert Invoice.objects.get(billing_date=JANUARY).total == 150


def test_a_change_in_the_middle_of_a_period_waits_for_the_next(organization, operator, rental):
    announce(organization, by=operator, applies_from=date(2027, 1, 2))
    run(FEBRUARY)
    assert [amount for start, _, amount in periods(rental)][1:] == [100, 100, 150]


def test_the_latest_change_that_applies_counts(organization, operator, rental):
    announce(organization, by=operator, amount=200, applies_from=FEBRUARY)
    announce(organization, by=operator)
    rental.refresh_from_db()
    days = [DECEMBER, JANUARY, date(2027, 1, 31), FEBRUARY]
    assert [rental.price_for(day) for day in days] == [100, 150, 150, 200]
    assert [Rental.objects.with_price(on=day).get().price for day in days] == [100, 150, 150, 200]
    run(FEBRUARY)
    assert [amount for start, _, amount in periods(rental)][1:] == [100, 150, 200]


def test_a_lease_changes_when_it_renews(organization, operator):
    lease = rent(organization, on=date(2026, 11, 23), months=3, amount=900)[0]
    seen = preview(organization, interval_months=3, amount=1000)
    assert seen.effects[0].first_period_on == date(2027, 2, 23)
    assert seen.effects[0].first_invoice_on == date(2027, 3, 1)
    announce(organization, by=operator, interval_months=3, amount=1000)
    run(date(2027, 6, 1))
    assert [amount for _, _, amount in periods(lease)] == [900, 1000, 1000]


def test_a_price_may_fall_to_nothing(organization, operator, rental):
    announce(organization, by=operator, amount=0)
    run(JANUARY)
    assert periods(rental)[-1] == ("2027-01-01", "2027-02-01", 0)


def test_numbers_purchased_afterwards_have_the_price_they_were_quoted_at(organization, operator):
    rent(organization, on=date(2026, 11, 23))
    announce(organization, by=operator)
    later = rent(organization, on=date(2026, 11, 24), amount=120)[0]
    run(JANUARY)
    assert periods(later)[-1] == ("2027-01-01", "2027-02-01", 120)


def test_a_rental_that_ends_on_the_day_owes_its_period_at_the_new_price(
    organization, operator, rental
):
    announce(organization, by=operator)
    with transaction.atomic():
        rental.charge_periods_begun(JANUARY, at=noon(JANUARY))
    assert [amount for _, _, amount in periods(rental)][1:] == [100, 150]


# Who is affected ------------------------------------------------------------------------------


def test_everybody_means_who_pays_in_the_currency_and_has_no_price_of_their_own(
    organization, rival, operator
):
    negotiated = Organization.objects.create(name="Negotiated", slug="negotiated")
    abroad = Organization.objects.create(name="Abroad", slug="abroad", currency="EUR")
    own = {"country": "US", "number_type": "local", "purchase_fee": 0, "rental": 80}
    Price.objects.create(organization=negotiated, valid_from=date(2026, 1, 1), **own)
    Price.objects.create(organization=rival, valid_from=FEBRUARY, **own)  # not by then
    for each in (organization, rival, negotiated, abroad):
        rent(each, on=date(2026, 11, 23), numbers=2)
    seen = preview()
    assert [effect.organization for effect in seen.effects] == [organization, rival]
    assert seen.left_out == [negotiated]
    announce(by=operator)
    assert {change.organization for change in PriceChange.objects.all()} == {organization, rival}


def test_only_running_rentals_of_the_kind_change(organization, operator):
    changes = rent(organization, on=date(2026, 11, 1), numbers=2)
    ending = rent(organization, on=date(2026, 11, 1), ends_on=DECEMBER)  # may yet be kept
    rent(organization, on=date(2026, 10, 1), ends_on=date(2026, 11, 23))  # ended today
    rent(organization, on=date(2026, 11, 1), amount=150)  # has that price
    rent(organization, on=date(2026, 11, 1), months=3)
    seen = preview(organization).effects[0]
    assert (seen.rentals, seen.ending, seen.before, seen.after) == (3, 1, 300, 450)
    announce(organization, by=operator)
    priced = set(RentalPrice.objects.values_list("rental", flat=True))
    assert priced == {rental.pk for rental in changes + ending}


def test_what_was_previewed_is_what_is_announced(organization, rival, operator):
    rent(organization, on=date(2026, 11, 1), numbers=3)
    rent(organization, on=date(2026, 11, 1), amount=120)
    rent(rival, on=date(2026, 11, 1))
    seen = preview()
    late = rent(organization, on=date(2026, 11, 23))[0]  # between looking and clicking
    changes = announce(by=operator, through=seen.through)
    assert [(c.organization, c.rentals, c.before, c.after) for c in changes] == [
        (effect.organization, effect.rentals, effect.before, effect.after)
        for effect in seen.effects
    ]
    assert seen.before == 520
    assert not late.prices.exists()


def test_announcing_takes_no_more_queries_for_more_rentals(organization, rival, operator):
    def queries(whose, *, numbers):
        rent(whose, on=date(2026, 11, 1), numbers=numbers)
        with CaptureQueriesContext(connection) as captured:
            announce(whose, by=operator)
        return len(captured)

    few = queries(organization, numbers=3)
    assert queries(rival, numbers=300) <= few
    assert RentalPrice.objects.count() == 303


# Who hears of it ------------------------------------------------------------------------------


def test_people_of_billing_are_written_to(organization, operator, owner, billing_person, rental):
    change = announce(organization, by=operator)[0]
    mail = Mail.objects.get()
    assert mail.to == sorted([owner.email, billing_person.email])
    assert mail.subject == "Local numbers: $1.50 per month from 1 Jan 2027"
    assert "The rental of 1 local number (US) of Northwind changes." in mail.text
    assert "First invoice that can carry it: 1 Jan 2027" in mail.text
    assert "Together, now: $1.00 per month" in mail.text
    assert "Carriers raised theirs" in mail.text
    noted = Activity.objects.get(verb="price_change_announced")
    assert noted.actor == operator
    assert noted.subject == f"price change {change.pk}"
    assert noted.after["after"] == 150


def test_withdrawn_before_its_day_it_never_applies(organization, operator, owner, rental):
    change = announce(organization, by=operator)[0]
    change.withdraw(reason="Decided otherwise", by=operator, at=NOON + timedelta(days=3))
    run(JANUARY)
    assert periods(rental)[-1] == ("2027-01-01", "2027-02-01", 100)
    mail = Mail.objects.get(kind="price_change_withdrawn")
    assert "Decided otherwise" in mail.text
    assert Activity.objects.filter(verb="price_change_withdrawn").exists()


def test_after_a_withdrawal_the_day_is_free_again(organization, operator, rental):
    announce(organization, by=operator)[0].withdraw(reason="A slip", by=operator, at=NOON)
    announce(organization, by=operator, amount=140)
    run(JANUARY)
    assert periods(rental)[-1] == ("2027-01-01", "2027-02-01", 140)


@pytest.mark.parametrize("wrong", ["late", "twice", "no reason", "billed"])
def test_withdrawal_that_makes_no_sense_is_refused(organization, operator, rental, wrong):
    change = announce(organization, by=operator)[0]
    at, reason = NOON, "Changed our mind"
    if wrong == "late":
        at = noon(JANUARY)
    if wrong == "twice":
        change.withdraw(reason=reason, by=operator, at=at)
    if wrong == "no reason":
        reason = "  "
    if wrong == "billed":
        run(JANUARY)
    mails = Mail.objects.filter(kind="price_change_withdrawn").count()
    before = PriceChange.objects.get().withdrawn_at
    with pytest.raises(PriceChangeRefused):
        change.withdraw(reason=reason, by=operator, at=at)
    assert PriceChange.objects.get().withdrawn_at == before
    assert Mail.objects.filter(kind="price_change_withdrawn").count() == mails


# What is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"amount": -1}, "A price is not below zero."),
        ({"amount": 10**15}, "No number costs that much."),
        ({"currency": "EUR"}, "Northwind pays in USD."),
        ({"number_type": "fax"}, "There is no such number type."),
        ({"applies_from": date(2026, 12, 22)}, "choose 23 Dec 2026 or later."),
        ({"amount": 100}, "Nothing would change"),
        ({"country": "CA"}, "Nothing would change"),
        ({"reason": " "}, "Write why the price changes"),
    ],
)
def test_change_that_makes_no_sense_is_refused(organization, operator, rental, wrong, says):
    with pytest.raises(PriceChangeRefused, match=says):
        announce(organization, by=operator, **wrong)
    assert nothing_was_written()


def test_the_notice_period_ends_on_the_customers_calendar(organization, operator, rental):
    late_evening = NOON + timedelta(hours=11)  # 23 November in New York, the 24th in Greenwich
    assert preview(organization, at=late_evening, applies_from=date(2026, 12, 23)).rentals == 1


def test_a_day_that_is_billed_already_is_refused(organization, operator, rental):
    run(JANUARY)  # as a run of an operator whose clock was wrong
    with pytest.raises(PriceChangeRefused, match="Northwind has been billed for 1 Jan 2027"):
        announce(organization, by=operator)
    assert nothing_was_written()


def test_another_price_for_an_announced_day_is_refused(organization, rival, operator, rental):
    rent(rival, on=date(2026, 11, 23))
    announce(organization, by=operator)
    with pytest.raises(PriceChangeRefused, match="Withdraw that first"):
        announce(by=operator, amount=160)
    assert PriceChange.objects.count() == 1


def test_the_rest_is_announced_by_a_repeat(organization, rival, operator):
    for each in (organization, rival):
        rent(each, on=date(2026, 11, 23))
    announce(organization, by=operator)  # and then the process was killed
    announce(by=operator)
    assert PriceChange.objects.count() == RentalPrice.objects.count() == 2


def test_what_was_announced_stays_as_written(organization, operator, rental):
    change = announce(organization, by=operator)[0]
    with pytest.raises(ProgrammingError, match="Cannot update"):
        PriceChange.objects.filter(pk=change.pk).update(amount=1)


def test_a_large_organization_is_billed_at_both_prices(organization, operator):
    """The run's statement and the model agree, for every rental."""
    rent(organization, on=date(2026, 11, 1), numbers=30)
    rent(organization, on=date(2026, 11, 1), numbers=10, amount=130)
    announce(organization, by=operator)
    kept = rent(organization, on=date(2026, 11, 24), numbers=5)
    run(JANUARY)
    charged = Charge.objects.filter(period_start=JANUARY).select_related("rental")
    assert charged.count() == 45
    assert all(charge.amount == charge.rental.price_for(JANUARY) for charge in charged)
    assert sum(charge.amount for charge in charged) == 40 * 150 + sum(r.amount for r in kept)
    assert Standing.objects.get().closed_through == JANUARY


def test_the_billing_page_says_what_was_announced(organization, operator, billing_client):
    today = timezone.now().date()
    rent(organization, on=today, numbers=2)
    begins = today + timedelta(days=60)
    change = announce(organization, by=operator, at=timezone.now(), applies_from=begins)[0]
    page = billing_client.get(f"/o/{organization.slug}/billing/").content.decode()
    assert f"Local numbers (US) cost $1.50 per month from {day(begins)}" in page
    assert "2 running rentals, together $2.00 now and $3.00 then." in page
    assert "Carriers raised theirs" in page
    change.withdraw(reason="A slip", by=operator, at=timezone.now())
    page = billing_client.get(f"/o/{organization.slug}/billing/").content.decode()
    assert "cost $1.50" not in page
