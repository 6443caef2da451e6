from datetime import timedelta

import pytest
from django.db.models import Sum

from chirp_dashboard.billing.models import Charge, Posting, Price, Rental, Standing
from chirp_dashboard.billing.models.books import CreditLimitReached
from chirp_dashboard.numbers.models import Hold, InventoryNumber, Order, PhoneNumber, Totals
from chirp_dashboard.numbers.models.orders import IdempotencyConflict
from chirp_dashboard.numbers.models.quotes import QuoteChanged
from chirp_dashboard.organizations.models import Activity
from chirp_dashboard.organizations.refusals import Refused

from .conftest import NOON

# Fee 1.00 and 8 of 30 days of 1.00.
DUE = 100 + 27


def place(organization, person, *rows, total=None, key="key-1", at=NOON, application=None):
    return Order.objects.place(
        organization,
        person=person,
        numbers=[row.key for row in rows],
        expected_total=DUE * len(rows) if total is None else total,
        idempotency_key=key,
        at=at,
        application=application,
    )


def test_order_from_stock_completes_at_once(stock, organization, owner):
    order = place(organization, owner, stock[0], stock[1])
    assert order.state == Order.State.COMPLETED
    assert {line.state for line in order.lines.all()} == {"delivered"}
    assert PhoneNumber.objects.live().filter(organization=organization).count() == 2
    assert InventoryNumber.objects.filter(status="sold").count() == 2


def test_purchase_writes_fee_and_prorated_rental(stock, organization, owner):
    place(organization, owner, stock[0])
    fee, rental = Charge.objects.order_by("kind")
    assert (fee.kind, fee.amount) == ("purchase_fee", 100)
    assert (rental.kind, rental.amount) == ("rental", 27)
    assert str(rental.period_start), str(rental.period_end) == ("2026-11-23", "2026-12-01")
    assert Standing.objects.get().balance == 127
    assert Posting.objects.aggregate(sum=Sum("amount"))["sum"] == 0
    assert Posting.objects.get(account="receivable").amount == 127


def test_rental_is_open_at_the_price_of_the_day(stock, organization, owner):
    place(organization, owner, stock[0])
    Price.objects.update(rental=900)
    rental = Rental.objects.get()
    assert (rental.amount, rental.ends_on, rental.starts_on.isoformat()) == (
        100,
        None,
        "2026-11-23",
    )


def test_totals_and_activity_follow_in_the_same_transaction(stock, organization, owner):
    place(organization, owner, stock[0], stock[1])
    totals = Totals.objects.get(organization=organization)
    assert (totals.numbers, totals.monthly) == (2, 200)
    verbs = Activity.objects.order_by("id").values_list("verb", flat=True)
    assert list(verbs) == ["order", "purchased", "purchased"]
    assert Activity.objects.filter(subject_name="(212) 555-0142").exists()


def test_numbers_can_be_assigned_on_delivery(stock, organization, owner, storefront):
    place(organization, owner, stock[0], application=storefront)
    number = PhoneNumber.objects.get()
    assert number.assignment_count == 1
    assert number.assignments.open().get().application == storefront


def test_sold_number_cannot_be_purchased(stock, organization, owner, rival):
    place(organization, owner, stock[0])
    with pytest.raises(QuoteChanged) as refusal:
        place(rival, owner, stock[0])
    assert refusal.value.lost == {stock[0].key: "just sold"}
    assert PhoneNumber.objects.count() == 1
    assert Charge.objects.filter(organization=rival).count() == 0


def test_owned_number_put_up_for_sale_by_mistake_is_not_sold(stock, organization, owner, rival):
    place(organization, owner, stock[0])
    InventoryNumber.objects.update(status="for_sale")
    with pytest.raises(QuoteChanged) as refusal:
        place(rival, owner, stock[0])
    assert refusal.value.lost == {stock[0].key: "just sold"}


def test_one_lost_number_stops_the_whole_purchase(stock, organization, owner, rival):
    place(rival, owner, stock[0])
    with pytest.raises(QuoteChanged) as refusal:
        place(organization, owner, stock[0], stock[1])
    assert refusal.value.quote.total == DUE
    assert not PhoneNumber.objects.filter(organization=organization).exists()
    assert InventoryNumber.objects.get(number=stock[1].number).status == "for_sale"


def test_another_total_than_the_one_seen_buys_nothing(stock, organization, owner):
    with pytest.raises(QuoteChanged) as refusal:
        place(organization, owner, stock[0], total=DUE - 1)
    assert refusal.value.quote.total == DUE
    assert not refusal.value.lost
    assert not Order.objects.exists()


def test_midnight_changes_the_days_and_so_the_total(stock, organization, owner):
    with pytest.raises(QuoteChanged):
        place(organization, owner, stock[0], at=NOON + timedelta(days=1))


