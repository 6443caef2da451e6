"""What an operator does about money and mail: actions call the verbs, each with its own permission."""

import re
from datetime import date, timedelta

import pytest
import time_machine
from django.contrib import admin
from django.contrib.auth.models import Permission
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from procrastinate.contrib.django.models import ProcrastinateJob

from chirp_dashboard.billing.gateways import GATEWAYS
from chirp_dashboard.billing.models import (
    BillingRun,
    BooksCheck,
    CalendarFeed,
    Charge,
    Customer,
    Dunning,
    DunningStep,
    InboxEvent,
    Invoice,
    Payment,
    PriceAnnouncement,
    PriceChange,
    Reconciliation,
    Refund,
    RefundEvent,
    RentalPrice,
)
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Activity, Mail, Organization, User

from .conftest import DECEMBER, OPERATOR, noon, rent, run

AT = noon(DECEMBER) + timedelta(days=1)
HOME = "/admin/billing/"
MAIL = "/admin/organizations/"


@pytest.fixture(autouse=True)
def december():
    """The second of December 2026, as the operator's clock has it."""
    with time_machine.travel(AT, tick=False):
        yield


@pytest.fixture
def paid(organization, rental, owner):
    """The December invoice of 2.27, collected by card."""
    organization.gateway = "test"
    organization.save()
    run(DECEMBER)
    Payment.objects.collect_due(at=AT)
    Payment.objects.advance_due(at=AT)
    return Payment.objects.get()


@pytest.fixture
def unpaid(rental, owner):
    """The December invoice of 2.27, overdue in January; dunned from then on."""
    run(DECEMBER)
    return Invoice.objects.get()


@pytest.fixture
def dunning(unpaid):
    Dunning.objects.walk(at=noon(unpaid.due_on))
    return Dunning.objects.get()


def choose(client, model, action, *rows, home=HOME, **answer):
    sent = {"action": action, "_selected_action": [row.pk for row in rows]} | answer
    return client.post(f"{home}{model}/", sent, follow=True)


def answered(client, model, action, row, home=HOME, **answer):
    once = choose(client, model, action, row, home=home).context["once"]
    return choose(client, model, action, row, home=home, answer=once, **answer)


def confirmed(client, model, action, row, home=HOME, **answer):
    """Answered, looked at and confirmed."""
    seen = answered(client, model, action, row, home=home, **answer)
    once = seen.context["once"]
    return choose(client, model, action, row, home=home, answer=once, confirmed="yes", **answer)


def text(response):
    return re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", response.content.decode()))


# Credit notes and refunds ---------------------------------------------------------------------


def test_credit_note_for_an_invoice_is_seen_and_then_issued(operator_client, operator, unpaid):
    seen = answered(operator_client, "invoice", "issue_credit_note", unpaid, reason="Never worked")
    assert "A credit note over the $2.27 (without tax) that Invoice 000001" in text(seen)
    assert Invoice.objects.count() == 1
    done = confirmed(operator_client, "invoice", "issue_credit_note", unpaid, reason="Never worked")
    assert "Issued Credit note 000002 for Invoice 000001: −$2.27." in text(done)
    note = Invoice.objects.get(kind="credit_note")
    assert (note.corrects, note.total) == (unpaid, -227)
    assert Activity.objects.filter(actor=operator, verb="issued").exists()
    assert check_books(at=AT) == []


def test_an_invoice_that_is_credited_is_not_credited_again(operator_client, unpaid):
    confirmed(operator_client, "invoice", "issue_credit_note", unpaid, reason="Never worked")
    again = confirmed(operator_client, "invoice", "issue_credit_note", unpaid, reason="Again")
    assert "left to credit" in text(again)
    assert Invoice.objects.count() == 2


def test_part_of_a_charge_is_credited_on_its_invoice(operator_client, unpaid):
    charge = Charge.objects.get(kind="purchase_fee")
    answer = {"amount": "0.60", "reason": "Goodwill"}
    done = answered(operator_client, "charge", "issue_credit_note", charge, **answer)
    assert "Issued Credit note 000002 for Invoice 000001: −$0.60." in text(done)
    refused = answered(operator_client, "charge", "issue_credit_note", charge, **answer)
    assert "$0.40" in text(refused)


def test_a_charge_without_an_invoice_gets_no_credit_note(operator_client, rental):
    charge = Charge.objects.get(kind="purchase_fee")
    refused = answered(
        operator_client, "charge", "issue_credit_note", charge, amount="0.10", reason="Goodwill"
    )
    assert "No invoice asks for it yet." in text(refused)


