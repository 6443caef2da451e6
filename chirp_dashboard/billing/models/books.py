"""Money owed: charges, the double-entry postings written with them, and the running standing."""

import pgtrigger
from django.db import models
from django.db.models import F, Q
from django.utils import timezone

from chirp_dashboard.organizations.models import INSERT_ONLY, Organization
from chirp_dashboard.organizations.refusals import Refused

BALANCED = pgtrigger.Trigger(
    name="balanced",
    level=pgtrigger.Statement,
    when=pgtrigger.After,
    operation=pgtrigger.Insert,
    referencing=pgtrigger.Referencing(new="written"),
    func="""
        IF EXISTS (SELECT FROM written GROUP BY entry_id HAVING sum(amount) <> 0) THEN
            RAISE EXCEPTION 'postings of an entry must sum to zero'
                USING ERRCODE = 'check_violation';
        END IF;
        RETURN NULL;
    """,
)


class CreditLimitReached(Refused):
    """The purchase would owe more than the organization's credit limit or daily cap allows."""


class Standing(models.Model):
    """What one organization owes at this moment, kept in the transaction of every change.

    `balance` is the sum of its receivable postings (charges less payments); `check_books` compares.
    All charges of an organization are written under its lock, so none is dated into a closed period.
    """

    organization = models.OneToOneField(
        Organization,
        on_delete=models.PROTECT,
        primary_key=True,
        related_name="standing",
    )
    balance = models.BigIntegerField(default=0)
    unsettled = models.BigIntegerField(default=0, help_text="Orders placed and not yet settled.")
    spent_on = models.DateField(null=True)
    spent = models.BigIntegerField(default=0, help_text="By purchases placed on `spent_on`.")
    closed_through = models.DateField(null=True, help_text="The last billing date invoiced.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(unsettled__gte=0), name="standing_unsettled")
        ]

    def __str__(self):
        return f"Standing of {self.organization}"

    @classmethod
    def lock(cls, organization):
        """Lock the organization's row, then read its standing; released when the transaction ends."""
        organization.lock()
        return cls.objects.get_or_create(organization=organization)[0]

    def posting_date(self, on):
        """The date a charge of today carries: never inside a period that has been invoiced."""
        return max(on, self.closed_through) if self.closed_through else on

    def spent_so_far(self, on):
        return self.spent if self.spent_on == on else 0

    def check_purchase(self, total, *, on):
        """Refuse a purchase of `total` that passes the credit limit or the daily cap.

        Free purchases pass. Call under `lock()`.
        """
        limit, cap = self.organization.credit_limit, self.organization.daily_spend_cap
        if total and limit is not None and self.balance + self.unsettled + total > limit:
            raise CreditLimitReached(
                "This purchase would pass your organization's credit limit. "
                "Nothing was purchased. Pay an open invoice or ask for a higher limit."
            )
        if total and cap is not None and self.spent_so_far(on) + total > cap:
            raise CreditLimitReached(
                "This purchase would pass what your organization may spend in a day. "
                "Nothing was purchased. Try again tomorrow or ask for a higher cap."
            )

    def spend(self, total, *, on, unsettled=0):
        """Count a purchase placed on `on`; `unsettled` stays reserved until `settle()`."""
        self.spent, self.spent_on = self.spent_so_far(on) + total, on
        self.unsettled += unsettled
        self.save(update_fields=["spent", "spent_on", "unsettled"])

    def settle(self, unsettled):
        """The order that reserved `unsettled` is settled: what it delivered is in the balance now."""
        self.unsettled -= unsettled
        self.save(update_fields=["unsettled"])

    def add(self, amount):
        Standing.objects.filter(pk=self.pk).update(balance=F("balance") + amount)
        self.balance += amount


class Account(models.TextChoices):
    """The accounts of the books. Debits are positive, credits negative; each entry sums to zero."""

    RECEIVABLE = "receivable", "Receivable"
    CASH = "cash", "Cash collected"
    PURCHASE_FEES = "purchase_fees", "Revenue: purchase fees"
    RENTALS = "rentals", "Revenue: rentals"
    CREDITS = "credits", "Credits given"


