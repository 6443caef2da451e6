"""Test numbers: what a test application gets. They cost nothing and touch no stock, carrier or gateway."""

import re

from django.db import models, transaction

from chirp_dashboard.billing.models import NumberType
from chirp_dashboard.numbers.area_codes import TOLL_FREE, area_codes
from chirp_dashboard.numbers.notifying import notify
from chirp_dashboard.organizations.models import Activity, WebhookEvent, person_of
from chirp_dashboard.organizations.public_ids import public_id
from chirp_dashboard.organizations.refusals import Refused

from .inventory import Capability

LIVE_AT_MOST = 1_000
UNAVAILABLE, UNPAID = "+15005550000", "+15005550002"
"""Numbers that always answer so, for programs to try it out."""
MAGIC = {UNAVAILABLE, UNPAID}
E164, SHORT = re.compile(r"\+[1-9][0-9]{6,14}"), re.compile(r"[0-9]{5,6}")

SERIAL = range(100, 10_000)
MADE_UP = {  # numbers that nobody has, by type and serial
    NumberType.LOCAL: "+1500555{:04}",
    NumberType.TOLL_FREE: "+1888555{:04}",
    NumberType.SHORT_CODE: "1{:04}",
}


def made_up(number_type, serial):
    return MADE_UP[NumberType(number_type)].format(serial)


def problem_of(number, number_type):
    """What keeps `number` from being a test number of that type; "" if nothing does."""
    pattern = SHORT if number_type == NumberType.SHORT_CODE else E164
    if number_type not in NumberType.values or not pattern.fullmatch(number):
        return "Write a number such as +12125550142, or a short code of 5 or 6 digits."
    is_toll_free = number.startswith("+1") and number[2:5] in TOLL_FREE
    if number not in MAGIC and is_toll_free != (number_type == NumberType.TOLL_FREE):
        return f"A toll-free number begins with +1 and {', '.join(TOLL_FREE)}; no other does."
    return ""


class TestNumberGone(Refused):
    """The number answers as one that was just sold, or is a test number of the organization already."""

    __test__ = False  # not a test case


class TestPaymentRefused(Refused):
    """The number answers as one that could not be paid."""

    __test__ = False  # not a test case


class AddsTestNumbers(models.QuerySet):
    """A part of PhoneNumberQuerySet."""

    __test__ = False

    def tests_of(self, organization):
        """Its test numbers; one index has them alone, and they are few."""
        return self.live().filter(organization=organization, is_test=True)

    def free_serial(self, organization):
        """The first serial of which no made-up number is taken."""
        taken = set(self.tests_of(organization).values_list("number", flat=True))
        return next(
            serial
            for serial in SERIAL
            if taken.isdisjoint(made_up(number_type, serial) for number_type in MADE_UP)
        )

    @transaction.atomic
    def add_test(self, application, number, *, number_type, by, at):
        """A test number for the test `application`, as if it had been purchased.

        Raises Refused for a number that cannot be one, TestNumberGone, TestPaymentRefused.
        """
        application.organization.lock()
        application.lock()
        self._check_test(application, number, number_type)
        phone_number = self.create(
            public_id=public_id("ph", test=True), organization=application.organization,
            carrier="test", is_test=True, no_fee_reason="test", rental_amount=0,
            currency=application.organization.currency, purchased_at=at,
            number=number, number_type=number_type, capabilities=list(Capability.values),
            **place_of(number, number_type),
        )  # fmt: skip
        phone_number.assignments.create(
            organization=application.organization, application=application, number=number,
            assigned_at=at, assigned_by=person_of(by),
        )  # fmt: skip
        phone_number._count(+1)
        phone_number._add_to_totals(+1)
        Activity.objects.record(
            application.organization, "purchased", subject=phone_number, by=by, at=at,
            after={"test": True, "application": application.name},
        )  # fmt: skip
        notify(WebhookEvent.PURCHASED, [phone_number.pk], application=application, at=at)
        return phone_number

    def _check_test(self, application, number, number_type):
        if not application.is_test or application.is_archived:
            raise Refused(f"{application} takes no test numbers.")
        if problem := problem_of(number, number_type):
            raise Refused(problem)
        owned = self.tests_of(application.organization)
        if number == UNAVAILABLE or owned.filter(number=number).exists():
            raise TestNumberGone(f"{number} was just sold.")
        if number == UNPAID:
            raise TestPaymentRefused("The payment was refused. Nothing was purchased.")
        if owned.count() >= LIVE_AT_MOST:
            raise Refused(f"There are {LIVE_AT_MOST:,} test numbers. Release some first.")


def place_of(number, number_type):
    """The country and, for a geographic number of North America, where it is."""
    code = number[2:5] if number.startswith("+1") else ""
    if number_type == NumberType.LOCAL and (place := area_codes().get(code)):
        return {
            "country": place.country, "region": place.region, "city": place.city, "area_code": code,
        }  # fmt: skip
    return {"country": "US", "area_code": code if code in TOLL_FREE else ""}
