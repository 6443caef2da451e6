"""Which differences there are, by a table; and a comparison with a gateway that is a dictionary.

The same against a Stripe that nobody here wrote is in `stripe/test_reconcile.py`; this runs on every machine.
"""

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from types import SimpleNamespace

import pytest

from chirp_dashboard.billing import reconciling
from chirp_dashboard.billing.gateways import GATEWAYS, Answer, Outcome, TestGateway
from chirp_dashboard.billing.gateways.listing import Found, NoAnswer
from chirp_dashboard.billing.gateways.webhooks import Notice
from chirp_dashboard.billing.models import InboxEvent, Payment, Refund
from chirp_dashboard.billing.models import inbox as inbox_module
from chirp_dashboard.billing.reconciling import (
    ALONE_THERE,
    BEHIND,
    DANGLING,
    DIFFERENT,
    EMPTY,
    GIVEN_BACK,
    MISSING,
    NOT_GIVEN_BACK,
    OVERDUE,
    TWICE,
    UNFINISHED,
    judge_payment,
    judge_refund,
    reconcile,
)

from .conftest import NOON, rent, run

NOW = NOON + timedelta(days=10)


# The table --------------------------------------------------------------------------------------


def there(state, amount=100, *, moved=None, currency="USD", **facts):
    moved = amount if moved is None and state in {"captured", "refunded"} else moved or 0
    return Found("payment", "x_1", NOON, state=state, amount=amount, moved=moved, currency=currency)


def here(state, *, captured=0, days=1):
    return Payment(
        state=state, amount=100, captured=captured, currency="USD",
        created_at=NOW - timedelta(days=days),
    )  # fmt: skip


ENDED = [there("voided"), there("declined")]
OPEN_THERE = [there("pending"), there("action_required"), None]
TABLE = [
    *[(here(state), there("captured"), BEHIND) for state in Payment.State if state != "captured"],
    (here("captured", captured=100), there("captured"), ""),
    (here("captured", captured=60), there("captured", moved=60), ""),
    (here("captured", captured=60), there("captured"), DIFFERENT),
    (here("unknown"), there("captured", moved=101), DIFFERENT),
    (here("unknown"), there("captured", amount=99), DIFFERENT),
    (here("unknown"), there("captured", currency="EUR"), DIFFERENT),
    (here("authorised"), there("authorised", amount=99), DIFFERENT),
    *[(here(state), there("authorised"), BEHIND) for state in Payment.WAITING],
    *[(here(state), there("authorised"), DANGLING) for state in ("voided", "declined")],
    (here("authorised"), there("authorised"), ""),
    (here("authorised", days=6), there("authorised"), ""),
    (here("authorised", days=7), there("authorised"), OVERDUE),
    (here("captured", captured=100), there("authorised"), MISSING),
    *[(here(state), found, BEHIND) for state in Payment.IN_FLIGHT for found in ENDED],
    *[(here(state), found, "") for state in Payment.WAITING for found in OPEN_THERE],
    *[(here(state), found, "") for state in ("voided", "declined") for found in ENDED + OPEN_THERE],
    *[(here("captured", captured=100), found, MISSING) for found in ENDED + OPEN_THERE],
    *[(here("authorised"), found, MISSING) for found in OPEN_THERE],
]


@pytest.mark.parametrize(
    ("payment", "found", "kind"), TABLE,
    ids=[f"{payment.state}-{found and found.state}-{kind}" for payment, found, kind in TABLE],
)  # fmt: skip
def test_payment_is_judged(payment, found, kind):
    assert judge_payment(payment, found, at=NOW) == kind


@pytest.mark.parametrize(("settled_at", "kind"), [(None, ""), (NOON, DANGLING)])
def test_authorisation_is_for_an_order_that_is_not_settled(settled_at, kind):
    payment = here("authorised")
    payment.__dict__["order_id"] = 1
    payment._state.fields_cache["order"] = SimpleNamespace(settled_at=settled_at)
    assert judge_payment(payment, there("authorised"), at=NOW) == kind


@pytest.mark.parametrize(
    ("state", "found", "kind"),
    [
        ("refunded", there("refunded"), ""),
        ("refunded", there("refunded", moved=99), DIFFERENT),
        ("refunded", there("refunded", currency="EUR"), DIFFERENT),
        ("refunded", there("failed"), BEHIND),
        ("refunded", there("pending"), ""),
        ("refunded", None, NOT_GIVEN_BACK),
        ("unknown", there("refunded"), BEHIND),
        ("unknown", there("failed"), BEHIND),
        ("unknown", there("pending"), ""),
        ("unknown", None, ""),
        ("created", None, ""),
        ("failed", there("refunded"), GIVEN_BACK),
        ("failed", there("failed"), ""),
        ("failed", None, ""),
    ],
)
def test_refund_is_judged(state, found, kind):
    assert judge_refund(Refund(state=state, amount=100, currency="USD"), found, at=NOW) == kind


# A gateway that is a dictionary -----------------------------------------------------------------


class Listed(TestGateway):
    """The test gateway, with lists; it falls silent after `heard` objects."""

    def __init__(self, *found, heard=None):
        self.found, self.heard = list(found), heard

    def everything(self, *, since):
        for number, found in enumerate(self.found):
            if number == self.heard:
                raise NoAnswer("The gateway did not answer.")
            yield found

    def read_one(self, gateway_id):
        return next((found for found in self.found if found.gateway_id == gateway_id), None)

    def look_up(self, payment):
        found = next(found for found in self.found if found.reference == payment.reference)
        return Answer(
            Outcome.YES, state=found.state, captured=found.moved, gateway_id=found.gateway_id
        )

    def void(self, payment):
        self.found = [
            replace(found, state="voided") if found.reference == payment.reference else found
            for found in self.found
        ]
        return Answer(Outcome.YES, state="voided")

    def read(self, body):
        return Notice("evt_1", "payment.paid", NOON, "x_1", "payment", "asked-1", ("x_1",))

    def reason_to_ignore(self, notice):
        return ""