def test_a_payment_is_refunded_up_to_what_is_free(operator_client, paid):
    answer = {"amount": "2.27", "reason": "Never worked"}
    refused = answered(operator_client, "payment", "refund", paid, **answer)
    assert "Credit an invoice first." in text(refused)
    paid.invoice.credit(
        [line.charge for line in paid.invoice.lines.all()],
        reason="Never worked", by=OPERATOR, at=AT, to_refund=True,
    )  # fmt: skip
    too_much = answered(operator_client, "payment", "refund", paid, **answer | {"amount": "2.28"})
    assert "$2.27 of what was paid can still be given back." in text(too_much)
    done = answered(operator_client, "payment", "refund", paid, **answer)
    assert f"$2.27 of {paid} is given back to Northwind by ref_" in text(done)
    assert Refund.objects.get().reason == "Never worked"
    assert check_books(at=AT) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"amount": "0"}, "greater than or equal to"),
        ({"amount": "-1"}, "greater than or equal to"),
        ({"amount": "0.001"}, "decimal places"),
        ({"reason": " "}, "This field is required."),
    ],
)
def test_a_refund_that_makes_no_sense_is_refused(operator_client, paid, wrong, says):
    answer = {"amount": "1", "reason": "Never worked"} | wrong
    assert says in text(answered(operator_client, "payment", "refund", paid, **answer))
    assert not Refund.objects.exists()


def test_a_stuck_payment_is_looked_at_again(operator_client, organization, rental, owner):
    organization.gateway = "test"
    organization.save()
    run(DECEMBER)
    Payment.objects.collect_due(at=AT)
    payment = Payment.objects.get()
    assert payment.state == "created"
    looked = choose(operator_client, "payment", "look_again", payment)
    assert f"Looked at {payment}: Collected, was Not sent yet." in text(looked)
    many = [Payment(pk=number) for number in range(1, 13)]
    Payment.objects.bulk_create(
        Payment(
            organization=organization, gateway="account", reference=f"r{each.pk}", amount=1,
            currency="USD", state="captured", captured=1,
        )
        for each in many
    )  # fmt: skip
    too_many = choose(operator_client, "payment", "look_again", *Payment.objects.all())
    assert "Choose at most 10 rows for this." in text(too_many)


# Dunning --------------------------------------------------------------------------------------


def test_dunning_is_held_resumed_and_ended_with_a_reason(operator_client, operator, dunning):
    held = answered(
        operator_client, "dunning", "hold", dunning, until="2027-02-01", reason="They called"
    )
    assert "is held until 1 Feb 2027" in text(held)
    dunning.refresh_from_db()
    assert (dunning.held_until, dunning.held_reason) == (date(2027, 2, 1), "They called")
    assert "goes on." in text(choose(operator_client, "dunning", "resume", dunning))
    ended = answered(operator_client, "dunning", "end", dunning, reason="Settled by phone")
    assert "is ended" in text(ended)
    dunning.refresh_from_db()
    assert dunning.ended_because == "operator"
    noted = Activity.objects.filter(actor=operator, verb__startswith="dunning")
    assert noted.count() == 3


def test_dunning_is_not_held_into_the_past_or_without_a_reason(operator_client, dunning):
    past = answered(
        operator_client, "dunning", "hold", dunning, until="2026-12-01", reason="They called"
    )
    assert "hold it until a later day" in text(past)
    bare = answered(operator_client, "dunning", "hold", dunning, until="2027-02-01", reason="")
    assert "This field is required." in text(bare)
    assert "is not held." in text(choose(operator_client, "dunning", "resume", dunning))
    dunning.refresh_from_db()
    assert dunning.held_until is None


# Inbox and reconciliation ---------------------------------------------------------------------


def an_event(**facts):
    return InboxEvent.objects.create(
        **{
            "gateway": "stripe", "event_id": "evt_1", "type": "payment_intent.succeeded",
            "object_id": "pi_1", "body": "{}", "happened_at": AT, "received_at": AT,
            "state": "failed", "tries": 9, "error": "No answer",
        }
        | facts
    )  # fmt: skip


def test_an_event_is_worked_again(operator_client, db):
    event = an_event()
    assert "will be worked again." in text(choose(operator_client, "inboxevent", "replay", event))
    event.refresh_from_db()
    assert (event.state, event.tries) == ("received", 0)
    assert event.next_try_at == AT


