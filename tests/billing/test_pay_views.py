"""The button that pays now, and the page of one payment, without JavaScript."""

from datetime import timedelta

import pytest
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS, TestGateway
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import Invoice, Payment

from .conftest import OPERATOR, rent, run


@pytest.fixture
def invoice(organization):
    """2.00 due since the first of a month that has passed by any clock."""
    organization.gateway = "test"
    organization.save()
    day = (timezone.now() - timedelta(days=2)).date().replace(day=1)
    rent(organization, on=(day - timedelta(days=20)).replace(day=1))
    run(day)
    return Invoice.objects.latest("number")


def address(invoice):
    return f"/o/northwind/billing/invoices/{invoice.public_id}/pay/"


def page_of(payment):
    return f"/o/northwind/billing/payments/{payment.public_id}/"


def pay(client, invoice, *, amount=None, after="", follow=True):
    due = Payment.objects.amount_due(invoice) if amount is None else amount
    return client.post(address(invoice), {"amount": due, "after": after}, follow=follow)


def text(response):
    return response.content.decode()


def test_the_invoice_offers_to_pay_what_is_due(billing_client, invoice):
    page = text(billing_client.get(f"/o/northwind/billing/invoices/{invoice.public_id}/"))
    due = Payment.objects.amount_due(invoice)
    assert f'action="{address(invoice)}"' in page
    assert f'name="amount" value="{due}"' in page
    assert "now</button>" in page


def test_the_billing_page_offers_to_pay_what_is_due(billing_client, invoice):
    assert f'action="{address(invoice)}"' in text(billing_client.get("/o/northwind/billing/"))


def test_nothing_is_offered_on_account(billing_client, invoice, organization):
    organization.gateway = "account"
    organization.save()
    for path in ("", f"invoices/{invoice.public_id}/"):
        assert "/pay/" not in text(billing_client.get(f"/o/northwind/billing/{path}"))


def test_paying_collects_and_says_so(billing_client, invoice, billing_person):
    due = Payment.objects.amount_due(invoice)
    response = pay(billing_client, invoice)
    payment = Payment.objects.get()
    assert response.redirect_chain == [(page_of(payment), 302)]
    assert f"${due / 100:.2f} collected" in text(response)
    invoice.refresh_from_db()
    assert invoice.is_paid
    begun = payment.organization.activity.get(verb="payment_begun")
    assert begun.actor == billing_person


def test_a_second_click_shows_the_first_payment(billing_client, invoice):
    due = Payment.objects.amount_due(invoice)
    first = pay(billing_client, invoice, amount=due, follow=False)
    second = pay(billing_client, invoice, amount=due, follow=False)
    assert first["Location"] == second["Location"]
    assert Payment.objects.count() == 1


def test_a_decline_says_what_to_do(billing_client, invoice):
    with TestGateway.misbehaving(collect=[Fault.DECLINE]):
        page = text(pay(billing_client, invoice))
    assert "could not be collected" in page
    assert "save another one" in page
    attempt = Payment.objects.get()
    page = text(billing_client.get("/o/northwind/billing/"))
    assert f'name="after" value="{attempt.public_id}"' in page
    assert "could not be collected. Check the card" in page


def test_a_silent_gateway_is_waited_for_and_not_asked_twice(billing_client, invoice):
    with TestGateway.misbehaving(collect=[Fault.ANSWER_LOST]):
        page = text(pay(billing_client, invoice))
    assert "is being collected" in page
    assert "every 2s" in page
    assert "See payment" in text(billing_client.get("/o/northwind/billing/"))
    payment = Payment.objects.get()
    fragment = billing_client.get(page_of(payment), headers={"HX-Request": "true"})
    assert fragment.templates[0].name == "billing/_payment.html"
    response = billing_client.post(page_of(payment), follow=True)
    assert "collected" in text(response)
    assert Payment.objects.get().state == "captured"


def test_a_payment_to_confirm_links_to_the_bank(billing_client, invoice):
    with TestGateway.misbehaving(collect=[Fault.ACTION]):
        page = text(pay(billing_client, invoice))
    payment = Payment.objects.get()
    assert "Your bank asks you to confirm this payment" in page
    assert f'href="{payment.action_url}"' in page
    assert "Confirm payment" in text(billing_client.get("/o/northwind/billing/"))
    GATEWAYS["test"].confirm(payment)
    assert "collected" in text(billing_client.post(page_of(payment), follow=True))


@pytest.mark.parametrize("amount", ["1", "", "two", "-5", "9" * 30])
def test_another_sum_than_what_is_due_collects_nothing(billing_client, invoice, amount):
    response = pay(billing_client, invoice, amount=amount)
    assert response.status_code == 409
    assert "What is due changed since you looked" in text(response)
    assert not Payment.objects.exists()


def test_without_a_card_it_says_so(billing_client, invoice, monkeypatch):
    monkeypatch.setattr(TestGateway, "can_collect", lambda self, organization: False)
    assert "no card to collect" in text(billing_client.get("/o/northwind/billing/"))
    response = pay(billing_client, invoice)
    assert response.status_code == 409
    assert "no card to collect" in text(response)


def test_too_little_is_not_offered(billing_client, invoice, monkeypatch):
    monkeypatch.setattr(TestGateway, "minimum", lambda self, currency: 10_000)
    page = text(billing_client.get("/o/northwind/billing/"))
    assert "added to the next invoice" in page
    assert "/pay/" not in page


def test_who_may_not_pay_cannot(viewer_client, developer_client, rival_client, client, invoice):
    assert viewer_client.post(address(invoice)).status_code == 403
    assert developer_client.post(address(invoice)).status_code == 403
    assert rival_client.post(address(invoice)).status_code == 404
    assert client.post(address(invoice)).status_code == 302
    assert not Payment.objects.exists()


def test_paying_is_not_a_get(billing_client, invoice):
    assert billing_client.get(address(invoice)).status_code == 405


def test_looking_at_a_payment_changes_nothing(billing_client, invoice):
    payment = Payment.objects.begin(invoice, at=timezone.now())
    billing_client.get(page_of(payment))
    payment.refresh_from_db()
    assert payment.state == "created"


def test_a_transfer_has_a_page(billing_client, organization):
    payment = Payment.objects.record_transfer(
        organization, amount=500, received_on=timezone.now().date() - timedelta(days=1),
        reference="T1", by=OPERATOR, at=timezone.now(),
    )  # fmt: skip
    assert "Transfer T1" in text(billing_client.get(page_of(payment)))
