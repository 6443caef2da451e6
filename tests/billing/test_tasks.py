import pytest
from django.core.management import CommandError

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.models import BillingRun, Standing


@pytest.mark.django_db
def test_sweep_charges_what_is_due(rental):
    tasks.charge_rentals(timestamp=0)
    assert BillingRun.objects.get().finished_at is not None


@pytest.mark.django_db
def test_broken_books_fail_the_job(rental, caplog):
    Standing.objects.update(balance=5)
    with pytest.raises(CommandError, match="do not balance"):
        tasks.check_books(timestamp=0)
    assert "northwind: balance 5, posted 127" in caplog.text
