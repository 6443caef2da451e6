from datetime import date, timedelta

import pytest
from django.db import ProgrammingError, transaction

from chirp_dashboard.billing.models import Charge, Invoice, Payment, PaymentEvent, Standing
from chirp_dashboard.billing.models.payments import PaymentMoved
from chirp_dashboard.billing.models.transfers import TransferRefused
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.organizations.models import Activity

from .conftest import DECEMBER, JANUARY, OPERATOR, noon, rent, run


def transfer(organization, amount, *, reference="T1", received_on=DECEMBER, at=None):
    return Payment.objects.record_transfer(
        organization,
        amount=amount,
        received_on=received_on,
        reference=reference,
        by=OPERATOR,
        at=at or noon(received_on),
    )


def paid():
    return list(Invoice.objects.order_by("number").values_list("paid", "total"))


@pytest.fixture
def invoiced(organization, rental):
    """Invoices of 2.27 (1 December) and 1.00 (1 January)."""
    run(JANUARY)
    return organization


def test_transfer_pays_the_oldest_invoice(invoiced):
    payment = transfer(invoiced, 227)
    assert paid() == [(227, 227), (0, 100)]
    assert (payment.state, payment.captured) == (Payment.State.CAPTURED, 227)
    assert Invoice.objects.get(number=1).is_paid
    assert list(Invoice.objects.unpaid()) == [Invoice.objects.get(number=2)]


def test_transfer_is_posted_and_lowers_the_balance(invoiced):
    payment = transfer(invoiced, 227)
    entry = invoiced.entries.get(kind="payment")
    assert sorted(entry.postings.values_list("account", "amount")) == [
        ("cash", 227),
        ("receivable", -227),
    ]
    assert Standing.objects.get().balance == 100
    assert [event.to_state for event in payment.events.all()] == ["captured"]
    assert check_books(at=noon(JANUARY)) == []


def test_part_payment_leaves_the_rest_due(invoiced):
    transfer(invoiced, 27)
    assert paid() == [(27, 227), (0, 100)]
    transfer(invoiced, 250, reference="T2")
    assert paid() == [(227, 227), (50, 100)]


def test_overpayment_pays_what_is_invoiced_later(invoiced):
    transfer(invoiced, 400)
    assert paid() == [(227, 227), (100, 100)]
    assert Standing.objects.get().balance == -73
    run(date(2027, 2, 1))
    assert paid()[-1] == (73, 100)
    assert Standing.objects.get().balance == 27
    assert check_books(at=noon(date(2027, 2, 1))) == []


def test_payment_before_the_first_invoice_waits_for_it(organization, rental):
    transfer(organization, 500, received_on=date(2026, 11, 24))
    run(DECEMBER)
    assert paid() == [(227, 227)]


def test_same_reference_is_recorded_once(invoiced):
    first, again = transfer(invoiced, 227), transfer(invoiced, 227)
    assert first == again
    assert Payment.objects.count() == 1
    assert Standing.objects.get().balance == 100
    assert Activity.objects.filter(verb="paid").count() == 1


def test_same_reference_of_another_organization_is_another_payment(invoiced, rival):
    assert transfer(invoiced, 227) != transfer(rival, 227)


@pytest.mark.parametrize(
    "changed", [{"amount": 226}, {"amount": 227, "received_on": DECEMBER - timedelta(days=1)}]
)
def test_same_reference_for_something_else_is_refused(invoiced, changed):
    transfer(invoiced, 227)
    with pytest.raises(TransferRefused, match=r"“T1” was recorded already: \$2.27"):
        transfer(invoiced, **changed)
    assert paid() == [(227, 227), (0, 100)]


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"amount": 0}, "more than zero"),
        ({"amount": -5}, "more than zero"),
        ({"amount": 5, "reference": "  "}, "reference"),
        ({"amount": 5, "reference": "x" * 81}, "at most 80"),
        (
            {"amount": 5, "received_on": date(2027, 5, 1), "at": noon(date(2027, 4, 1))},
            "in the future",
        ),
    ],
)
def test_transfer_that_makes_no_sense_is_refused(invoiced, asked, reason):
    with pytest.raises(TransferRefused, match=reason):
        transfer(invoiced, **asked)
    assert Payment.objects.count() == 0
    assert Standing.objects.get().balance == 327


def test_transfer_leaves_an_activity_row(invoiced):
    payment = transfer(invoiced, 227)
    row = Activity.objects.get(verb="paid")
    assert (row.subject, row.after["amount"], row.after["invoices"]) == (
        payment.public_id,
        227,
        [1],
    )


# States ---------------------------------------------------------------------------------------


def new_payment(organization):
    return Payment.objects.create(
        organization=organization, gateway="test", reference="ord-1", amount=100, currency="USD"
    )


def test_payment_moves_through_its_states(organization):
    payment = new_payment(organization)
    payment.move(Payment.State.UNKNOWN, at=noon(DECEMBER), detail="sent")
    payment.move(Payment.State.AUTHORISED, at=noon(DECEMBER))
    payment.move(Payment.State.VOIDED, at=noon(DECEMBER))
    steps = payment.events.order_by("pk").values_list("from_state", "to_state", "detail")
    assert list(steps) == [
        ("created", "unknown", "sent"),
        ("unknown", "authorised", ""),
        ("authorised", "voided", ""),
    ]


