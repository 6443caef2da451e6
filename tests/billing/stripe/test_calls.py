"""How often a month of billing asks Stripe: a figure of benchmarks/RESULTS.md, and the same at any size."""

import re
from datetime import date

import pytest

from chirp_dashboard.billing.models import Payment

from ..conftest import rent
from .conftest import slow
from .trading import collect, invoice_everybody

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize("numbers", [1, 300, slow(20_000)])
def test_a_monthly_invoice_takes_the_same_few_calls_whatever_its_lines(
    payer, stripe_world, numbers
):
    rent(payer, on=date(2026, 11, 23), numbers=numbers)
    before = stripe_world.count()
    invoice_everybody()
    assert stripe_world.count() == before, "the run itself asks nobody"
    collect()
    assert Payment.objects.get().state == Payment.State.CAPTURED
    asked = [f"{call.method} {call.path.split('?')[0]}" for call in stripe_world.calls[before:]]
    assert [re.sub("in_[0-9A-Za-z]+", "…", path) for path in asked] == [
        "GET /v1/invoices",  # is one there from before a crash?
        "POST /v1/invoices",
        "POST /v1/invoices/…/add_lines",
        "POST /v1/invoices/…/finalize",
        "POST /v1/invoices/…/pay",
    ]


def test_a_month_in_which_nobody_pays_by_card_asks_nothing(
    organization, stripe_world, stripe_gateway
):
    rent(organization, on=date(2026, 11, 23), numbers=3)
    invoice_everybody()
    collect()
    assert stripe_world.count() == 0
