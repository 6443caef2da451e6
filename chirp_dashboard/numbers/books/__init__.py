"""Do the books balance? Each check is one query that returns a line for every row that breaks a rule.

The rules are the invariants of numbers and money (I1 …), and everything that is kept twice so that a list
of a million is quick. Nothing is mended here.
"""

from dataclasses import dataclass
from datetime import date

from django.db import connection, transaction
from pgtrigger import registry

from chirp_dashboard.billing.models import BillingRun

from . import collecting, invoicing, keeping, owning, posting, renting

CHECKS = [
    check
    for part in (owning, renting, posting, invoicing, collecting, keeping)
    for check in part.CHECKS
]


@dataclass(frozen=True)
class Broken:
    """One row that breaks a rule."""

    invariant: str
    rule: str
    what: str

    def __str__(self):
        return f"{self.invariant} {self.rule}: {self.what}"


def check_books(*, at, on=None):
    """Every row that breaks an invariant, as the books stand at the moment `at`.

    Periods begun by `on` have to be charged; without it, those begun by the last finished run. Reads one
    snapshot, so work going on meanwhile is no false alarm.
    """
    ran = BillingRun.objects.exclude(finished_at=None).order_by("-as_of").first()
    due = on or min(ran.as_of if ran else date.min, at.date())
    begun = max(due, ran.as_of if ran else date.min)
    own_transaction = not connection.in_atomic_block
    with transaction.atomic(), connection.cursor() as cursor:
        if own_transaction:
            cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        cursor.execute("SET LOCAL work_mem = '128MB'")
        broken = []
        for check in CHECKS:
            cursor.execute(check.query, {"at": at, "due": due, "begun": begun})
            broken += [Broken(check.invariant, check.rule, row[0]) for row in cursor.fetchall()]
        return broken + list(unguarded())


def unguarded():
    """I13: triggers that keep rows as they were written and are missing, changed or switched off."""
    rule = "Charges, postings, activity and documents are kept as written"
    for model, trigger in registry.registered():
        status, enabled = trigger.get_installation_status(model)
        if status != "INSTALLED" or not enabled:
            state = "switched off" if status == "INSTALLED" else status.lower()
            yield Broken("I13", rule, f"{model._meta.db_table}: {trigger.name} is {state}")
