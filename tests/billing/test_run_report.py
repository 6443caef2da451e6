"""What a run says of itself, and who is told when somebody due got nothing or no run came at all."""

from datetime import UTC, date, datetime, timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.models import BillingRun, Invoice, Rental, Standing
from chirp_dashboard.billing.models.overlooked import GRACE, overlooked
from chirp_dashboard.billing.models.runs import Collection
from chirp_dashboard.billing.periods import last_billing_date
from chirp_dashboard.organizations.models import Mail

from .conftest import DECEMBER, JANUARY, noon, rent, run

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
NOTHING_CHARGED = "Rentals were due and nothing was charged."


@pytest.fixture(autouse=True)
def operators(settings):
    settings.OPERATOR_EMAILS = ["operator@chirp.example"]


def alarms(kind="run_alarm"):
    return list(Mail.objects.filter(kind=kind).order_by("pk"))


# The report -----------------------------------------------------------------------------------


def test_report_adds_up_each_currency_for_itself(organization, rival):
    rival.currency, rival.tax_rate = "EUR", 10
    rival.save()
    rent(organization, on=date(2026, 11, 23), numbers=2)
    rent(rival, on=date(2026, 11, 23), amount=300)
    report = run(DECEMBER)
    report.refresh_from_db()
    assert (report.organizations, report.charges, report.invoices) == (2, 3, 2)
    assert report.totals == {
        "EUR": {"charged": 300, "invoiced": 528},  # fee 100, 8 of 30 days 80, 300, and a tenth
        "USD": {"charged": 200, "invoiced": 2 * 227},
    }


def test_report_counts_what_was_charged_before_as_skipped(organization):
    rentals = rent(organization, on=date(2026, 11, 23), numbers=3)
    rentals[0].charge_periods_begun(DECEMBER, at=noon(DECEMBER))
    report = run(DECEMBER)
    assert (report.charges, report.skipped) == (2, 1)
    assert Invoice.objects.get().line_count == 9


def test_undisturbed_run_skips_nothing(rental):
    assert run(DECEMBER).skipped == 0
    assert run(DECEMBER).skipped == 0


def test_command_prints_the_report(organization, capsys, settings):
    settings.DEBUG = True
    rentals = rent(organization, on=date(2026, 11, 23), numbers=3)
    rentals[0].charge_periods_begun(DECEMBER, at=noon(DECEMBER))
    call_command("charge_rentals", on=DECEMBER)
    assert capsys.readouterr().out.splitlines() == [
        "northwind: 2 charges, $2.00; 1 skipped, charged before; "
        "invoice 000001 of 1 Dec 2026, $6.81",
        "In all: 2 charges, 1 skipped, 1 invoices, 0 failed. Charged $2.00, invoiced $6.81.",
    ]


def test_sweep_says_nothing_when_nothing_is_due(rental, capsys):
    tasks.charge_rentals(timestamp=0)
    capsys.readouterr()
    tasks.charge_rentals(timestamp=0)
    assert capsys.readouterr() == ("", "")


# Somebody due got nothing ---------------------------------------------------------------------


def forget(monkeypatch, *names):
    """The run goes through these organizations and does nothing, without a word."""
    carry_out = Collection.carry_out

    def forgetful(self):
        if self.organization.slug not in names:
            carry_out(self)

    monkeypatch.setattr(Collection, "carry_out", forgetful)


def test_forgotten_organization_is_found_by_other_means_than_the_run(
    rental, rival, monkeypatch, caplog
):
    rent(rival, on=date(2026, 11, 23))
    forget(monkeypatch, "northwind")
    report = run(DECEMBER)
    report.refresh_from_db()
    assert report.failures == []
    assert report.alarms == [
        {"organization": "northwind", "billing_date": "2026-12-01", "reason": NOTHING_CHARGED}
    ]
    mail = alarms()[0]
    assert mail.to == ["operator@chirp.example"]
    assert mail.subject == "Billing: 1 organization not billed"
    assert f"northwind, 2026-12-01: {NOTHING_CHARGED}" in mail.text
    assert "Billing: 1 organization not billed" in caplog.text


def test_operators_are_told_once_a_day_and_of_whoever_is_new(rental, rival, monkeypatch):
    rent(rival, on=date(2026, 11, 23))
    forget(monkeypatch, "northwind")
    begins = noon(DECEMBER)
    for hours in (0, 1, 23, 24, 30):
        Rental.objects.charge_due(at=begins + hours * HOUR)
    assert [mail.created_at - begins for mail in alarms()] == [0 * HOUR, 24 * HOUR]
    forget(monkeypatch, "northwind", "rival")
    for hours in (31 * 24, 31 * 24 + 1):
        Rental.objects.charge_due(at=begins + hours * HOUR)
    assert [mail.subject for mail in alarms()][2:] == ["Billing: 2 organizations not billed"]


def test_operators_are_told_at_once_of_another_organization(rental, rival, monkeypatch):
    rent(rival, on=date(2026, 11, 23))
    forget(monkeypatch, "northwind")
    Rental.objects.charge_due(at=noon(DECEMBER))
    Standing.objects.filter(organization=rival).update(closed_through=None)
    forget(monkeypatch, "northwind", "rival")
    for hours in (1, 2):
        Rental.objects.charge_due(at=noon(DECEMBER) + hours * HOUR)
    assert [mail.subject for mail in alarms()] == [
        "Billing: 1 organization not billed",
        "Billing: 2 organizations not billed",
    ]


def test_failed_organization_is_told_too(rental, monkeypatch):
    def fail(self):
        raise RuntimeError("no luck")

    monkeypatch.setattr(Collection, "carry_out", fail)
    run(DECEMBER)
    assert "northwind: no luck" in alarms()[0].text


