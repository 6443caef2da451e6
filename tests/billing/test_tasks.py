import pytest

from chirp_dashboard.billing import tasks
from chirp_dashboard.billing.models import BillingRun


@pytest.mark.django_db
def test_sweep_charges_what_is_due(rental):
    tasks.charge_rentals(timestamp=0)
    assert BillingRun.objects.get().finished_at is not None
