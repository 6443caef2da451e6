"""Transfers: money that arrived at the bank, recorded by an operator."""

from django.db import transaction

from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day, money

from .books import Standing

REFERENCE_LENGTH = 80


class TransferRefused(Refused):
    """The transfer makes no sense; the text says why. Nothing was written."""


class Transfers:
    """What a queryset of payments does with transfers."""

    @transaction.atomic
    def record_transfer(self, organization, *, amount, received_on, reference, by, at):
        """Record that `amount` (minor unit) of `organization` arrived; it pays the oldest invoices.

        What is over stays as credit and pays later ones. The same `reference` again returns the
        payment recorded first. Raises TransferRefused.
        """
        Standing.lock(organization)
        reference = " ".join(reference.split())
        self._check_transfer(organization, amount, received_on, reference, at=at)
        ours = f"transfer-{organization.pk}-{reference}"
        if known := self.filter(reference=ours).first():
            return known.again(amount=amount, received_on=received_on)
        payment = self.create(
            organization=organization,
            gateway="account",
            reference=ours,
            amount=amount,
            currency=organization.currency,
            received_on=received_on,
            note=reference,
            created_at=at,
        )
        payment.collect(amount, at=at, by=by)
        return payment

    def _check_transfer(self, organization, amount, received_on, reference, *, at):
        if amount <= 0:
            raise TransferRefused("A payment is more than zero.")
        if not reference:
            raise TransferRefused("Write the reference of the transfer, as on the bank statement.")
        if len(reference) > REFERENCE_LENGTH:
            raise TransferRefused(f"A reference has at most {REFERENCE_LENGTH} characters.")
        if received_on > organization.local_date(at):
            raise TransferRefused("The day it arrived is in the future.")


class Transferred:
    """What a payment by transfer answers to a repeat."""

    def again(self, *, amount, received_on):
        """This transfer, recorded a second time; refuses one that differs under the same reference."""
        if (self.amount, self.received_on) != (amount, received_on):
            raise TransferRefused(
                f"“{self.note}” was recorded already: {money(self.amount, self.currency)} "
                f"that arrived on {day(self.received_on)}."
            )
        return self
