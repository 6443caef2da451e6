from datetime import UTC, date, datetime, timedelta

import pytest

from chirp_dashboard.billing.models import Charge, Rental, Standing
from chirp_dashboard.billing.models.books import CreditLimitReached
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import Assignment, InventoryNumber, PhoneNumber, Totals
from chirp_dashboard.numbers.models.assigning import AssignmentRefused
from chirp_dashboard.numbers.models.releasing import ReleaseRefused
from chirp_dashboard.organizations.refusals import Refused

from .conftest import NOON

# Midnight in New York at which the period of November ends.
FIRST_OF_DECEMBER = datetime(2026, 12, 1, 5, tzinfo=UTC)


def balance():
    return Standing.objects.get().balance


def test_release_at_period_end_keeps_the_number_until_then(number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.release(when="period_end", by=owner, at=NOON)
    number.refresh_from_db()
    assert (number.state, number.releases_on) == ("active", date(2026, 12, 1))
    assert number.assignment_count == 1
    assert Rental.objects.get().ends_on == date(2026, 12, 1)


def test_scheduled_release_completes_at_local_midnight(number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.release(when="period_end", by=owner, at=NOON)
    assert PhoneNumber.objects.complete_releases(at=FIRST_OF_DECEMBER - timedelta(seconds=1)) == 0
    assert PhoneNumber.objects.complete_releases(at=FIRST_OF_DECEMBER) == 1
    assert PhoneNumber.objects.complete_releases(at=FIRST_OF_DECEMBER) == 0
    number.refresh_from_db()
    assert (number.state, number.assignment_count) == ("released", 0)
    assert Assignment.objects.get().ended_because == "released"


def test_release_now_ends_everything_today(number, storefront, owner, organization):
    number.assign(storefront, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    assert number.is_released
    assert Rental.objects.get().ends_on == date(2026, 11, 23)
    assert Totals.objects.get(organization=organization).numbers == 0
    assert balance() == 127, "the running period is not refunded"


def test_released_number_is_kept_aside_for_44_days(number, stock, owner):
    number.release(when="now", by=owner, at=NOON)
    row = InventoryNumber.objects.get(number=number.number)
    assert row.not_for_sale_until == NOON + timedelta(days=44)
    assert not row.is_for_sale(at=NOON + timedelta(days=43))
    assert row.is_for_sale(at=NOON + timedelta(days=44))


def test_release_can_be_cancelled_before_it_happens(number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    number.cancel_release(by=owner, at=FIRST_OF_DECEMBER - timedelta(seconds=1))
    assert number.releases_on is None
    assert Rental.objects.get().ends_on is None


def test_release_cannot_be_cancelled_on_its_day(number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    with pytest.raises(ReleaseRefused, match="last day"):
        number.cancel_release(by=owner, at=FIRST_OF_DECEMBER)


def test_scheduled_release_can_be_brought_forward(number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    with pytest.raises(ReleaseRefused, match="already"):
        number.release(when="period_end", by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    assert number.is_released


def test_locked_number_is_not_released(number, owner):
    number.set_release_lock(True, by=owner, at=NOON)
    with pytest.raises(ReleaseRefused, match="locked"):
        number.release(when="now", by=owner, at=NOON)
    number.set_release_lock(False, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)


def test_released_number_is_not_released_again(number, owner):
    number.release(when="now", by=owner, at=NOON)
    with pytest.raises(ReleaseRefused, match="released already"):
        number.release(when="now", by=owner, at=NOON)


def test_released_number_is_not_assigned(number, owner, storefront):
    number.release(when="now", by=owner, at=NOON)
    with pytest.raises(AssignmentRefused, match="released"):
        number.assign(storefront, by=owner, at=NOON)


@pytest.mark.parametrize("ran", [False, True])
def test_release_on_a_billing_day_owes_the_period_that_began(number, owner, ran):
    """Whether the run or the release came first that morning, the bill is the same."""
    at = FIRST_OF_DECEMBER + timedelta(hours=9)
    if ran:
        Rental.objects.charge_due(at=at)
    number.release(when="now", by=owner, at=at)
    Rental.objects.charge_due(at=at)
    assert not check_books(at=at)
    december = Charge.objects.get(kind="rental", period_start=date(2026, 12, 1))
    assert december.amount == 100
    assert Rental.objects.get().ends_on == date(2026, 12, 1)


def test_release_after_an_unswept_last_day_owes_no_further_period(number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    at = FIRST_OF_DECEMBER + timedelta(days=2)
    number.release(when="now", by=owner, at=at)
    Rental.objects.charge_due(at=at)
    assert number.releases_on == Rental.objects.get().ends_on == date(2026, 12, 1)
    assert balance() == 127


def test_undo_brings_back_label_and_assignments_without_a_fee(number, storefront, alerts, owner):
    number.rename("Sales", by=owner, at=NOON)
    number.assign(storefront, by=owner, at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    number.undo_release(by=owner, at=NOON + timedelta(hours=1))
    number.refresh_from_db()
    assert (number.state, number.label, number.assignment_count) == ("active", "Sales", 2)
    assert Charge.objects.filter(kind="purchase_fee").count() == 1
    assert InventoryNumber.objects.get(number=number.number).status == "sold"


def test_undo_within_a_paid_period_charges_no_day_twice(number, owner):
    number.release(when="now", by=owner, at=NOON)
    number.undo_release(by=owner, at=NOON + timedelta(days=1))
    assert balance() == 127
    again = number.open_rental()
    assert (again.starts_on, again.ends_on) == (date(2026, 11, 24), None)
    free = again.charges.get()
    assert (free.amount, free.period_end) == (0, date(2026, 12, 1))


def test_undo_in_a_later_period_is_prorated_and_the_gap_is_free(number, owner):
    number.release(when="period_end", by=owner, at=NOON)
    PhoneNumber.objects.complete_releases(at=FIRST_OF_DECEMBER)
    number.refresh_from_db()
    number.undo_release(by=owner, at=FIRST_OF_DECEMBER + timedelta(days=10))
    charge = number.open_rental().charges.get()
    assert (charge.period_start, charge.period_end) == (date(2026, 12, 11), date(2027, 1, 1))
    assert charge.amount == (2 * 100 * 21 + 31) // 62


def test_undo_keeps_the_old_price(number, owner, prices):
    for price in prices:
        price.rental = 999
        price.save()
    number.release(when="now", by=owner, at=NOON)
    number.undo_release(by=owner, at=NOON)
    assert number.open_rental().amount == 100


def test_undo_is_possible_for_fourteen_days(number, owner):
    number.release(when="now", by=owner, at=NOON)
    with pytest.raises(ReleaseRefused, match="14 days"):
        number.undo_release(by=owner, at=NOON + timedelta(days=14))
    number.undo_release(by=owner, at=NOON + timedelta(days=14) - timedelta(seconds=1))


def test_undo_lists_what_an_archived_application_lost(number, storefront, alerts, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    number.release(when="now", by=owner, at=NOON)
    Assignment.objects.archive(storefront, by=owner, at=NOON)
    undo = number.undo_release(by=owner, at=NOON)
    assert (undo.restored, undo.not_restored) == ([alerts], [storefront])
    assert [a.application for a in number.assignments.open()] == [alerts]


def test_undo_is_refused_when_the_stock_no_longer_has_the_number(number, owner):
    number.release(when="now", by=owner, at=NOON)
    InventoryNumber.objects.filter(number=number.number).update(status="withdrawn")
    with pytest.raises(Refused, match="no longer available"):
        number.undo_release(by=owner, at=NOON)
    number.refresh_from_db()
    assert number.is_released


def test_undo_is_refused_while_credit_is_short(number, owner, organization):
    number.release(when="period_end", by=owner, at=NOON)
    PhoneNumber.objects.complete_releases(at=FIRST_OF_DECEMBER)
    organization.credit_limit = 130
    organization.save()
    number = PhoneNumber.objects.get()
    with pytest.raises(CreditLimitReached):
        number.undo_release(by=owner, at=FIRST_OF_DECEMBER)
    assert PhoneNumber.objects.get().is_released


def test_tax_counts_when_credit_for_an_undo_is_short(number, owner, organization):
    number.release(when="now", by=owner, at=NOON)
    at = FIRST_OF_DECEMBER + timedelta(days=2)
    Rental.objects.charge_due(at=at)
    number = PhoneNumber.objects.get()
    cost = number.preview_undo(on=date(2026, 12, 3)).cost
    organization.tax_rate = 10
    organization.credit_limit = Standing.objects.get().owed() + cost
    organization.save()
    with pytest.raises(CreditLimitReached):
        number.undo_release(by=owner, at=at)


def test_owned_number_has_nothing_to_undo(number, owner):
    with pytest.raises(ReleaseRefused, match="not released"):
        number.undo_release(by=owner, at=NOON)


def test_preview_says_what_a_release_ends(number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    preview = number.preview_release(on=date(2026, 11, 23))
    assert preview.applications == [storefront]
    assert (preview.period_end, preview.monthly, preview.refund) == (date(2026, 12, 1), 100, 0)


def test_later_purchase_of_the_same_number_is_a_new_row(number, stock, purchase, owner):
    number.release(when="now", by=owner, at=NOON)
    later = NOON + timedelta(days=45)
    (again,) = purchase(stock[0], at=later)
    assert again.public_id != number.public_id
    assert PhoneNumber.objects.count() == 2
    with pytest.raises(ReleaseRefused):
        number.undo_release(by=owner, at=later)
