from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.db import connection

from chirp_dashboard.billing.models import BillingRun, Charge, Entry, Invoice, Rental, Standing
from chirp_dashboard.billing.models import runs as runs_module
from chirp_dashboard.billing.models.runs import Collection
from chirp_dashboard.numbers.books import check_books

from .conftest import DECEMBER, JANUARY, noon, periods, rent, run


def starts(rental):
    return [start for start, _, _ in periods(rental)]


def assert_books_balance(on):
    assert check_books(at=noon(on)) == []


def test_run_charges_each_period_that_has_begun(rental):
    run(DECEMBER)
    assert periods(rental) == [
        ("2026-11-23", "2026-12-01", 27),
        ("2026-12-01", "2027-01-01", 100),
    ]
    assert_books_balance(DECEMBER)


def test_nothing_is_charged_before_it_begins(rental):
    quiet = run(date(2026, 11, 30))
    assert (quiet.charges, quiet.invoices) == (0, 0)
    assert len(periods(rental)) == 1


def test_repeat_changes_nothing(rental):
    first, again = run(DECEMBER), run(DECEMBER)
    assert (first.charges, first.amount, first.invoices) == (1, 100, 1)
    assert (again.charges, again.amount, again.invoices) == (0, 0, 0)
    assert (Charge.objects.count(), Entry.objects.count()) == (3, 2)


def test_charges_posted_with_their_entry_raise_the_balance(rental):
    before = Standing.objects.get().balance
    run(DECEMBER)
    entry = Entry.objects.get(kind="rental")
    assert sorted(entry.postings.values_list("account", "amount")) == [
        ("receivable", 100),
        ("rentals", -100),
    ]
    assert Standing.objects.get().balance == before + 100


def test_missed_months_are_caught_up_with_an_invoice_each(rental):
    run(date(2027, 3, 5))
    assert starts(rental) == [
        "2026-11-23", "2026-12-01", "2027-01-01", "2027-02-01", "2027-03-01",
    ]  # fmt: skip
    invoices = Invoice.objects.order_by("number").values_list("number", "billing_date", "total")
    assert [(number, str(on), total) for number, on, total in invoices] == [
        (1, "2026-12-01", 227),
        (2, "2027-01-01", 100),
        (3, "2027-02-01", 100),
        (4, "2027-03-01", 100),
    ]
    assert_books_balance(date(2027, 3, 5))


@pytest.mark.parametrize(("days", "expected"), [(45, 2), (395, 13)])
def test_an_outage_of_any_length_is_caught_up(organization, days, expected):
    rental = rent(organization, on=date(2026, 11, 23))[0]
    run(date(2026, 11, 23) + timedelta(days=days))
    assert len(periods(rental)) == 1 + expected
    assert Invoice.objects.count() == expected


def test_month_ends_keep_the_billing_day(organization):
    organization.billing_day = 31
    organization.save()
    rental = rent(organization, on=date(2027, 1, 31))[0]
    run(date(2027, 5, 31))
    assert starts(rental) == [
        "2027-01-31", "2027-02-28", "2027-03-31", "2027-04-30", "2027-05-31",
    ]  # fmt: skip
    assert_books_balance(date(2027, 5, 31))


def test_ended_rental_is_not_charged_from_its_last_day_on(organization):
    ended = rent(organization, on=date(2026, 10, 10), ends_on=DECEMBER)[0]
    during = rent(organization, on=date(2026, 10, 10), ends_on=date(2026, 12, 2))[0]
    run(JANUARY)
    assert starts(ended) == ["2026-10-10", "2026-11-01"]
    assert starts(during) == ["2026-10-10", "2026-11-01", "2026-12-01"]


def test_free_rental_is_charged_nothing_each_month(organization):
    free = rent(organization, on=date(2026, 11, 23), amount=0, fee=0)[0]
    run(DECEMBER)
    assert [amount for _, _, amount in periods(free)] == [0, 0]
    assert_books_balance(DECEMBER)


def test_purchase_on_the_billing_date_joins_the_following_invoice(organization, rental):
    early = rent(organization, on=DECEMBER)[0]
    run(DECEMBER)
    assert Invoice.objects.get().total == 227
    late = rent(organization, on=DECEMBER)[0]
    run(JANUARY)
    assert Invoice.objects.get(number=2).total == 100 + 2 * (100 + 100 + 100)
    for one in (early, late):
        assert starts(one) == ["2026-12-01", "2027-01-01"]
    assert_books_balance(JANUARY)