def test_command_fails_when_somebody_got_nothing(rental, monkeypatch, capsys, settings):
    settings.DEBUG = True
    forget(monkeypatch, "northwind")
    with pytest.raises(CommandError, match="1 of the organizations"):
        call_command("charge_rentals", on=DECEMBER)
    assert f"northwind, 2026-12-01: {NOTHING_CHARGED}" in capsys.readouterr().err


def test_good_run_alarms_nobody(organization, rival):
    rent(organization, on=date(2026, 11, 23), numbers=3)
    rent(organization, on=date(2026, 11, 23), months=3)
    rent(organization, on=DECEMBER)
    rent(rival, on=date(2026, 11, 23), ends_on=DECEMBER)
    for on in (date(2026, 11, 24), DECEMBER, JANUARY, date(2027, 2, 23), date(2027, 6, 30)):
        assert run(on).alarms == []
    assert alarms() == []


def test_charged_but_not_invoiced_is_an_alarm(rental):
    run(DECEMBER)
    Standing.objects.update(closed_through=None)
    assert [found["reason"] for found in overlooked(at=noon(DECEMBER), on=DECEMBER)] == [
        "Rentals were due and nothing was invoiced."
    ]


def test_forgotten_lease_is_an_alarm(organization, monkeypatch):
    rent(organization, on=date(2026, 11, 30), months=3)
    forget(monkeypatch, "northwind")
    assert run(date(2027, 2, 27)).alarms == []
    assert run(date(2027, 2, 28)).alarms == [
        {
            "organization": "northwind",
            "billing_date": "2027-02-01",
            "reason": "A lease was due and was not charged.",
        }
    ]


def test_organization_is_due_by_its_own_clock(organization, rival):
    organization.time_zone, rival.time_zone = "Pacific/Kiritimati", "Etc/GMT+12"
    organization.save()
    rival.save()
    rent(organization, on=date(2026, 11, 23))
    rent(rival, on=date(2026, 11, 23))
    first = datetime(2026, 11, 30, 10, tzinfo=UTC)

    def due(at):
        return [found["organization"] for found in overlooked(at=at + GRACE)]

    assert due(first - timedelta(seconds=1)) == []
    assert due(first) == ["northwind"]
    assert due(first + 26 * HOUR - timedelta(seconds=1)) == ["northwind"]
    assert due(first + 26 * HOUR) == ["northwind", "rival"]


@pytest.mark.parametrize("billing_day", [1, 15, 28, 29, 30, 31])
def test_both_reckonings_of_the_last_billing_date_agree(organization, billing_day):
    organization.billing_day = billing_day
    organization.save()
    rent(organization, on=date(2027, 1, 1))
    Rental.objects.update(starts_on=date(2026, 1, 1))
    for day in range(0, 800, 3):
        on = date(2027, 2, 1) + day * DAY
        (found,) = overlooked(at=noon(on), on=on)
        assert found["billing_date"] == str(last_billing_date(billing_day, on=on))


# No run came ----------------------------------------------------------------------------------


def late(*, hours):
    return BillingRun.objects.alarm_if_late(at=timezone.now() + hours * HOUR)


def test_no_run_for_a_day_is_told_once_for_each_day(rental):
    run(date(2026, 11, 24))
    assert late(hours=23) is None
    assert late(hours=25).subject == "Billing: no run for 25 hours"
    assert late(hours=26) is None
    assert late(hours=49).subject == "Billing: no run for 49 hours"
    assert len(alarms("run_late")) == 2


def test_repeats_that_leave_no_row_are_a_sign_of_life(rental):
    run(DECEMBER)
    long_ago = timezone.now() - 30 * HOUR
    BillingRun.objects.update(started_at=long_ago, finished_at=long_ago)
    assert run(DECEMBER).pk is None
    assert BillingRun.objects.count() == 1
    assert late(hours=0) is None
    assert late(hours=25) is not None


def test_run_that_never_came_is_told_from_the_first_rental_on(rental):
    Rental.objects.update(created_at=timezone.now())
    assert late(hours=23) is None
    assert "no billing run has ended yet" in late(hours=25).text


def test_interrupted_run_is_no_sign_of_life(rental):
    BillingRun.objects.create(as_of=DECEMBER, started_at=timezone.now())
    Rental.objects.update(created_at=timezone.now())
    assert late(hours=25) is not None


def test_nothing_is_late_where_nothing_is_rented(db):
    assert late(hours=1000) is None


def test_sweep_tells_of_an_outage(rental):
    long_ago = timezone.now() - 30 * HOUR
    Rental.objects.update(created_at=long_ago)
    tasks.watch_runs(timestamp=0)
    assert len(alarms("run_late")) == 1


def test_first_run_after_an_outage_tells_of_it(rental):
    run(date(2026, 11, 24))
    long_ago = timezone.now() - 45 * DAY
    BillingRun.objects.update(started_at=long_ago, finished_at=long_ago)
    call_command("charge_rentals", verbosity=0)
    assert "no run for 1080 hours" in alarms("run_late")[0].subject


def test_simulation_tells_nobody(rental, monkeypatch):
    forget(monkeypatch, "northwind")
    Rental.objects.update(created_at=timezone.now() - 45 * DAY)
    with pytest.raises(CommandError):
        call_command("charge_rentals", on=JANUARY, simulate=True)
    assert not Mail.objects.filter(organization=None).exists()


def test_second_opinion_is_one_query(organization, django_assert_num_queries):
    rent(organization, on=date(2026, 11, 23), numbers=50)
    run(DECEMBER)
    with django_assert_num_queries(1):
        assert overlooked(at=noon(DECEMBER)) == []
