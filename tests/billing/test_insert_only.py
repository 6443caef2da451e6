"""What was written stays written: the database itself refuses anything else."""

from datetime import date

import pytest
from django.db import ProgrammingError, connection, transaction
from django.db.models import F

from chirp_dashboard.billing.models import Charge, Entry, Invoice, InvoiceLine, Posting
from chirp_dashboard.organizations.models import Activity

from .conftest import DECEMBER, run

INSERT_ONLY = [Charge, Entry, Posting, InvoiceLine, Activity]
REFUSED = ProgrammingError  # insufficient privilege


@pytest.fixture
def books(rental):
    run(DECEMBER)


@pytest.mark.parametrize("model", INSERT_ONLY)
def test_rows_cannot_be_changed(books, model):
    row = model.objects.first()
    with pytest.raises(REFUSED, match="kept as written"), transaction.atomic():
        row.save()
    with pytest.raises(REFUSED, match="UPDATE"), transaction.atomic():
        model.objects.update(
            organization=None
        ) if model is not InvoiceLine else model.objects.update(invoice=F("invoice"))
    with pytest.raises(REFUSED), transaction.atomic():
        model.objects.bulk_update([row], [model._meta.fields[1].name])


@pytest.mark.parametrize("model", INSERT_ONLY)
def test_rows_cannot_be_deleted(books, model):
    with pytest.raises(REFUSED, match="DELETE"), transaction.atomic():
        model.objects.all()._raw_delete("default")


@pytest.mark.parametrize("model", [*INSERT_ONLY, Invoice])
def test_tables_cannot_be_emptied(books, model):
    with connection.cursor() as cursor:
        cursor.execute("SET CONSTRAINTS ALL IMMEDIATE")
        with pytest.raises(REFUSED, match="TRUNCATE"), transaction.atomic():
            cursor.execute(f"TRUNCATE {model._meta.db_table} CASCADE")


@pytest.mark.parametrize("model", INSERT_ONLY)
def test_not_even_no_row_can_be_changed(books, model):
    """The guard looks at the statement, so a harmless one shows that it is there."""
    with connection.cursor() as cursor, pytest.raises(REFUSED), transaction.atomic():
        cursor.execute(f"UPDATE {model._meta.db_table} SET id = id WHERE false")


@pytest.mark.parametrize(
    ("field", "value"),
    [("total", 1), ("number", 9), ("due_on", date(2030, 1, 1)), ("buyer", {}), ("line_count", 0)],
)
def test_issued_invoice_cannot_be_changed(books, field, value):
    with pytest.raises(REFUSED, match="Cannot update"), transaction.atomic():
        Invoice.objects.update(**{field: value})


def test_invoice_cannot_be_deleted(books):
    with pytest.raises(REFUSED, match="DELETE"), transaction.atomic():
        Invoice.objects.all()._raw_delete("default")


def test_what_an_invoice_was_paid_may_change(books):
    Invoice.objects.update(paid=1)
    assert Invoice.objects.get().paid == 1


def test_postings_that_do_not_sum_to_zero_are_refused(books, organization):
    entry = Entry.objects.first()
    with pytest.raises(Exception, match="must sum to zero"), transaction.atomic():
        Posting.objects.create(
            entry=entry, organization=organization, account="cash", amount=1, currency="USD"
        )


def test_charge_joins_one_invoice_only(books):
    line = InvoiceLine.objects.first()
    with pytest.raises(Exception, match="unique"), transaction.atomic():
        InvoiceLine.objects.create(invoice=line.invoice, charge=line.charge)
