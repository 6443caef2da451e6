"""Credit notes: what an issued invoice asked for and should not have, taken back by a document of its own."""

from collections.abc import Mapping

from django.db import transaction
from django.db.models import F, Sum

from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.organizations.templatetags.ui import money

from .books import (
    Account,
    Charge,
    CreditRefused,
    Entry,
    Standing,
    check_credit,
    reason_of_credit,
)


class Credits:
    """How an `Invoice` is corrected."""

    @transaction.atomic
    def credit(self, charges, *, reason, by, at, to_refund=False):
        """Take back what is left of each of `charges`, or `{charge: amount}`; returns the credit note.

        Its tax is what the corrected invoice asked on it, so that all its parts together give back
        exactly that. The money pays the corrected invoice, then the oldest others, unless `to_refund`:
        then the rest is left for the refund that the caller begins in the same transaction. Raises
        CreditRefused.
        """
        standing = Standing.lock(self.organization)
        reason = reason_of_credit(reason)
        amounts = self._amounts_to_credit(charges)
        net = sum(amounts.values())
        self._check_note(net)
        note = self._write_note(standing, amounts, net, reason=reason, by=by, at=at)
        invoices = type(self).objects
        invoices.apply_money(self.organization, first=self, others=not to_refund)
        self.refresh_from_db(fields=["paid"])
        note.tell("credit_note")
        return note

    @property
    def credited(self):
        """What credit notes have taken back of it, without tax and with the sign turned."""
        return self._credited()[0]

    @property
    def left_to_credit(self):
        """What a credit note could still take back, without tax."""
        if self.kind == self.Kind.CREDIT_NOTE:
            return 0
        return max(self.net - self.credited, 0)

    def _credited(self):
        """What credit notes have taken back, `(net, tax)`, with the sign turned."""
        sums = self.credit_notes.aggregate(
            net=Sum(F("tax") - F("total"), default=0), tax=Sum(-F("tax"), default=0)
        )
        return int(sums["net"]), int(sums["tax"])

    def _amounts_to_credit(self, charges):
        """`{charge: amount}`, each within what is left of a charge of this invoice."""
        if self.kind == self.Kind.CREDIT_NOTE:
            raise CreditRefused("A credit note is not credited itself.")
        asked = dict(charges) if isinstance(charges, Mapping) else dict.fromkeys(charges)
        lines = self.lines.filter(charge__in=list(asked)).values_list("charge", flat=True)
        if set(lines) != {charge.pk for charge in asked}:
            raise CreditRefused(f"What is credited has to stand on {self}.")
        left = Charge.objects.left_of(list(asked))
        given = {charge: left[charge] for charge, amount in asked.items() if amount is None}
        given = {charge: amount for charge, amount in given.items() if amount > 0}
        for charge, amount in asked.items():
            if amount is not None:
                check_credit(amount, charge.currency, self.organization)
                Charge.objects.check_left(charge, amount, self.organization)
                given[charge] = amount
        return given

    def _check_note(self, net):
        left = self.left_to_credit
        if not net or not left:
            raise CreditRefused(f"Nothing of it is left to credit on {self}.")
        if net > left:
            raise CreditRefused(f"{money(left, self.currency)} of {self} can still be credited.")

    def _write_note(self, standing, amounts, net, *, reason, by, at):
        today = standing.organization.local_date(at)
        credited, given_back = self._credited()
        entry = Entry.objects.post(
            standing, Entry.Kind.CREDIT, -net, against=Account.CREDITS, at=at
        )
        for credit in self._write_credits(standing, amounts, entry, reason=reason, on=today, at=at):
            credit.note(by=by, at=at)
        return type(self).objects.write(
            standing,
            entry.charges.all(),
            kind=self.Kind.CREDIT_NOTE,
            corrects=self,
            order=self.order,
            tax_rate=self.tax_rate,
            tax=given_back - tax_on(credited + net, self.tax_rate),
            billing_date=today,
            issued_on=today,
            due_on=today,
            by=by,
            created_at=at,
        )

    def _write_credits(self, standing, amounts, entry, *, reason, on, at):
        """They belong to the billing date of what they correct, so that no other invoice asks for them."""
        return Charge.objects.bulk_create(
            Charge(
                organization=self.organization,
                entry=entry,
                kind=Charge.Kind.CREDIT,
                phone_number_id=charge.phone_number_id,
                corrects=charge,
                order=self.order,
                on=standing.posting_date(on),
                billing_date=None if self.order_id else self.billing_date,
                amount=-amount,
                currency=self.currency,
                description=reason,
                created_at=at,
            )
            for charge, amount in amounts.items()
        )
