"""An operator chooses how an organization pays, while nothing is under way."""

import pytest
from django.urls import reverse

from chirp_dashboard.billing.models import Payment
from chirp_dashboard.organizations.models import Activity, PaymentsUnderWay

pytestmark = pytest.mark.django_db


@pytest.fixture
def address(organization):
    return reverse("admin:organizations_organization_change", args=[organization.pk])


def choose(client, address, gateway):
    form = client.get(address).context["adminform"].form
    inlines = client.get(address).context["inline_admin_formsets"]
    data = {name: value for name, value in form.initial.items() if value is not None}
    for inline in inlines:
        management = inline.formset.management_form.initial
        data |= {f"{inline.formset.prefix}-{name}": value for name, value in management.items()}
    return client.post(address, data | {"gateway": gateway})


def options(client, address):
    field = client.get(address).context["adminform"].form.fields["gateway"]
    return dict(field.choices)


def test_only_what_is_set_up_can_be_chosen(operator_client, address):
    assert options(operator_client, address).keys() == {"account", "test"}


def test_nothing_pretends_to_collect_in_production(operator_client, address, settings):
    settings.PRODUCTION = True
    assert options(operator_client, address).keys() == {"account"}


def test_what_an_organization_has_stays_even_when_it_is_not_set_up(
    operator_client, organization, address
):
    organization.gateway = "stripe"
    organization.save()
    assert options(operator_client, address)["stripe"] == "stripe, not set up here"


def test_stripe_is_chosen_with_a_trace(
    operator_client, operator, organization, address, stripe_gateway
):
    assert options(operator_client, address)["stripe"] == "By card, through Stripe"
    assert choose(operator_client, address, "stripe").status_code == 302
    organization.refresh_from_db()
    assert organization.gateway == "stripe"
    row = Activity.objects.get(verb="settings_changed")
    assert (row.before, row.after, row.actor) == (
        {"gateway": "account"},
        {"gateway": "stripe"},
        operator,
    )


@pytest.mark.parametrize("state", Payment.IN_FLIGHT)
def test_nothing_is_changed_while_a_payment_is_under_way(
    state, operator_client, operator, organization, address
):
    Payment.objects.create(
        organization=organization,
        gateway="account",
        reference="one",
        amount=100,
        currency="USD",
        state=state,
    )
    answer = choose(operator_client, address, "test")
    assert answer.status_code == 200
    assert "is under way" in answer.content.decode()
    with pytest.raises(PaymentsUnderWay):
        organization.change_settings({"gateway": "test"}, by=operator, at=organization.created_at)
    organization.refresh_from_db()
    assert organization.gateway == "account"


def test_a_settled_payment_is_in_nobodys_way(operator_client, organization, address):
    Payment.objects.create(
        organization=organization, gateway="account", reference="one", amount=100, currency="USD",
        state=Payment.State.DECLINED,
    )  # fmt: skip
    assert choose(operator_client, address, "test").status_code == 302
    organization.refresh_from_db()
    assert organization.gateway == "test"


def test_a_name_that_is_no_gateway_is_refused(operator_client, organization, address):
    assert choose(operator_client, address, "paypal").status_code == 200
    organization.refresh_from_db()
    assert organization.gateway == "account"