@pytest.mark.parametrize("end", ["captured", "voided", "declined"])
def test_ended_payment_does_not_move_unless_money_came_in_after_all(organization, end):
    payment = new_payment(organization)
    Payment.objects.update(state=end)
    payment.refresh_from_db()
    for state in set(Payment.State) - {Payment.State.CAPTURED}:
        with pytest.raises(PaymentMoved):
            payment.move(state, at=noon(DECEMBER))
    assert payment.events.count() == 0
    leads_to_money = Payment.State.CAPTURED in Payment.LEADS_TO.get(end, ())
    assert leads_to_money == (end != "captured")


def test_payment_moved_by_another_process_is_left_alone(organization):
    mine = new_payment(organization)
    theirs = Payment.objects.get()
    theirs.move(Payment.State.AUTHORISED, at=noon(DECEMBER))
    with pytest.raises(PaymentMoved, match="no longer created"):
        mine.move(Payment.State.DECLINED, at=noon(DECEMBER))
    assert Payment.objects.get().state == "authorised"


@pytest.mark.parametrize(
    "fact", [{"amount": 5}, {"reference": "other"}, {"currency": "EUR"}, {"note": "other"}]
)
def test_facts_of_a_payment_stay_as_written(organization, fact):
    new_payment(organization)
    with pytest.raises(ProgrammingError, match="Cannot update"), transaction.atomic():
        Payment.objects.update(**fact)


def test_payments_and_their_events_are_kept(organization):
    new_payment(organization).move(Payment.State.UNKNOWN, at=noon(DECEMBER))
    with pytest.raises(ProgrammingError, match="DELETE"), transaction.atomic():
        PaymentEvent.objects.all()._raw_delete("default")
    with pytest.raises(ProgrammingError, match="UPDATE"), transaction.atomic():
        PaymentEvent.objects.update(detail="another story")
    with pytest.raises(ProgrammingError, match="DELETE"), transaction.atomic():
        Payment.objects.all()._raw_delete("default")


# Credits --------------------------------------------------------------------------------------


def credit(organization, amount, *, reason="Outage of 2 December", corrects=None):
    return Charge.objects.issue_credit(
        organization,
        amount=amount,
        reason=reason,
        by=OPERATOR,
        at=noon(DECEMBER),
        corrects=corrects,
    )


def test_credit_lowers_the_balance_and_joins_the_next_invoice(organization, rental):
    run(DECEMBER)
    written = credit(organization, 30)
    assert (written.amount, written.kind) == (-30, "credit")
    assert Standing.objects.get().balance == 197
    run(JANUARY)
    assert Invoice.objects.get(number=2).total == 70
    assert check_books(at=noon(JANUARY)) == []


def test_credit_for_a_charge_belongs_to_its_number(organization, rental):
    charge = rental.charges.get()
    written = credit(organization, 27, corrects=charge)
    assert written.phone_number == charge.phone_number
    assert Activity.objects.get(verb="credited").subject == charge.phone_number.public_id


def test_credits_never_exceed_what_was_charged(organization, rental):
    charge = rental.charges.get()
    credit(organization, 20, corrects=charge)
    with pytest.raises(Exception, match=r"\$0.07 of the charge can still be credited"):
        credit(organization, 8, corrects=charge)
    credit(organization, 7, corrects=charge)
    with pytest.raises(Exception, match=r"\$0.00 of the charge"):
        credit(organization, 1, corrects=charge)


def test_credit_cannot_be_credited(organization, rental):
    given = credit(organization, 5)
    with pytest.raises(Exception, match="can still be credited"):
        credit(organization, 1, corrects=given)


@pytest.mark.parametrize(
    ("asked", "reason"),
    [({"amount": 0}, "more than zero"), ({"amount": -1}, "more than zero"),
     ({"amount": 1, "reason": " "}, "Write why")],
)  # fmt: skip
def test_credit_that_makes_no_sense_is_refused(organization, rental, asked, reason):
    from chirp_dashboard.billing.models.books import CreditRefused

    with pytest.raises(CreditRefused, match=reason):
        credit(organization, **asked)
    assert Charge.objects.filter(kind="credit").count() == 0
    assert Standing.objects.get().balance == 127


def test_charge_of_another_organization_cannot_be_credited(organization, rival, rental):
    theirs = rent(rival, on=DECEMBER)[0].charges.get()
    with pytest.raises(Exception, match="another organization"):
        credit(organization, 1, corrects=theirs)


def test_credits_above_the_invoice_pay_the_next_one(organization, rental):
    run(DECEMBER)
    credit(organization, 500)
    run(JANUARY)
    assert paid() == [(227, 227), (-400, -400)]
    run(date(2027, 3, 1))
    assert paid() == [(227, 227), (-400, -400), (100, 100), (73, 100)]
    assert Standing.objects.get().balance == 27
    assert check_books(at=noon(date(2027, 3, 1))) == []
