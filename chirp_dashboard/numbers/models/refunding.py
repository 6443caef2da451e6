"""A delivered line that never worked: the number goes back, its charges are credited, its money returned."""

from django.apps import apps
from django.db import transaction

from chirp_dashboard.billing.models import Charge, Invoice, Payment, Refund, Standing
from chirp_dashboard.organizations.models import Activity
from chirp_dashboard.organizations.refusals import Refused

REASON_LENGTH = 200


class LineRefundRefused(Refused):
    """The line cannot be refunded; the text says why. Nothing was written."""


class Refunds:
    """What an operator does for an `OrderLine` that counts as delivered and was not."""

    @property
    def is_refunded(self):
        return self.refunded_at is not None

    @transaction.atomic
    def refund(self, *, reason, by, at):
        """Undo this line: the number is released for good, fee and rent are credited, money goes back.

        A second time changes nothing. What the order's own payment collected is given back through it;
        anything else stays as credit. Raises LineRefundRefused.
        """
        reason = " ".join(reason.split())
        organization = Standing.lock(self.order.organization).organization
        self.refresh_from_db(from_queryset=type(self).objects.select_for_update())
        if self.is_refunded:
            return
        self._check_refundable(reason)
        self.refunded_at, self.reason = at, reason
        self.save(update_fields=["refunded_at", "reason"])
        self.phone_number.end_for_good(by=by, at=at)
        notes = self._credit(reason=reason, by=by, at=at)
        self._give_back(notes, reason=reason, by=by, at=at)
        Invoice.objects.apply_money(organization)
        Activity.objects.record(
            organization, "line_refunded", subject=self.phone_number, by=by, at=at,
            after={"line": self.public_id, "reason": reason},
        )  # fmt: skip

    def _check_refundable(self, reason):
        if not reason:
            raise LineRefundRefused("Write why it is refunded; the credit note shows it.")
        if len(reason) > REASON_LENGTH:
            raise LineRefundRefused(f"A reason has at most {REASON_LENGTH} characters.")
        if not self.is_delivered:
            raise LineRefundRefused("This line was not delivered, so nothing was charged for it.")
        order = apps.get_model("numbers", "Order").objects.get(pk=self.order_id)
        if order.settled_at is None:
            raise LineRefundRefused(f"{order} is not settled yet. Settle it first.")

    def _credit(self, *, reason, by, at):
        """Credit what is left of every charge for the number; returns the notes on the order's documents.

        What no invoice asked for yet, or what one asked for after other credits had lowered it, is
        credited on the next invoice.
        """
        invoiced = self._left_by_invoice()
        others = invoiced.pop(None, {})
        notes = []
        for invoice, left in sorted(invoiced.items(), key=self._order_last):
            if sum(left.values()) > invoice.left_to_credit:
                others |= left
            else:
                notes.append(invoice.credit(left, reason=reason, by=by, at=at, to_refund=True))
        for charge, amount in others.items():
            Charge.objects.issue_credit(
                self.order.organization,
                amount=amount, reason=reason, by=by, at=at, corrects=charge,
            )  # fmt: skip
        return [note for note in notes if note.order_id == self.order_id]

    def _left_by_invoice(self):
        """`{invoice or None: {charge: what of it can still be credited}}`."""
        charges = Charge.objects.filter(
            phone_number=self.phone_number_id,
            kind__in=[Charge.Kind.PURCHASE_FEE, Charge.Kind.RENTAL],
        ).select_related("invoice_line__invoice__organization")
        found = {}
        for charge, amount in Charge.objects.left_of(list(charges)).items():
            line = getattr(charge, "invoice_line", None)
            if amount:
                found.setdefault(line and line.invoice, {})[charge] = amount
        return found

    def _order_last(self, credited):
        """What the order's documents free is given back, so it must not pay the other ones first."""
        invoice, _ = credited
        return invoice.order_id == self.order_id, invoice.number

    def _give_back(self, notes, *, reason, by, at):
        """Give back through the order's payment what its credit notes freed."""
        payment = self.order.payments.filter(state=Payment.State.CAPTURED).first()
        if payment is None or not notes:
            return
        freed = -sum(note.total for note in notes)
        unused = Invoice.objects.unused_money(self.order.organization)
        if (amount := min(freed, unused, payment.left)) > 0:
            Refund.objects.begin(
                payment, amount=amount, reason=reason, by=by, at=at, credit_note=notes[0]
            )