class EntryManager(models.Manager):
    def write(self, organization, kind, *, amounts, at, description=""):
        """Write one balanced entry; `amounts` maps accounts to minor units and sums to zero."""
        entry = self.create(organization=organization, kind=kind, at=at, description=description)
        Posting.objects.bulk_create(
            Posting(
                entry=entry, organization=organization, account=account, amount=amount,
                currency=organization.currency,
            )
            for account, amount in amounts.items()
        )  # fmt: skip
        return entry


class Entry(models.Model):
    """One event in the books; its postings sum to zero. A batch of charges shares one."""

    class Kind(models.TextChoices):
        PURCHASE = "purchase", "Purchase"
        RENTAL = "rental", "Rental"
        CREDIT = "credit", "Credit"
        PAYMENT = "payment", "Payment"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="entries")
    kind = models.CharField(max_length=12, choices=Kind)
    description = models.CharField(max_length=200, blank=True)
    at = models.DateTimeField()

    objects = EntryManager()

    class Meta:
        indexes = [models.Index(fields=["organization", "id"], name="entry_of_organization")]
        triggers = [INSERT_ONLY]
        verbose_name_plural = "entries"

    def __str__(self):
        return f"{self.get_kind_display()} {self.pk}"


class Posting(models.Model):
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="postings")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="+")
    account = models.CharField(max_length=16, choices=Account)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)

    class Meta:
        triggers = [INSERT_ONLY, BALANCED]

    def __str__(self):
        return f"{self.get_account_display()} {self.amount} {self.currency}"


class ChargeManager(models.Manager):
    def issue_credit(self, organization, *, amount, reason, by, at, corrects=None):
        """Credit `amount` (minor unit, positive) to `organization`; it joins the next invoice.

        Raises ValueError for an amount that is not positive or a missing reason.
        """
        from .credits import issue_credit

        return issue_credit(
            organization, amount=amount, reason=reason, by=by, at=at, corrects=corrects
        )


class Charge(models.Model):
    """An immutable line of money owed. A correction is a new row with the sign turned.

    `on` is the local date it was posted; `[period_start, period_end)` what a rental charge pays for.
    `order` is set when the order's own payment collects it, so no invoice ever asks for it again.
    """

    class Kind(models.TextChoices):
        PURCHASE_FEE = "purchase_fee", "Purchase fee"
        RENTAL = "rental", "Rental"
        CREDIT = "credit", "Credit"
        ADJUSTMENT = "adjustment", "Adjustment"

    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="charges")
    entry = models.ForeignKey(Entry, on_delete=models.PROTECT, related_name="charges")
    kind = models.CharField(max_length=12, choices=Kind)
    rental = models.ForeignKey(
        "billing.Rental", on_delete=models.PROTECT, null=True, related_name="charges"
    )
    phone_number = models.ForeignKey(
        "numbers.PhoneNumber",
        on_delete=models.PROTECT,
        null=True,
        related_name="charges",
    )
    order = models.ForeignKey(
        "numbers.Order", on_delete=models.PROTECT, null=True, related_name="charges"
    )
    corrects = models.ForeignKey("self", on_delete=models.PROTECT, null=True, related_name="+")
    on = models.DateField()
    period_start = models.DateField(null=True)
    period_end = models.DateField(null=True)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    description = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ChargeManager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["rental", "period_start"],
                condition=Q(kind="rental"),
                name="charge_rental_period_once",
            ),
            models.UniqueConstraint(
                fields=["phone_number"],
                condition=Q(kind="purchase_fee"),
                name="charge_purchase_fee_once",
            ),
            models.CheckConstraint(
                condition=~Q(kind="rental")
                | Q(
                    rental__isnull=False,
                    period_start__isnull=False,
                    period_end__gt=F("period_start"),
                ),
                name="charge_rental_has_period",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["purchase_fee", "rental"], amount__gte=0)
                | Q(kind="credit", amount__lt=0)
                | Q(kind="adjustment"),
                name="charge_sign",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "on", "id"], name="charge_of_organization"),
        ]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.get_kind_display()} {self.amount} {self.currency} on {self.on}"