def test_batches_leave_nobody_out(organization, monkeypatch):
    monkeypatch.setattr(runs_module, "BATCH", 3)
    rentals = rent(organization, on=date(2026, 11, 23), numbers=7)
    run(DECEMBER)
    assert Charge.objects.filter(period_start=DECEMBER).count() == len(rentals)
    assert Entry.objects.filter(kind="rental").count() == 3
    assert_books_balance(DECEMBER)


def test_each_organization_is_billed_on_its_own_day(organization, rival):
    rival.billing_day = 15
    rival.save()
    ours = rent(organization, on=date(2026, 11, 23))[0]
    theirs = rent(rival, on=date(2026, 11, 23))[0]
    run(date(2026, 12, 14))
    assert (len(periods(ours)), len(periods(theirs))) == (2, 1)
    run(date(2026, 12, 15))
    assert starts(theirs) == ["2026-11-23", "2026-12-15"]


# Leases ---------------------------------------------------------------------------------------


def test_lease_is_charged_whole_on_its_own_anchor(organization):
    lease = rent(organization, on=date(2026, 11, 23), amount=150_000, months=3)[0]
    run(date(2027, 2, 22))
    assert periods(lease) == [("2026-11-23", "2027-02-23", 150_000)]
    run(date(2027, 2, 23))
    assert periods(lease)[1:] == [("2027-02-23", "2027-05-23", 150_000)]


def test_lease_period_joins_the_invoice_of_the_next_billing_date(organization):
    rent(organization, on=date(2026, 11, 23), amount=150_000, months=3)
    run(date(2027, 2, 23))
    assert Invoice.objects.filter(billing_date__gt=DECEMBER).count() == 0
    run(date(2027, 3, 1))
    assert Invoice.objects.get(billing_date=date(2027, 3, 1)).total == 150_000
    assert_books_balance(date(2027, 3, 1))


def test_lease_period_on_a_billing_date_joins_its_invoice(organization):
    rent(organization, on=DECEMBER, amount=150_000, months=3)
    run(date(2027, 3, 1))
    totals = dict(Invoice.objects.values_list("billing_date", "total"))
    assert totals == {JANUARY: 150_100, date(2027, 3, 1): 150_000}


def test_lease_periods_missed_for_years_are_caught_up(organization):
    lease = rent(organization, on=date(2027, 8, 31), months=6)[0]
    run(date(2029, 3, 1))
    assert starts(lease) == ["2027-08-31", "2028-02-29", "2028-08-31", "2029-02-28"]
    assert_books_balance(date(2029, 3, 1))


def test_ended_lease_is_not_charged(organization):
    lease = rent(organization, on=date(2026, 11, 23), months=3, ends_on=date(2027, 2, 23))[0]
    run(date(2027, 6, 1))
    assert starts(lease) == ["2026-11-23"]


# Starting late, ending early ------------------------------------------------------------------


def started_late(organization, *, placed_on, delivered_on, **terms):
    """A rental of an order placed on `placed_on` that the carrier delivered on `delivered_on`."""
    rental = rent(organization, on=placed_on, **terms)[0]
    rental.charge_periods_begun(delivered_on, at=noon(delivered_on))
    return rental


def test_late_delivery_is_charged_the_periods_begun(organization, rental):
    run(DECEMBER)
    late = started_late(organization, placed_on=date(2026, 11, 29), delivered_on=date(2026, 12, 3))
    assert starts(late) == ["2026-11-29", "2026-12-01"]
    assert run(date(2026, 12, 3)).charges == 0
    run(JANUARY)
    assert starts(late) == ["2026-11-29", "2026-12-01", "2027-01-01"]
    assert Invoice.objects.get(number=2).total == 100 + (100 + 7 + 100 + 100)
    assert_books_balance(JANUARY)


def test_late_delivery_before_the_run_joins_the_invoice_the_run_would_have_written(organization):
    late = started_late(organization, placed_on=date(2026, 11, 29), delivered_on=date(2026, 12, 3))
    assert late.charges.filter(billing_date=DECEMBER).count() == 1
    run(date(2026, 12, 3))
    assert Invoice.objects.get().total == 100 + 7 + 100
    assert starts(late) == ["2026-11-29", "2026-12-01"]
    assert_books_balance(date(2026, 12, 3))


