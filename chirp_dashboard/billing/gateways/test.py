"""A gateway that collects nothing, with a memory of its own and faults on request.

For development and tests: it exercises the machines of orders, payments and refunds as Stripe does. Its
memory is TestAuthorisation, one row per reference of ours, as a real gateway would remember; our books
never read it.
"""

from collections import deque
from contextlib import contextmanager
from enum import Enum

from django.apps import apps
from django.db import transaction

from .base import Answer, Gateway, Outcome

NO_ANSWER = Answer(Outcome.UNKNOWN, reason="The gateway did not answer.")
DECLINED = Answer(
    Outcome.NO, reason="The card was declined.", state="declined", code="card_declined"
)
CONFIRMING = "confirming"  # how its memory calls what waits for the customer


class Fault(Enum):
    DECLINE = "decline"  # a definite no
    ANSWER_LOST = "answer lost"  # it was done, and we never hear of it
    TIME_OUT = "time-out"  # it never arrived, and we cannot know
    ACTION = "action"  # the customer has to confirm it first


# For processes that cannot be told: amounts, in the minor unit, that bring a fault when authorised or
# collected.
FAULTY_AMOUNTS = {
    40_02: Fault.DECLINE,
    40_03: Fault.ACTION,
    50_01: Fault.ANSWER_LOST,
    50_04: Fault.TIME_OUT,
}


class TestGateway(Gateway):
    __test__ = False  # not a test case

    name = "test"
    words = "Test: collects nothing"
    collects_orders = True
    collects_invoices = True
    collects_no_money = True
    faults = {}  # {"capture": deque([Fault.TIME_OUT, …])}: one is used up by each call

    def authorise(self, payment):
        return self._begin("authorise", payment, "authorised")

    def collect(self, payment):
        return self._begin("collect", payment, "captured")

    def capture(self, payment, amount):
        return self._answer(self._fault("capture"), lambda: self._capture(payment, amount))

    def void(self, payment):
        return self._answer(self._fault("void"), lambda: self._void(payment))

    def look_up(self, payment):
        return self._answer(self._fault("look_up"), lambda: self._look_up(payment))

    def refund(self, refund):
        return self._answer(self._fault("refund"), lambda: self._refund(refund))

    def look_up_refund(self, refund):
        return self._answer(self._fault("look_up_refund"), lambda: self._look_up(refund))

    @classmethod
    @contextmanager
    def misbehaving(cls, **faults):
        """`with TestGateway.misbehaving(capture=[Fault.TIME_OUT]):` one fault per call, in order.

        None among them is a call that goes well.
        """
        before, cls.faults = cls.faults, {call: deque(due) for call, due in faults.items()}
        try:
            yield
        finally:
            cls.faults = before

    def confirm(self, payment):
        """What the customer does at the gateway when it asked for a confirmation."""
        with transaction.atomic():
            known = self._find(payment)
            if known.state == CONFIRMING:
                collected = payment.order_id is None
                known.state = "captured" if collected else "authorised"
                known.captured = known.amount if collected else 0
                known.save(update_fields=["state", "captured"])

    def _fault(self, call):
        due = self.faults.get(call)
        return due.popleft() if due else None

    def _answer(self, fault, effect):
        if fault is Fault.DECLINE:
            return DECLINED
        if fault is Fault.TIME_OUT:
            return NO_ANSWER
        with transaction.atomic():
            answer = effect()
        return NO_ANSWER if fault is Fault.ANSWER_LOST else answer

    def _memory(self):
        return apps.get_model("billing", "TestAuthorisation").objects

    def _find(self, sent):
        return self._memory().select_for_update().filter(reference=sent.reference).first()

    def _begin(self, call, payment, state):
        fault = self._fault(call) or FAULTY_AMOUNTS.get(payment.amount)
        state = CONFIRMING if fault is Fault.ACTION else state
        return self._answer(fault, lambda: self._remember(payment, state))

    def _remember(self, sent, state):
        known, _ = self._memory().get_or_create(
            reference=sent.reference,
            defaults={
                "amount": sent.amount,
                "captured": sent.amount if state == "captured" else 0,
                "currency": sent.currency,
                "state": state,
            },
        )
        if (known.amount, known.currency) != (sent.amount, sent.currency):
            return no("The reference was used for another amount.", known)
        return yes(known)

    def _capture(self, payment, amount):
        known = self._find(payment)
        if known is None:
            return no("Nothing was authorised.", known)
        if known.state == "captured" and known.captured == amount:
            return yes(known)
        if known.state != "authorised":
            return no(f"It is {known.state} already.", known)
        if not 0 < amount <= known.amount:
            return no("The amount is not within what was authorised.", known)
        known.state, known.captured = "captured", amount
        known.save(update_fields=["state", "captured"])
        return yes(known)

    def _void(self, payment):
        known = self._find(payment)
        if known is None:
            return no("Nothing was authorised.", known)
        if known.state == "captured":
            return no("It is captured already.", known)
        known.state = "voided"
        known.save(update_fields=["state"])
        return yes(known)

    def _refund(self, refund):
        paid = self._find(refund.payment)
        if paid is None or paid.state != "captured":
            return Answer(Outcome.NO, reason="Nothing was collected.", state="failed")
        return self._remember(refund, "refunded")

    def _look_up(self, sent):
        known = self._find(sent)
        return yes(known) if known else Answer(Outcome.YES, state="missing")


def yes(known):
    return Answer(Outcome.YES, **said_of(known))


def no(reason, known):
    return Answer(Outcome.NO, reason=reason, **said_of(known))


def said_of(known):
    """What the gateway says of a row of its memory."""
    if known is None:
        return {"state": "missing"}
    if known.state == CONFIRMING:
        url = f"https://gateway.example/confirm/{known.reference}"
        return {"state": "action_required", "action_url": url}
    return {"state": known.state, "captured": known.captured}