def test_number_without_a_price_is_not_sold(stock, organization, owner):
    Price.objects.all().delete()
    with pytest.raises(QuoteChanged) as refusal:
        place(organization, owner, stock[0])
    assert list(refusal.value.lost.values()) == ["no longer for sale"]


def test_held_number_keeps_its_price_and_is_let_go(stock, organization, owner):
    Hold.objects.hold(organization, owner, [stock[0].key], at=NOON)
    Price.objects.update(purchase_fee=999, rental=999)
    place(organization, owner, stock[0])
    assert not Hold.objects.exists()


@pytest.mark.parametrize("holder", ["rival", "colleague"])
def test_number_held_by_somebody_else_is_not_sold(
    stock, organization, owner, admin, rival, rival_owner, holder
):
    if holder == "rival":
        Hold.objects.hold(rival, rival_owner, [stock[0].key], at=NOON)
    else:
        Hold.objects.hold(organization, admin, [stock[0].key], at=NOON)
    with pytest.raises(QuoteChanged) as refusal:
        place(organization, owner, stock[0])
    (reason,) = refusal.value.lost.values()
    assert ("held by" in reason) == (holder == "colleague")
    assert rival_owner.email not in reason


def test_lapsed_hold_of_somebody_else_does_not_stop_a_purchase(stock, organization, owner, admin):
    Hold.objects.hold(organization, admin, [stock[0].key], at=NOON - timedelta(minutes=16))
    assert place(organization, owner, stock[0]).state == "completed"


def test_same_key_returns_the_same_order(stock, organization, owner):
    first, again = place(organization, owner, stock[0]), place(organization, owner, stock[0])
    assert first == again
    assert Charge.objects.count() == 2


def test_same_key_with_another_order_is_refused(stock, organization, owner):
    place(organization, owner, stock[0])
    with pytest.raises(IdempotencyConflict):
        place(organization, owner, stock[1])
    with pytest.raises(IdempotencyConflict):
        place(organization, owner, stock[0], total=DUE + 1)
    assert PhoneNumber.objects.count() == 1


def test_same_key_for_another_application_is_refused(
    stock, organization, owner, storefront, alerts
):
    order = place(organization, owner, stock[0], application=storefront)
    assert place(organization, owner, stock[0], application=storefront) == order
    with pytest.raises(IdempotencyConflict):
        place(organization, owner, stock[0], application=alerts)


def test_same_key_of_another_organization_is_another_order(stock, organization, owner, rival):
    place(organization, owner, stock[0])
    assert place(rival, owner, stock[1]).organization == rival


def test_credit_limit_stops_a_purchase(stock, organization, owner):
    organization.credit_limit = DUE
    organization.save()
    place(organization, owner, stock[0])
    with pytest.raises(CreditLimitReached):
        place(organization, owner, stock[1], key="key-2")
    assert Standing.objects.get().balance == DUE


def test_daily_cap_counts_the_purchases_of_a_day(stock, organization, owner):
    organization.daily_spend_cap = DUE
    organization.save()
    place(organization, owner, stock[0])
    with pytest.raises(CreditLimitReached):
        place(organization, owner, stock[1], key="key-2")
    tomorrow = NOON + timedelta(days=1)
    assert place(organization, owner, stock[1], key="key-3", total=123, at=tomorrow)


@pytest.mark.parametrize("count", [0, 21])
def test_an_order_takes_one_to_twenty_numbers(stock, organization, owner, count):
    with pytest.raises(Refused, match="1 to 20"):
        Order.objects.place(
            organization,
            person=owner,
            numbers=[("US", f"+12125550{n:03}") for n in range(count)],
            expected_total=0,
            idempotency_key="key",
            at=NOON,
        )


def test_archived_application_takes_no_delivery(stock, organization, owner, storefront):
    storefront.archived_at = NOON
    storefront.save()
    with pytest.raises(Refused, match="takes no live numbers"):
        place(organization, owner, stock[0], application=storefront)


def test_application_of_another_organization_takes_no_delivery(
    stock, organization, owner, rival_application
):
    with pytest.raises(Refused, match="another organization"):
        place(organization, owner, stock[0], application=rival_application)
    assert not Order.objects.exists()


def test_hold_in_another_currency_buys_nothing(stock, organization, owner):
    Hold.objects.hold(organization, owner, [stock[0].key], at=NOON)
    organization.change_settings({"currency": "EUR"}, by=owner, at=NOON)
    with pytest.raises(QuoteChanged):
        place(organization, owner, stock[0])


def test_purchase_makes_few_round_trips(stock, organization, owner, django_assert_max_num_queries):
    with django_assert_max_num_queries(20):
        place(organization, owner, *stock)