def test_late_lease_is_charged_on_the_invoice_of_its_period(organization):
    late = started_late(
        organization, placed_on=date(2026, 11, 15), delivered_on=date(2027, 2, 20), months=3
    )
    assert starts(late) == ["2026-11-15", "2027-02-15"]
    run(date(2027, 3, 1))
    assert Invoice.objects.get(billing_date=date(2027, 3, 1)).line_count == 1
    assert_books_balance(date(2027, 3, 1))


def test_charging_periods_begun_twice_charges_them_once(organization, rental):
    first = rental.charge_periods_begun(DECEMBER, at=noon(DECEMBER))
    again = rental.charge_periods_begun(DECEMBER, at=noon(DECEMBER))
    assert (len(first), again) == (1, [])


@pytest.mark.parametrize("run_first", [True, False])
def test_release_on_a_billing_day_costs_the_same_whichever_came_first(rental, run_first):
    if run_first:
        run(DECEMBER)
    rental.charge_periods_begun(DECEMBER, at=noon(DECEMBER))
    Rental.objects.update(ends_on=DECEMBER + timedelta(days=1))
    run(DECEMBER)
    assert starts(rental) == ["2026-11-23", "2026-12-01"]
    assert Invoice.objects.get().total == 227


# Local dates ----------------------------------------------------------------------------------

ODD_MIDNIGHTS = [
    # Midnight does not exist: the clock goes from 23:59:59 to 01:00.
    ("America/Sao_Paulo", datetime(2018, 11, 4, 3, tzinfo=UTC), date(2018, 11, 4)),
    ("Africa/Cairo", datetime(2025, 4, 24, 22, tzinfo=UTC), date(2025, 4, 25)),
    ("Asia/Beirut", datetime(2025, 3, 29, 22, tzinfo=UTC), date(2025, 3, 30)),
    # Midnight happens twice: back from 24:00 to 23:00 of the day before.
    ("Africa/Cairo", datetime(2025, 10, 30, 22, tzinfo=UTC), date(2025, 10, 31)),
    # 30 December 2011 never happened.
    ("Pacific/Apia", datetime(2011, 12, 30, 10, tzinfo=UTC), date(2011, 12, 31)),
    ("Pacific/Kiritimati", datetime(2026, 11, 30, 10, tzinfo=UTC), date(2026, 12, 1)),
    ("Pacific/Niue", datetime(2026, 12, 1, 11, tzinfo=UTC), date(2026, 12, 1)),
]


@pytest.mark.parametrize(("zone", "begins", "day"), ODD_MIDNIGHTS)
def test_a_day_begins_where_the_organization_is(organization, zone, begins, day):
    organization.time_zone, organization.billing_day = zone, day.day
    organization.save()
    rental = rent(organization, on=day - timedelta(days=10))[0]
    Rental.objects.charge_due(at=begins - timedelta(seconds=1))
    assert str(day) not in starts(rental)
    Rental.objects.charge_due(at=begins)
    assert starts(rental)[-1] == str(day)


def test_billing_date_that_never_happened_is_charged_the_day_after(organization):
    organization.time_zone, organization.billing_day = "Pacific/Apia", 30
    organization.save()
    rental = rent(organization, on=date(2011, 12, 1))[0]
    Rental.objects.charge_due(at=datetime(2011, 12, 30, 9, 59, tzinfo=UTC))
    assert starts(rental) == ["2011-12-01"]
    Rental.objects.charge_due(at=datetime(2011, 12, 30, 10, tzinfo=UTC))
    assert starts(rental) == ["2011-12-01", "2011-12-30"]


# The run itself -------------------------------------------------------------------------------


def test_run_says_what_it_did(rental):
    done = run(DECEMBER)
    done.refresh_from_db()
    assert (done.as_of, done.organizations, done.failures) == (DECEMBER, 1, [])
    assert done.finished_at is not None


def test_quiet_repeats_leave_one_row_a_day(rental):
    for _ in range(3):
        run(date(2026, 11, 24))
    assert BillingRun.objects.count() == 1
    run(date(2026, 11, 25))
    assert BillingRun.objects.count() == 2


