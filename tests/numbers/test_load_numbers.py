"""Catalogues and organizations of any size: real enough to measure, and with books that balance."""

from collections import Counter
from datetime import UTC, datetime
from io import StringIO

import phonenumbers
import pytest
import time_machine
from django.core.management import CommandError, call_command
from django.db import connection

from chirp_dashboard.billing.models import BillingRun, Charge, Entry, Price, Rental
from chirp_dashboard.numbers.area_codes import TOLL_FREE, area_codes
from chirp_dashboard.numbers.bulk import without_indexes
from chirp_dashboard.numbers.models import Assignment, InventoryNumber, PhoneNumber
from chirp_dashboard.numbers.stock import load_demo_stock
from chirp_dashboard.organizations.models import Activity, Organization
from chirp_dashboard.organizations.public_ids import EPOCH

pytestmark = pytest.mark.django_db
MID_MONTH = datetime(2026, 11, 23, 16, tzinfo=UTC)


def load(count, **options):
    said = StringIO()
    with time_machine.travel(options.pop("at", MID_MONTH), tick=False):
        call_command("load_numbers", count=count, stdout=said, **options)
        call_command("check_books", stdout=StringIO())
    return said.getvalue()


@pytest.fixture
def bench(db):
    load(1000)
    return Organization.objects.get(slug="bench")


