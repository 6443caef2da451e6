"""Money owed: charges, the double-entry postings written with them, and the running standing."""

import pgtrigger
from django.db import connection, models, transaction
from django.db.models import Count, F, Q, Sum
from django.utils import timezone

from chirp_dashboard.billing.periods import next_billing_date
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.organizations.models import INSERT_ONLY, Activity, Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.organizations.templatetags.ui import day, money
from chirp_dashboard.postgres.prepared import columns_of, fetch

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


LONGEST_REASON = 200


class PurchasesStopped(Refused):
    """Rent is unpaid: until it is paid nothing is purchased or brought back."""


class CreditLimitReached(Refused):
    """The purchase would owe more than the organization's credit limit or daily cap allows."""


def take_id(model):
    """An id of `model` for rows that refer to it before it is written (foreign keys wait for commit)."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT nextval(pg_get_serial_sequence(%s, 'id'))", [model._meta.db_table])
        return cursor.fetchone()[0]


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
    purchases_stopped_at = models.DateTimeField(null=True, help_text="Because rent is unpaid.")
    suspended_at = models.DateTimeField(null=True, help_text="Because rent is unpaid.")

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(unsettled__gte=0), name="standing_unsettled")
        ]

    def __str__(self):
        return f"Standing of {self.organization}"

    @classmethod
    def lock(cls, organization):
        """Lock the organization's row and its standing, and read both, until the transaction ends.

        Rows are locked in the order of FROM: the organization first, as everybody does who locks only it.
        """
        statement = f"""
            SELECT {columns_of(cls, "standing")}, {columns_of(Organization, "payer")}
            FROM organizations_organization payer
            JOIN billing_standing standing ON standing.organization_id = payer.id
            WHERE payer.id = %(organization)s::bigint
            FOR NO KEY UPDATE
        """  # noqa: S608 - the column names are our own
        locked = fetch([cls, Organization], statement, {"organization": organization.pk})
        if not locked:  # the organization's first money
            organization.lock()
            cls.objects.get_or_create(organization=organization)
            return cls.lock(organization)
        standing, standing.organization = locked[0]
        return standing

    def posting_date(self, on):
        """The date a charge of today carries: never inside a period that has been invoiced."""
        return max(on, self.closed_through) if self.closed_through else on

    def has_closed(self, on):
        """Is `on` on or before the last billing date invoiced?"""
        return self.closed_through is not None and on <= self.closed_through

    def next_billing_date(self, *, after):
        return next_billing_date(self.organization.billing_day, after=after)

    def close(self, billing_date):
        """Let no charge be dated before `billing_date` any more. Call under `lock()`."""
        self.closed_through = billing_date
        self.save(update_fields=["closed_through"])

    def owed(self):
        """The balance, and the tax that invoices will add to what was charged since the last."""
        if not self.organization.tax_rate:
            return self.balance
        return self.balance + tax_on(
            Charge.objects.uninvoiced(self).total(), self.organization.tax_rate
        )

    def spent_so_far(self, on):
        return self.spent if self.spent_on == on else 0

    def check_purchase(self, total, *, on):
        """Refuse a purchase of `total`, tax included, that passes the credit limit or the daily cap.

        Free purchases pass, but none while purchases are stopped. Call under `lock()`.
        """
        if self.purchases_stopped_at:
            since = self.organization.local_date(self.purchases_stopped_at)
            raise PurchasesStopped(
                f"Purchases are stopped since {day(since)}, because rent is unpaid. Nothing was "
                "purchased. Pay what is due, as the billing page says; then purchases work again."
            )
        limit, cap = self.organization.credit_limit, self.organization.daily_spend_cap
        if total and limit is not None and self.owed() + self.unsettled + total > limit:
            raise CreditLimitReached(
                "This purchase would pass your organization's credit limit. "
                "Nothing was purchased. Pay an open invoice or ask for a higher limit."
            )
        if total and cap is not None and self.spent_so_far(on) + total > cap:
            raise CreditLimitReached(
                "This purchase would pass what your organization may spend in a day. "
                "Nothing was purchased. Try again tomorrow or ask for a higher cap."
            )

    def spend(self, total, *, on):
        """Count a purchase of `total` made on the local date `on` against the daily cap."""
        self.spent, self.spent_on = self.spent_so_far(on) + total, on
        self.save(update_fields=["spent", "spent_on"])

    def unspend(self, total, *, on):
        """Take back what `spend` counted on `on` and came to nothing; another day has its own count."""
        if self.spent_on == on:
            self.spent -= total
            self.save(update_fields=["spent"])

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
    TAX = "tax", "Tax to be passed on"


class EntryManager(models.Manager):
    def write(self, organization, kind, *, amounts, at, description="", **given):
        """Write one balanced entry; `amounts` maps accounts to minor units and sums to zero."""
        entry = self.create(
            organization=organization, kind=kind, at=at, description=description, **given
        )
        Posting.objects.bulk_create(
            Posting(
                entry=entry, organization=organization, account=account, amount=amount,
                currency=organization.currency,
            )
            for account, amount in amounts.items()
        )  # fmt: skip
        return entry

    def post(self, standing, kind, amount, *, against, at, **given):
        """Add `amount` to what the organization owes, balanced by `against`. Call under its lock."""
        standing.add(amount)
        return self.write(
            standing.organization,
            kind,
            amounts={Account.RECEIVABLE: amount, against: -amount},
            at=at,
            **given,
        )


class Entry(models.Model):
    """One event in the books; its postings sum to zero. A batch of charges shares one."""

    class Kind(models.TextChoices):
        PURCHASE = "purchase", "Purchase"
        RENTAL = "rental", "Rental"
        CREDIT = "credit", "Credit"
        PAYMENT = "payment", "Payment"
        TAX = "tax", "Tax"
        REFUND = "refund", "Refund"

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

    @classmethod
    def next_id(cls):
        """The id of an entry whose charges are written before it is known what they sum to."""
        return take_id(cls)


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


class CreditRefused(Refused):
    """The credit makes no sense; the text says why. Nothing was written."""


class ChargeQuerySet(models.QuerySet):
    def uninvoiced(self, standing):
        """What no invoice has asked for yet and no order's own payment collects."""
        written_by_runs = Q(billing_date__isnull=False)
        others = Q(billing_date=None, order=None)
        if closed := standing.closed_through:
            written_by_runs = Q(billing_date__gt=closed)
            others &= Q(on__gte=closed)
        return self.filter(organization=standing.organization_id).filter(written_by_runs | others)

    def asked_for_on(self, standing, billing_date):
        """What the invoice of `billing_date` asks for: dated before it, or a period begun on it."""
        return self.uninvoiced(standing).filter(
            Q(billing_date__lte=billing_date) | Q(billing_date=None, on__lt=billing_date)
        )

    def sums(self):
        """What they come to by number type and kind, as an invoice keeps it."""
        groups = (
            self.order_by()
            .values("kind", type=F("phone_number__number_type"))
            .annotate(count=Count("pk"), sum=Sum("amount"))
            .order_by("type", "kind")
        )
        return [
            {
                "type": group["type"] or "",
                "kind": group["kind"],
                "count": group["count"],
                "amount": int(group["sum"]),
            }
            for group in groups
        ]

    def total(self):
        return self.aggregate(total=Sum("amount", default=0))["total"]

    @transaction.atomic
    def issue_credit(
        self, organization, *, amount, reason, by, at, corrects=None, currency=None, on=None
    ):
        """Credit `amount` (minor unit, positive) to `organization`; it joins the next invoice.

        `corrects` is the charge it takes back, wholly or in part; `on` the day it is dated on, else
        today. Raises CreditRefused.
        """
        standing = Standing.lock(organization)
        reason = reason_of_credit(reason)
        check_credit(amount, currency or organization.currency, organization)
        if corrects is not None:
            self.check_left(corrects, amount, organization)
        credit = self.create(
            organization=organization,
            entry=Entry.objects.post(
                standing, Entry.Kind.CREDIT, -amount, against=Account.CREDITS, at=at
            ),
            kind=Charge.Kind.CREDIT,
            phone_number_id=corrects and corrects.phone_number_id,
            corrects=corrects,
            on=day_of_credit(standing, on, today=organization.local_date(at)),
            amount=-amount,
            currency=organization.currency,
            description=reason,
            created_at=at,
        )
        credit.note(by=by, at=at)
        return credit

    def left_of(self, charges):
        """`{charge: what of it can still be credited}`, nothing of what is a credit itself."""
        credited = dict(
            self.filter(corrects__in=charges)
            .values_list("corrects")
            .annotate(sum=Sum("amount"))
            .order_by()
        )
        return {
            charge: max(charge.amount, 0) + int(credited.get(charge.pk, 0)) for charge in charges
        }

    def check_left(self, charge, amount, organization):
        """Refuse to credit more than what is left of `charge`, or one of another organization."""
        if charge.organization_id != organization.pk:
            raise CreditRefused("The charge belongs to another organization.")
        left = self.left_of([charge])[charge]
        if amount > left:
            raise CreditRefused(
                f"{money(left, charge.currency)} of the charge can still be credited."
            )