def test_failure_of_one_organization_stops_no_other(organization, rival, monkeypatch, caplog):
    rent(organization, on=date(2026, 11, 23))
    theirs = rent(rival, on=date(2026, 11, 23))[0]
    carry_out = Collection.carry_out

    def fail_for_northwind(self):
        if self.organization == organization:
            raise RuntimeError("no luck")
        return carry_out(self)

    monkeypatch.setattr(Collection, "carry_out", fail_for_northwind)
    done = run(DECEMBER)
    assert done.failures == [{"organization": "northwind", "reason": "no luck"}]
    assert starts(theirs) == ["2026-11-23", "2026-12-01"]
    assert "Northwind" in caplog.text


def swallow_charges():
    """From now on the database drops every new charge without a word."""
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        cursor.execute(
            "CREATE FUNCTION swallow() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'"
        )
        cursor.execute(
            "CREATE TRIGGER swallow BEFORE INSERT ON billing_charge FOR EACH ROW"
            " EXECUTE FUNCTION swallow()"
        )
        cursor.execute("SET CONSTRAINTS ALL DEFERRED")


def test_due_organization_that_got_nothing_raises_an_alarm(rental, caplog):
    swallow_charges()
    done = run(DECEMBER)
    assert done.charges == 0
    assert done.failures == [
        {"organization": "northwind", "reason": "1 rentals due on 2026-12-01 were not charged."}
    ]
    assert any(record.levelname == "ERROR" for record in caplog.records)


def test_billing_date_that_was_skipped_raises_an_alarm(rental, monkeypatch):
    monkeypatch.setattr(Collection, "close", lambda self, billing_date: None)
    assert run(DECEMBER).failures == [
        {"organization": "northwind", "reason": "2026-12-01 was due and nothing was billed."}
    ]


def test_rental_that_was_left_out_is_charged_by_the_next_run(organization, rental, caplog):
    run(DECEMBER)
    forgotten = rent(organization, on=date(2026, 11, 23))[0]
    repaired = run(date(2026, 12, 5))
    assert (repaired.charges, repaired.failures) == (1, [])
    assert starts(forgotten) == ["2026-11-23", "2026-12-01"]
    assert forgotten.charges.get(period_start=DECEMBER).on == date(2026, 12, 5)
    assert "charged late" in caplog.text
    run(JANUARY)
    assert_books_balance(JANUARY)


# The command ----------------------------------------------------------------------------------


def test_command_prints_what_was_charged(rental, capsys):
    call_command("charge_rentals", on=DECEMBER - timedelta(days=3650))
    assert "Nothing is due." in capsys.readouterr().out


def test_command_without_a_date_takes_each_organizations_own(organization, capsys):
    rent(organization, on=date(2026, 1, 10))
    call_command("charge_rentals")
    out = capsys.readouterr().out
    assert out.startswith("northwind: ")
    assert "invoice 000001 of 1 Feb 2026" in out


@pytest.fixture
def not_debug(settings):
    settings.DEBUG = False


def test_command_refuses_the_future(rental, not_debug):
    with pytest.raises(CommandError, match="1 Jan 2999 has not begun at Northwind"):
        call_command("charge_rentals", on=date(2999, 1, 1))
    assert BillingRun.objects.count() == 0


def test_command_refuses_what_is_no_date():
    with pytest.raises(CommandError, match="--on"):
        call_command("charge_rentals", "--on", "tomorrow")


def test_simulation_shows_and_writes_nothing(rental, not_debug, capsys):
    call_command("charge_rentals", on=date(2036, 12, 1), simulate=True)
    out = capsys.readouterr().out
    assert "northwind: 121 charges, $121.00" in out
    assert "Simulated: nothing was written." in out
    assert (Charge.objects.count(), Invoice.objects.count(), BillingRun.objects.count()) == (
        2,
        0,
        0,
    )


def test_debug_allows_the_future(rental, settings):
    settings.DEBUG = True
    call_command("charge_rentals", on=date(2030, 1, 1))
    assert Invoice.objects.count() > 0


def test_command_fails_where_an_organization_does(rental, capsys, monkeypatch):
    monkeypatch.setattr(Collection, "close", lambda self, billing_date: None)
    with pytest.raises(CommandError, match="1 of the organizations"):
        call_command("charge_rentals", on=DECEMBER, simulate=True)
    assert "northwind: 2026-12-01 was due" in capsys.readouterr().err
