"""What each application spends: every charge split equally among the applications that had its number.

The ones that had it when the charge was written, from the history of assignments; odd cents go to the
earliest. A credit follows the charge it corrects. What had none is "Not assigned". So the parts of any
charges add up to them, to the cent: of a month's invoices on the page, of a span of days in the API.
"""

from dataclasses import dataclass, field
from datetime import date
from functools import cached_property

from django.db import connection

from chirp_dashboard import spreadsheet
from chirp_dashboard.billing.models import Charge, Invoice, Standing
from chirp_dashboard.billing.periods import add_months
from chirp_dashboard.organizations.models import Application, Organization

from .drawing import display
from .models import Assignment

PAGE = 50
NOT_ASSIGNED = "none"
NOT_INVOICED = "not-invoiced"

# `charge` is a subquery of the charges to split. Of charges without a correction the moment is their own.
# A number that is released ends its assignments in the same moment as it writes its last charge.
SHARES = """
    WITH charge AS MATERIALIZED (
        SELECT charge.id, charge.phone_number_id, charge.amount,
               CASE WHEN charge.corrects_id IS NULL THEN charge.created_at ELSE (
                   SELECT corrected.created_at FROM billing_charge corrected
                   WHERE corrected.id = charge.corrects_id
               ) END AS at
        FROM ({charges}) AS charge
    ),
    share AS (
        SELECT charge.id, charge.phone_number_id, charge.amount, assignment.application_id,
               count(*) OVER parts AS parts,
               row_number() OVER (parts ORDER BY assignment.assigned_at, assignment.id) AS place
        FROM charge
        LEFT JOIN numbers_assignment assignment
            ON assignment.phone_number_id = charge.phone_number_id
           AND assignment.assigned_at <= charge.at
           AND (assignment.ended_at IS NULL OR assignment.ended_at > charge.at
                OR (assignment.ended_at = charge.at AND assignment.ended_because = 'released'))
        WINDOW parts AS (PARTITION BY charge.id)
    ),
    split AS (
        SELECT id, application_id, phone_number_id, parts,
               sign(amount)::bigint * (abs(amount) / parts
                   + CASE WHEN place <= abs(amount) %% parts THEN 1 ELSE 0 END) AS amount
        FROM share
    )
"""
BY_APPLICATION = """
    SELECT application_id, count(DISTINCT phone_number_id),
           count(DISTINCT phone_number_id) FILTER (WHERE parts > 1), sum(amount)::bigint
    FROM split GROUP BY application_id
"""
BY_NUMBER = """
    SELECT number.id, number.public_id, number.number, number.label, max(parts), sum(amount)::bigint
    FROM split LEFT JOIN numbers_phonenumber number ON number.id = phone_number_id
    WHERE application_id IS NOT DISTINCT FROM %s::bigint {after}
    GROUP BY number.id
    ORDER BY coalesce(number.number, '') COLLATE "C", coalesce(number.id, 0) LIMIT %s
"""
AFTER = """
    AND (coalesce(number.number, '') COLLATE "C", coalesce(number.id, 0)) > (%s, %s::bigint)
"""
OF_APPLICATION = """
    SELECT coalesce(sum(amount), 0)::bigint, count(*) FROM split WHERE application_id = %s
"""
ALONE = """
    SELECT split.id, application.public_id
    FROM split JOIN organizations_application application ON application.id = application_id
    WHERE parts = 1
"""


def split(charges, statement, *parameters):
    """The rows of `statement`, which reads `split`: a row for each part of each of `charges`."""
    facts = charges.order_by().values(
        "id", "phone_number_id", "amount", "created_at", "corrects_id"
    )
    asked, given = facts.query.sql_with_params()
    with connection.cursor() as cursor:
        cursor.execute(SHARES.replace("{charges}", asked) + statement, [*given, *parameters])
        return cursor.fetchall()


def share_of(application, charges):
    """What `application` bears of `charges`, in the minor unit, and of how many of them it bears a part."""
    had = Assignment.objects.filter(application=application).values("phone_number")
    return split(charges.filter(phone_number__in=had), OF_APPLICATION, application.pk)[0]


def bearers(charges):
    """`{charge: public id of the application}` for those of `charges` that one application bears alone."""
    return dict(split(charges, ALONE))


@dataclass(frozen=True)
class Share:
    """What one application spends; `application` is None for what was assigned to none."""

    application: Application | None
    numbers: int
    shared: int
    amount: int

    @property
    def name(self):
        return self.application.name if self.application else "Not assigned"

    @property
    def slug(self):
        return self.application.slug if self.application else NOT_ASSIGNED