def reason_of_credit(reason):
    reason = reason.strip()
    if not reason:
        raise CreditRefused("Write why the credit is given; the invoice shows it.")
    if len(reason) > LONGEST_REASON:
        raise CreditRefused(f"A reason has at most {LONGEST_REASON} characters.")
    return reason


def check_credit(amount, currency, organization):
    if currency != organization.currency:
        raise CreditRefused(f"{organization} is billed in {organization.currency}, not {currency}.")
    if amount <= 0:
        raise CreditRefused("A credit is more than zero.")


def day_of_credit(standing, on, *, today):
    """The day a credit is dated on: never one that has been invoiced."""
    if on is None:
        return standing.posting_date(today)
    if on > today:
        raise CreditRefused(f"{day(on)} is in the future.")
    if standing.closed_through and on < standing.closed_through:
        raise CreditRefused(
            f"Everything before {day(standing.closed_through)} has been invoiced. Date the credit "
            "on that day or later."
        )
    return on


class Charge(models.Model):
    """An immutable line of money owed. A correction is a new row with the sign turned.

    `on` is the local date it was posted; `[period_start, period_end)` what a rental charge pays for.
    `order` is set when the order's own payment collects it, so no invoice ever asks for it again.
    `billing_date` is set on what the run wrote for the invoice of that date; everything else joins the
    first invoice after `on`.
    """

    class Kind(models.TextChoices):
        PURCHASE_FEE = "purchase_fee", "Purchase fee"
        RENTAL = "rental", "Rental"
        CREDIT = "credit", "Credit"
        ADJUSTMENT = "adjustment", "Adjustment"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="charges", db_index=False
    )
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
        "numbers.Order",
        on_delete=models.PROTECT,
        null=True,
        related_name="charges",
        db_index=False,
    )
    corrects = models.ForeignKey(
        "self", on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    on = models.DateField()
    billing_date = models.DateField(null=True)
    period_start = models.DateField(null=True)
    period_end = models.DateField(null=True)
    amount = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    description = models.CharField(max_length=LONGEST_REASON, blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    objects = ChargeQuerySet.as_manager()

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
        # A million rentals are charged at once: every index here is one that some page or check reads.
        indexes = [
            models.Index(fields=["organization", "on", "id"], name="charge_of_organization"),
            models.Index(
                fields=["organization", "billing_date"],
                condition=Q(billing_date__isnull=False),
                name="charge_of_run",
            ),
            models.Index(
                fields=["organization", "on"],
                condition=Q(billing_date=None, order=None),
                name="charge_between_runs",
            ),
            models.Index(
                fields=["order"], condition=Q(order__isnull=False), name="charge_of_order"
            ),
            models.Index(
                fields=["corrects"], condition=Q(corrects__isnull=False), name="charge_corrected"
            ),
        ]
        triggers = [INSERT_ONLY]

    def __str__(self):
        return f"{self.get_kind_display()} {self.amount} {self.currency} on {self.on}"

    @property
    def subject(self):
        """What activity about this charge is filed under: its number, where it has one."""
        return self.phone_number or f"charge {self.pk}"

    def note(self, *, by, at):
        """Write this credit into the activity."""
        Activity.objects.record(
            self.organization, "credited", subject=self.subject, by=by, at=at,
            after={"amount": self.amount, "currency": self.currency, "reason": self.description},
        )  # fmt: skip
