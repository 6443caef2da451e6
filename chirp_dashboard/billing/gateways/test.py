"""A gateway that collects nothing, with a memory of its own and faults on request.

For development and tests: it exercises the order machine as Stripe will. Its memory is
TestAuthorisation, one row per reference of ours, as a real gateway would remember; our books never
read it.
"""

from collections import deque
from contextlib import contextmanager
from enum import Enum

from django.apps import apps
from django.db import transaction

from .base import Answer, Gateway, Outcome

NO_ANSWER = Answer(Outcome.UNKNOWN, reason="The gateway did not answer.")


class Fault(Enum):
    DECLINE = "decline"  # a definite no
    ANSWER_LOST = "answer lost"  # it was done, and we never hear of it
    TIME_OUT = "time-out"  # it never arrived, and we cannot know


# For processes that cannot be told: amounts, in the minor unit, that bring a fault when authorised.
FAULTY_AMOUNTS = {40_02: Fault.DECLINE, 50_01: Fault.ANSWER_LOST, 50_04: Fault.TIME_OUT}


class TestGateway(Gateway):
    __test__ = False  # not a test case

    name = "test"
    collects_orders = True
    collects_no_money = True
    faults = {}  # {"capture": deque([Fault.TIME_OUT, …])}: one is used up by each call

    def authorise(self, payment):
        fault = self._fault("authorise") or FAULTY_AMOUNTS.get(payment.amount)
        return self._answer(fault, lambda: self._authorise(payment))

    def capture(self, payment, amount):
        return self._answer(self._fault("capture"), lambda: self._capture(payment, amount))

    def void(self, payment):
        return self._answer(self._fault("void"), lambda: self._void(payment))

    def look_up(self, payment):
        return self._answer(self._fault("look_up"), lambda: self._look_up(payment))

    @classmethod
    @contextmanager
    def misbehaving(cls, **faults):
        """`with TestGateway.misbehaving(capture=[Fault.TIME_OUT]):` one fault per call, in order."""
        before, cls.faults = cls.faults, {call: deque(due) for call, due in faults.items()}
        try:
            yield
        finally:
            cls.faults = before

    def _fault(self, call):
        due = self.faults.get(call)
        return due.popleft() if due else None

    def _answer(self, fault, effect):
        if fault is Fault.DECLINE:
            return Answer(Outcome.NO, reason="The card was declined.", state="declined")
        if fault is Fault.TIME_OUT:
            return NO_ANSWER
        with transaction.atomic():
            answer = effect()
        return NO_ANSWER if fault is Fault.ANSWER_LOST else answer

    def _memory(self):
        return apps.get_model("billing", "TestAuthorisation").objects

    def _find(self, payment):
        return self._memory().select_for_update().filter(reference=payment.reference).first()

    def _authorise(self, payment):
        known, _ = self._memory().get_or_create(
            reference=payment.reference,
            defaults={
                "amount": payment.amount,
                "currency": payment.currency,
                "state": "authorised",
            },
        )
        if (known.amount, known.currency) != (payment.amount, payment.currency):
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

    def _look_up(self, payment):
        known = self._find(payment)
        return yes(known) if known else Answer(Outcome.YES, state="missing")


def yes(known):
    return Answer(Outcome.YES, state=known.state, captured=known.captured)


def no(reason, known):
    state, captured = (known.state, known.captured) if known else ("missing", 0)
    return Answer(Outcome.NO, reason=reason, state=state, captured=captured)
