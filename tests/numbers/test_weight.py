"""What travels: a cold page of fifty numbers in at most 6 requests and 60 kB, a swap in 15 kB."""

import gzip
import re
from datetime import UTC, date, datetime

import pytest
from django.contrib.staticfiles import finders

from chirp_dashboard.billing.models import Rental
from chirp_dashboard.numbers.models import PhoneNumber

from .owned import own_many, put

LIST = "/o/northwind/numbers/"

pytestmark = pytest.mark.django_db


@pytest.fixture
def numbers(organization, storefront, alerts):
    rows = own_many(organization, 60, label="Front desk of the branch that moved twice")
    put(rows, storefront)
    put(rows, alerts)


def size(client, address, **headers):
    response = client.get(address, headers={"Accept-Encoding": "gzip"} | headers)
    assert response.headers["Content-Encoding"] == "gzip"
    return len(response.content)


def test_a_cold_list_is_light(owner_client, numbers):
    page = owner_client.get(LIST).content.decode()
    assert page.count('<tr id="ph_') == 50
    files = re.findall(r'(?:href|src)="/static/([^"?]+)"', page)
    assert len(files) + 1 <= 6
    weights = {name: len(gzip.compress(read(name))) for name in files}
    assert size(owner_client, LIST) + sum(weights.values()) <= 60_000, weights


@pytest.mark.parametrize(
    "page", ["", "calendar/", "charges/", "documents/", "numbers/", "forecast/", "applications/"]
)
def test_cold_billing_pages_are_light(owner_client, organization, page):
    own_many(organization, 60, label="Front desk of the branch that moved twice")
    Rental.objects.charge_due(on=date(2026, 12, 1), at=datetime(2026, 12, 1, 17, tzinfo=UTC))
    address = f"/o/northwind/billing/{page}"
    files = re.findall(
        r'(?:href|src)="/static/([^"?]+)"', owner_client.get(address).content.decode()
    )
    assert len(files) + 1 <= 6
    weights = {name: len(gzip.compress(read(name))) for name in files}
    assert size(owner_client, address) + sum(weights.values()) <= 60_000, weights


def read(name):
    with open(finders.find(name), "rb") as file:
        return file.read()


def test_a_swap_of_fifty_rows_is_light(owner_client, numbers):
    last = PhoneNumber.objects.order_by("number")[9]
    for query in ("?q=555", f"?after={last.number}"):
        assert size(owner_client, LIST + query, **{"HX-Request": "true"}) <= 15_000