def paid_there(reference="asked-1", **facts):
    facts = {"state": "captured", "amount": 327, "moved": 327, "currency": "USD"} | facts
    return Found("payment", facts.pop("gateway_id", "x_1"), NOON, reference, **facts)


@pytest.fixture
def asked(organization, monkeypatch):
    """A payment of an invoice of 3.27 that was sent, and the answer never came."""
    organization.gateway = "test"
    organization.save()
    rent(organization, on=date(2026, 11, 23), amount=200)
    run(date(2026, 12, 1))
    invoice = organization.invoices.get()
    return Payment.objects.create(
        organization=organization, invoice=invoice, gateway="test", reference="asked-1",
        amount=invoice.total, currency="USD", state="unknown", created_at=NOON,
    )  # fmt: skip


def compare(gateway, monkeypatch, **options):
    monkeypatch.setitem(GATEWAYS, "test", gateway)
    record = reconcile(gateway, at=NOW, **{"repair": True} | options)
    return [(each["kind"], each["repaired"]) for each in record.differences]


def paid_like(asked, **facts):
    return paid_there(**{"amount": asked.amount, "moved": asked.amount} | facts)


def test_what_was_collected_there_is_written_once(asked, monkeypatch):
    gateway = Listed(paid_like(asked))
    assert compare(gateway, monkeypatch) == [(BEHIND, True)]
    asked.refresh_from_db()
    assert (asked.state, asked.invoice.organization.standing.balance) == ("captured", 0)
    assert compare(gateway, monkeypatch) == []
    assert Payment.objects.get().organization.entries.filter(kind="payment").count() == 1


def test_authorisation_of_nothing_is_let_go(asked, monkeypatch):
    Payment.objects.update(state="declined")
    gateway = Listed(paid_like(asked, state="authorised", moved=0))
    assert compare(gateway, monkeypatch) == [(DANGLING, True)]
    assert gateway.found[0].state == "voided"


@pytest.mark.parametrize("heard", [0, 1])
def test_silence_leaves_it_unfinished_and_unrepaired(asked, monkeypatch, heard):
    gateway = Listed(paid_like(asked), paid_there("other-1", gateway_id="x_2"), heard=heard)
    assert compare(gateway, monkeypatch) == [(UNFINISHED, False)]
    assert Payment.objects.get().state == "unknown"


def test_nothing_where_there_must_be_something_changes_nothing(asked, monkeypatch):
    Payment.objects.update(state="captured", captured=asked.amount)
    assert compare(Listed(), monkeypatch) == [(EMPTY, False)]


def test_nothing_where_nothing_is_expected_is_no_difference(asked, monkeypatch):
    assert compare(Listed(), monkeypatch) == []


def test_two_for_one_reference_and_money_of_nobody_are_left_to_people(asked, monkeypatch):
    Payment.objects.update(state="captured", captured=asked.amount, gateway_id="x_1")
    gateway = Listed(
        paid_like(asked),
        paid_like(asked, gateway_id="x_2"),
        paid_there("nobody-1", gateway_id="x_3"),
    )
    assert sorted(compare(gateway, monkeypatch)) == [(ALONE_THERE, False), (TWICE, False)]


def test_what_is_safe_and_what_is_not_is_decided_once(asked, monkeypatch):
    """What makes a kind safe is one table; a mend that does not take the difference away is not believed."""
    Payment.objects.update(state="captured", captured=asked.amount - 1, gateway_id="x_1")
    gateway = Listed(paid_like(asked))
    assert compare(gateway, monkeypatch) == [(DIFFERENT, False)]
    mended = []
    monkeypatch.setitem(reconciling.MENDS, DIFFERENT, lambda self, row: mended.append(row))
    assert compare(gateway, monkeypatch) == [(DIFFERENT, False)], "mending did not mend it"
    assert mended == [asked]


# The inbox, with the same gateway ---------------------------------------------------------------


def told(monkeypatch, gateway):
    monkeypatch.setitem(GATEWAYS, "test", gateway)
    notice = gateway.read(b"{}")
    assert InboxEvent.objects.receive(gateway, notice, b"{}", at=NOW)
    assert not InboxEvent.objects.receive(gateway, notice, b"{}", at=NOW)
    return InboxEvent.objects.get()


def test_event_makes_the_worker_look(asked, monkeypatch):
    event = told(monkeypatch, Listed(paid_like(asked)))
    assert InboxEvent.objects.work_due(at=NOW) == 1
    event.refresh_from_db()
    assert (event.state, event.worked_at) == ("worked", NOW)
    assert Payment.objects.get().state == "captured"


def test_event_about_a_payment_that_is_not_here_yet_is_kept_for_later(organization, monkeypatch):
    event = told(monkeypatch, Listed())
    for number, wait in enumerate(inbox_module.BACKOFF, start=1):
        InboxEvent.objects.work_due(at=NOW + timedelta(days=number))
        event.refresh_from_db()
        assert event.next_try_at == NOW + timedelta(days=number) + wait
    InboxEvent.objects.work_due(at=NOW + timedelta(days=9))
    event.refresh_from_db()
    assert (event.state, event.tries) == ("failed", 6)
    assert event.happened_at == datetime(2026, 11, 23, 17, tzinfo=UTC)