def test_comparing_now_is_a_job_where_there_is_stripe(operator_client, monkeypatch):
    monkeypatch.delitem(GATEWAYS, "stripe", raising=False)
    page = f"{HOME}reconciliation/"
    assert "Compare now" not in operator_client.get(page).content.decode()
    assert operator_client.post(f"{page}now/").status_code == 403
    monkeypatch.setitem(GATEWAYS, "stripe", object())
    assert "Compare now" in operator_client.get(page).content.decode()
    operator_client.post(f"{page}now/")
    assert ProcrastinateJob.objects.get().task_name.endswith("billing.tasks.reconcile_stripe")
    assert "A comparison waits for a worker" in text(operator_client.get(page))


def test_every_difference_stands_on_a_page(operator_client, db):
    difference = {
        "kind": "The amounts differ", "reference": "pay_1", "ours": "$1.00", "theirs": "$2.00",
        "done": "An operator has to look.", "repaired": False,
    }  # fmt: skip
    row = Reconciliation.objects.create(
        gateway="stripe", started_at=AT, finished_at=AT, compared=7, differences=[difference]
    )
    shown = text(operator_client.get(f"{HOME}reconciliation/{row.pk}/change/"))
    assert "1 difference, of which 0 were repaired. 7 were compared" in shown
    assert "The amounts differ pay_1 Here: $1.00 There: $2.00 An operator has to look." in shown


# Runs -----------------------------------------------------------------------------------------


def test_a_run_is_a_report(operator_client, rental):
    report = run(DECEMBER)
    BillingRun.objects.filter(pk=report.pk).update(
        failures=[{"organization": "rival", "reason": "No standing"}],
        alarms=[{"organization": "acme", "billing_date": "2026-12-01", "reason": "No invoice."}],
        skipped=3,
    )
    shown = text(operator_client.get(f"{HOME}billingrun/{report.pk}/change/"))
    assert "Not everybody was billed: see below." in shown
    assert "Periods charged 1 " in shown
    assert "charged by somebody else before 3 " in shown
    assert "In USD $1.00 charged, $2.27 invoiced with tax" in shown
    assert "rival No standing" in shown
    assert "acme 2026-12-01 No invoice." in shown
    for outcome, found in (("failed", 1), ("alarm", 1), ("unfinished", 0)):
        listed = operator_client.get(f"{HOME}billingrun/", {"outcome": outcome})
        assert listed.context["cl"].result_count == found


# Mail -----------------------------------------------------------------------------------------


def test_a_mail_that_failed_is_found_and_sent_again(operator_client, operator, unpaid):
    mail = Mail.objects.get(kind="invoice_issued")
    Mail.objects.filter(pk=mail.pk).update(next_try_at=None, tries=9, error="No such mailbox")
    failed = operator_client.get(f"{MAIL}mail/", {"state": "failed"})
    assert failed.context["cl"].result_count == 1
    done = choose(operator_client, "mail", "resend", mail, home=MAIL)
    assert "Sent again by the worker: 1." in text(done)
    mail.refresh_from_db()
    assert (mail.state, mail.tries) == ("due", 0)
    assert Activity.objects.get(verb="mail_resent").actor == operator


# Every ledger ---------------------------------------------------------------------------------


def one_of_each(number):
    """An organization with a row of every kind that the other tests do not make many of."""
    each = Organization.objects.create(name=f"Org {number}", slug=f"org-{number}")
    person = User.objects.create_user(f"person{number}@chirp.example", "correct horse")
    rental = rent(each, on=date(2026, 11, 23))[0]
    invoice = Invoice.objects.create(
        number=1000 + number, organization=each, billing_date=DECEMBER, issued_on=DECEMBER,
        due_on=DECEMBER, currency="USD", total=100, line_count=0, created_at=AT,
    )  # fmt: skip
    payment = Payment.objects.create(
        organization=each, gateway="test", reference=f"p{number}", amount=100, captured=100,
        currency="USD", state="captured", invoice=invoice,
    )  # fmt: skip
    payment.events.create(from_state="created", to_state="captured", at=AT)
    refund = Refund.objects.create(
        organization=each, payment=payment, reference=f"r{number}", amount=1, currency="USD",
        reason="Goodwill",
    )  # fmt: skip
    RefundEvent.objects.create(refund=refund, from_state="created", to_state="unknown", at=AT)
    Customer.objects.create(organization=each, gateway="test", gateway_id=f"cus_{number}")
    an_event(event_id=f"evt_{number}")
    notice = Mail.objects.write(each, "invoice_issued", key=f"m{number}", at=AT, invoice=invoice)
    dunning = Dunning.objects.create(
        organization=each, invoice=invoice, due_on=DECEMBER, started_at=AT
    )
    DunningStep.objects.create(dunning=dunning, rung=0, taken_on=DECEMBER, at=AT, notice=notice)
    change = PriceChange.objects.create(
        organization=each, country="US", number_type="local", amount=1, currency="USD",
        applies_from=date(2027, 2, 1), reason="Test", rentals=1, before=100, announced_at=AT,
    )  # fmt: skip
    RentalPrice.objects.create(change=change, rental=rental, amount=1)
    PriceAnnouncement.objects.create(
        organization=each, country="US", number_type="local", amount=1, currency="USD",
        applies_from=date(2027, 2, 1), reason="Test", through=rental.pk, organizations=1, rentals=1,
        waiting=[each.pk], asked_at=AT,
    )  # fmt: skip
    CalendarFeed.objects.create(
        organization=each, person=person, secret_hash=f"{number}", created_at=AT
    )
    BooksCheck.objects.create(started_at=AT)
    Reconciliation.objects.create(gateway="stripe", started_at=AT)


