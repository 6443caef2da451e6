"""The lock under which an organization's money moves: taken in one order by everybody."""

import pytest
from django.db import connection, transaction

from chirp_dashboard.billing.models import Standing

from ..numbers.test_at_once import Meanwhile

pytestmark = pytest.mark.django_db(transaction=True)


def lock(organization):
    with transaction.atomic():
        Standing.lock(organization)


def test_who_has_the_organization_gets_its_standing_while_another_waits(organization):
    """Two first purchases: the later has found no standing and locks the organization to make one."""
    lock(organization)
    with transaction.atomic():
        organization.lock()
        other = Meanwhile(lambda: lock(organization))
        assert other.waits()
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL lock_timeout = '5s'")
        assert Standing.lock(organization).organization == organization
    other.ends()