def definitions():
    """Every index and foreign key there is, as PostgreSQL would write it down."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT indexrelid::regclass::text, pg_get_indexdef(indexrelid) FROM pg_index"
            " JOIN pg_class ON pg_class.oid = indrelid WHERE relnamespace = 'public'::regnamespace"
            " UNION ALL SELECT conrelid::regclass || ' ' || conname, pg_get_constraintdef(oid)"
            " FROM pg_constraint WHERE connamespace = 'public'::regnamespace"
        )
        return sorted(cursor.fetchall())


# The catalogue --------------------------------------------------------------------------------


def test_half_is_for_sale_and_half_is_owned_and_sold(bench):
    stock = InventoryNumber.objects.values_list("number", "status")
    assert Counter(status for _, status in stock) == {"for_sale": 1000, "sold": 1000}
    owned = set(PhoneNumber.objects.values_list("number", flat=True))
    assert owned == {number for number, status in stock if status == "sold"}
    assert bench.phone_numbers.count() == 1000


def test_numbers_are_real_and_everywhere(bench):
    rows = InventoryNumber.objects.exclude(number_type="shortcode")
    assert {row.area_code for row in rows} == {*area_codes(), *TOLL_FREE}
    assert len({row.number[5:8] for row in rows}) > 500
    for row in rows:
        assert phonenumbers.is_valid_number(phonenumbers.parse(row.number))
        assert row.number[5:8] != "555"
        assert row.number[6:8] != "11"
        assert row.number[2:5] == row.area_code
        place = area_codes().get(row.area_code)
        assert (row.number_type == "local") == (place is not None)
        if place:
            assert (row.country, row.region, row.city) == (place.country, place.region, place.city)
    assert {
        len(code.number) for code in InventoryNumber.objects.filter(number_type="shortcode")
    } == {6}


def test_numbers_do_different_things(bench):
    found = {tuple(row.capabilities) for row in InventoryNumber.objects.all()}
    assert found == {("SMS", "MMS", "Voice"), ("SMS", "Voice"), ("Voice",), ("SMS", "MMS")}


# The organization -----------------------------------------------------------------------------


def test_every_number_has_rental_fee_first_period_and_activity(bench):
    assert bench.rentals.count() == 1000
    assert Counter(bench.charges.values_list("kind", flat=True)) == {
        "purchase_fee": 1000,
        "rental": 1000,
    }
    assert bench.activity.filter(verb="purchased").count() == 1000
    assert bench.activity.filter(verb="assigned").count() == Assignment.objects.count()
    assert bench.totals.numbers == 1000
    assert bench.standing.balance == sum(bench.charges.values_list("amount", flat=True))


def test_purchases_are_spread_over_the_running_billing_period(bench):
    days = {
        bench.local_date(at).day
        for at in PhoneNumber.objects.values_list("purchased_at", flat=True)
    }
    assert days == set(range(1, 24))
    assert PhoneNumber.objects.filter(purchased_at__gt=MID_MONTH).count() == 0
    assert Entry.objects.count() == 23
    for rental in Rental.objects.select_related("phone_number"):
        assert bench.local_date(rental.phone_number.purchased_at) == rental.starts_on


def test_first_period_is_prorated_like_a_purchase(bench):
    charge = Charge.objects.filter(
        kind="rental", period_start="2026-11-16", rental__amount=100, rental__interval_months=1
    ).first()
    assert str(charge.period_end) == "2026-12-01"
    assert charge.amount == 50


def test_leased_short_code_is_charged_whole(bench):
    lease = Charge.objects.filter(kind="rental", rental__interval_months=3).first()
    assert lease.amount == lease.rental.amount
    assert (lease.period_end - lease.period_start).days > 88


def test_a_third_is_assigned_and_some_are_shared_by_two_of_forty_applications(bench):
    assert bench.applications.count() == 40
    counts = Counter(bench.phone_numbers.values_list("assignment_count", flat=True))
    assert counts == {0: 666, 1: 267, 2: 67}
    assert Assignment.objects.values("application").distinct().count() == 40


def test_public_ids_are_those_of_the_moment_of_loading(bench):
    alphabet = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
    public_ids = list(PhoneNumber.objects.values_list("public_id", flat=True))
    assert len(set(public_ids)) == 1000
    for public_id in public_ids:
        prefix, ksuid = public_id.split("_")
        assert (prefix, len(ksuid)) == ("ph", 27)
        number = 0
        for character in ksuid:
            number = number * 62 + alphabet.index(character)
        assert (number >> 128) + EPOCH == int(MID_MONTH.timestamp())


def test_prices_of_the_list_are_used_where_there_are_any(organization):
    Price.objects.create(
        country="US", number_type="local", purchase_fee=321, rental=123, valid_from="2026-01-01"
    )
    load(500)
    bench = Organization.objects.get(slug="bench")
    fees = bench.charges.filter(
        kind="purchase_fee", phone_number__country="US", phone_number__number_type="local"
    )
    assert set(fees.values_list("amount", flat=True)) == {321}
    assert not Price.objects.filter(
        organization=bench, country="US", number_type="local"
    ).exists(), "the list has a price already"
    assert Price.objects.filter(organization=bench, country="CA", number_type="local").exists()


def test_owner_can_sign_in_to_it(stranger):
    load(10, owner=stranger.email)
    assert stranger.memberships.get().organization.slug == "bench"
    assert stranger.memberships.get().role == "owner"


# Again and again ------------------------------------------------------------------------------


def test_loads_of_different_sizes_live_in_one_database(bench):
    load_demo_stock()
    load(300, organization="second")
    load(1500, organization="third")
    assert PhoneNumber.objects.count() == 2800
    assert (
        InventoryNumber.objects.filter(status="for_sale").exclude(number__contains="555").count()
        >= 2700
    )
    assert Organization.objects.get(slug="third").totals.numbers == 1500
    owned = PhoneNumber.objects.create(
        organization=bench, country="US", number="+12125550142", number_type="local",
        rental_amount=0, currency="USD", no_fee_reason="test",
    )  # fmt: skip
    assert owned.pk > 2800, "the ids given by the load are never given again"


def test_number_that_left_the_stock_and_is_owned_is_not_picked_again(bench):
    InventoryNumber.objects.all().delete()
    load(1000, organization="second")
    assert PhoneNumber.objects.values("number").distinct().count() == 2000


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 1, 3, 59, tzinfo=UTC),
        datetime(2026, 11, 1, 4, 0, tzinfo=UTC),
        datetime(2026, 11, 1, 12, 0, tzinfo=UTC),
        datetime(2028, 2, 29, 23, 0, tzinfo=UTC),
        datetime(2027, 3, 14, 12, 0, tzinfo=UTC),
    ],
    ids=[
        "last minute of a period",
        "its first moment",
        "its first day",
        "29 February",
        "clock change",
    ],
)
def test_books_balance_whenever_it_is_loaded(at):
    load(60, at=at)
    assert PhoneNumber.objects.filter(purchased_at__gt=at).count() == 0


def test_books_balance_after_the_next_billing_run(bench):
    with time_machine.travel(datetime(2026, 12, 2, 12, tzinfo=UTC), tick=False):
        call_command("charge_rentals", stdout=StringIO())
        assert BillingRun.objects.get().charges > 900
        call_command("check_books", stdout=StringIO())


def test_single_number_is_enough():
    load(1)
    assert (
        PhoneNumber.objects.count()
        == InventoryNumber.objects.filter(status="for_sale").count()
        == 1
    )


# Refusals -------------------------------------------------------------------------------------


def test_organization_with_numbers_is_left_alone(bench):
    with pytest.raises(CommandError, match="bench has numbers already"):
        load(10)
    assert PhoneNumber.objects.count() == 1000


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"count": 0}, "at least 1"),
        ({"count": 5, "organization": "Not a slug"}, "lower-case letters"),
        ({"count": 5, "owner": "nobody@example.com"}, "nobody with the e-mail address"),
    ],
)
def test_nonsense_is_refused_in_one_line(options, message):
    with pytest.raises(CommandError, match=message):
        load(**options)
    assert not Organization.objects.exists()


# Indexes --------------------------------------------------------------------------------------


def test_every_index_and_foreign_key_is_there_afterwards():
    before = definitions()
    load(500)
    assert definitions() == before
    assert Activity.objects.exists()


def test_nothing_but_primary_keys_is_there_meanwhile():
    with connection.cursor() as cursor:
        with without_indexes(cursor, ["numbers_phonenumber"]):
            cursor.execute(
                "SELECT count(*) FROM pg_index WHERE indrelid = 'numbers_phonenumber'::regclass"
            )
            assert cursor.fetchone() == (1,)
        cursor.execute(
            "SELECT count(*) FROM pg_index WHERE indrelid = 'numbers_phonenumber'::regclass"
        )
        assert cursor.fetchone()[0] > 10
