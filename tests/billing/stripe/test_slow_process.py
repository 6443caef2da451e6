"""A process that sent something and then slept past its lease must not collect beside its successor."""

from datetime import timedelta

import pytest

from chirp_dashboard.billing.models import Invoice, Payment

from ..conftest import DECEMBER, noon, rent
from .faults import Fault
from .trading import invoice_everybody

pytestmark = pytest.mark.django_db


def test_two_processes_at_one_attempt_collect_once(
    payer, stripe_world, stripe_gateway, monkeypatch
):
    rent(payer, on=DECEMBER - timedelta(days=8), numbers=2)
    invoice_everybody()
    slow = Payment.objects.select_related(
        "organization", "invoice"
    ).get()  # as the slow one read it
    stripe_world.fault("POST /v1/invoices", Fault.TIME_OUT, times=3)
    Payment.objects.advance_due(at=noon(DECEMBER))
    Payment.objects.advance_due(at=noon(DECEMBER) + timedelta(minutes=10))  # not known there: again
    assert Payment.objects.get().tries == 1
    monkeypatch.setattr(
        stripe_gateway, "_find_invoice", lambda _: None
    )  # it looked before it slept
    stripe_gateway.collect(slow)
    paid = [each for each in stripe_world.all("/v1/invoices") if each["status"] == "paid"]
    assert [each["total"] for each in paid] == [Invoice.objects.get().total]