LEDGERS = [
    "bookscheck", "calendarfeed", "customer", "dunning", "dunningstep", "inboxevent", "invoice",
    "payment", "paymentevent", "priceannouncement", "pricechange", "reconciliation", "refund",
    "refundevent", "rental", "rentalprice", "mail",
]  # fmt: skip


def home_of(ledger):
    return MAIL if ledger == "mail" else HOME


def test_ledgers_are_listed_searched_opened_and_not_changed(operator_client, db):
    one_of_each(1)
    for ledger in LEDGERS:
        path = f"{home_of(ledger)}{ledger}/"
        model = next(m for m in admin.site._registry if m._meta.model_name == ledger)
        row = model.objects.latest("pk")
        for q in ("", "212", "org-1", "%", "a\0", "9" * 40, "🏪"):
            assert operator_client.get(path, {"q": q}).status_code == 200, (ledger, q)
        assert operator_client.get(f"{path}{row.pk}/change/").status_code == 200, ledger
        assert operator_client.post(f"{path}{row.pk}/change/", {}).status_code == 403, ledger
        assert operator_client.post(f"{path}{row.pk}/delete/", {"post": "yes"}).status_code == 403
        assert operator_client.get(f"{path}add/").status_code == 403, ledger


def test_longer_ledgers_take_no_more_queries(operator_client, db):
    def queries(ledger):
        with CaptureQueriesContext(connection) as captured:
            assert operator_client.get(f"{home_of(ledger)}{ledger}/").status_code == 200
        return len(captured)

    for number in range(2):
        one_of_each(number)
    few = {ledger: queries(ledger) for ledger in LEDGERS}
    for number in range(2, 10):
        one_of_each(number)
    assert {ledger: queries(ledger) for ledger in LEDGERS} == few
    assert max(few.values()) <= 9


def test_secrets_of_feeds_are_not_shown(operator_client, db):
    one_of_each(7)
    CalendarFeed.objects.update(secret_hash="c0ffee" * 10)
    feed = CalendarFeed.objects.get()
    page = operator_client.get(f"{HOME}calendarfeed/{feed.pk}/change/").content.decode()
    assert "c0ffee" not in page


# Permissions ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "action", "permission"),
    [
        ("payment", "refund", "add_refund"),
        ("payment", "look_again", "change_payment"),
        ("refund", "look_again", "change_refund"),
        ("invoice", "issue_credit_note", "add_invoice"),
        ("charge", "issue_credit_note", "add_invoice"),
        ("dunning", "hold", "change_dunning"),
        ("dunning", "resume", "change_dunning"),
        ("dunning", "end", "delete_dunning"),
        ("inboxevent", "replay", "change_inboxevent"),
        ("mail", "resend", "change_mail"),
    ],
)
def test_each_action_has_a_permission(db, model, action, permission):
    one_of_each(1)

    def offered(*permissions):
        person = User.objects.create_user(
            f"clerk{len(permissions)}@chirp.example", "correct horse", is_staff=True
        )
        person.user_permissions.set(Permission.objects.filter(codename__in=permissions))
        client = Client()
        client.force_login(person)
        return f'value="{action}"' in client.get(f"{home_of(model)}{model}/").content.decode()

    assert offered(f"view_{model}", permission)
    assert not offered(f"view_{model}")