@dataclass
class Spending:
    """Spend per application of one month's invoices, or of what is not invoiced yet."""

    organization: Organization
    on: date
    query: dict = field(default_factory=dict)

    @cached_property
    def months(self):
        """The first days of the months with invoices, the latest first."""
        invoices = Invoice.objects.filter(organization=self.organization)
        return list(invoices.dates("billing_date", "month", order="DESC"))

    @cached_property
    def month(self):
        """The first day of the month that is asked for, else the latest; None: not invoiced yet."""
        asked = self.query.get("month", "")
        if asked == NOT_INVOICED:
            return None
        wanted = [month for month in self.months if f"{month:%Y-%m}" == asked]
        return (wanted or self.months or [None])[0]

    @property
    def is_unknown(self):
        """Was a month asked for that has no invoice?"""
        asked = self.query.get("month", "")
        return bool(asked) and asked not in {NOT_INVOICED, f"{self.month or date.min:%Y-%m}"}

    @property
    def title(self):
        return f"{self.month:%B %Y}" if self.month else "Not yet invoiced"

    @property
    def value(self):
        """How an address asks for it."""
        return f"{self.month:%Y-%m}" if self.month else NOT_INVOICED

    @property
    def choices(self):
        months = [(f"{month:%Y-%m}", f"{month:%B %Y}") for month in self.months]
        return [*months, (NOT_INVOICED, "Not yet invoiced")]

    @cached_property
    def _charges(self):
        charges = Charge.objects.all()
        if self.month:
            return charges.filter(
                invoice_line__invoice__organization=self.organization,
                invoice_line__invoice__billing_date__gte=self.month,
                invoice_line__invoice__billing_date__lt=add_months(self.month, 1),
            )
        standing = Standing.objects.filter(organization=self.organization).first()
        return charges.uninvoiced(standing or Standing(organization=self.organization))

    def _ask(self, statement, *parameters):
        return split(self._charges, statement, *parameters)

    @cached_property
    def shares(self):
        """Each application's Share, the largest first, what is assigned to none at the end."""
        rows = self._ask(BY_APPLICATION)
        known = Application.objects.filter(organization=self.organization).in_bulk(
            [row[0] for row in rows if row[0]]
        )
        shares = [Share(known.get(pk), *facts) for pk, *facts in rows]
        return sorted(
            shares, key=lambda share: (share.application is None, -share.amount, share.name)
        )

    @property
    def total(self):
        return sum(share.amount for share in self.shares)

    @property
    def bars(self):
        """`(share, x)`: as wide as its part of the largest, of 100."""
        largest = max([abs(share.amount) for share in self.shares] + [1])
        return [(share, round(100 * max(share.amount, 0) / largest, 1)) for share in self.shares]

    def table(self):
        currency = self.organization.currency
        yield [
            "Month",
            "Application",
            "Slug",
            "Archived",
            "Numbers",
            "Shared",
            "Currency",
            "Amount",
        ]
        for share in self.shares:
            application = share.application
            yield [
                self.value, spreadsheet.safe(share.name), application.slug if application else "",
                application.archived_at.date().isoformat() if application and application.is_archived else "",
                share.numbers, share.shared, currency, spreadsheet.decimal(share.amount, currency),
            ]  # fmt: skip


@dataclass
class SpendingOf:
    """What one application, or none, spends on each of its numbers in the month of `spending`."""

    spending: Spending
    application: Application | None
    after: str = ""

    @property
    def name(self):
        return self.application.name if self.application else "Not assigned"

    @property
    def slug(self):
        return self.application.slug if self.application else NOT_ASSIGNED

    @cached_property
    def _page(self):
        """One row more than a page, so that a next one is known of. Rows without a number come first."""
        number, _, pk = self.after.rpartition("-")
        is_key = pk.isascii() and pk.isdigit() and len(pk) < 19 and "\0" not in number
        return self.spending._ask(
            BY_NUMBER.replace("{after}", AFTER if is_key else ""),
            self.application and self.application.pk,
            *([number, int(pk)] if is_key else []),
            PAGE + 1,
        )

    @property
    def rows(self):
        return [
            {
                "public_id": public_id,
                "number": number,
                "text": display(number) if number else "No number",
                "label": label,
                "parts": parts,
                "amount": amount,
            }
            for _, public_id, number, label, parts, amount in self._page[:PAGE]
        ]

    @property
    def older(self):
        if len(self._page) <= PAGE:
            return ""
        pk, _, number, *_ = self._page[PAGE - 1]
        return f"{number or ''}-{pk or 0}"
