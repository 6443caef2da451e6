from types import SimpleNamespace

import pytest

from chirp_dashboard.billing.gateways import (
    AccountGateway,
    Outcome,
    TestGateway,
    UnknownGateway,
    gateway_for,
)
from chirp_dashboard.billing.gateways.test import Fault
from chirp_dashboard.billing.models import TestAuthorisation

pytestmark = pytest.mark.django_db
gateway = TestGateway()


def payment(amount=1000, reference="ord_1-1"):
    return SimpleNamespace(reference=reference, amount=amount, currency="USD")


def test_organization_names_its_gateway(organization):
    assert isinstance(gateway_for(organization), AccountGateway)
    organization.gateway = "test"
    assert isinstance(gateway_for(organization), TestGateway)


def test_account_collects_no_orders_and_waits_thirty_days(organization):
    account = gateway_for(organization)
    assert (account.collects_orders, account.terms_days) == (False, 30)


def test_gateway_that_is_not_set_up_is_refused(organization):
    organization.gateway = "stripe"
    with pytest.raises(UnknownGateway, match="“stripe”"):
        gateway_for(organization)


def test_test_gateway_gives_nothing_away_in_production(organization, settings):
    organization.gateway, settings.PRODUCTION = "test", True
    with pytest.raises(UnknownGateway):
        gateway_for(organization)


def test_authorise_capture_and_look_up():
    assert gateway.authorise(payment()).outcome is Outcome.YES
    assert gateway.capture(payment(), 600).outcome is Outcome.YES
    known = gateway.look_up(payment())
    assert (known.state, known.captured) == ("captured", 600)


def test_repeats_have_one_effect():
    for _ in range(3):
        assert gateway.authorise(payment()).state == "authorised"
    for _ in range(3):
        assert gateway.capture(payment(), 600).state == "captured"
    assert TestAuthorisation.objects.get().captured == 600


def test_void_lets_go_and_may_be_repeated():
    gateway.authorise(payment())
    assert gateway.void(payment()).state == "voided"
    assert gateway.void(payment()).outcome is Outcome.YES


@pytest.mark.parametrize("amount", [0, -1, 1001])
def test_capture_stays_within_what_was_authorised(amount):
    gateway.authorise(payment())
    refused = gateway.capture(payment(), amount)
    assert (refused.outcome, refused.state) == (Outcome.NO, "authorised")


def test_reference_is_not_used_for_another_amount():
    gateway.authorise(payment())
    assert gateway.authorise(payment(amount=2000)).outcome is Outcome.NO


def test_nothing_is_captured_twice_or_after_a_void():
    gateway.authorise(payment())
    gateway.capture(payment(), 600)
    assert gateway.capture(payment(), 700).outcome is Outcome.NO
    assert gateway.void(payment()).outcome is Outcome.NO
    gateway.authorise(payment(reference="ord_2-1"))
    gateway.void(payment(reference="ord_2-1"))
    assert gateway.capture(payment(reference="ord_2-1"), 600).state == "voided"


def test_unknown_reference_is_missing():
    assert gateway.look_up(payment()).state == "missing"
    assert gateway.capture(payment(), 1).outcome is Outcome.NO
    assert gateway.void(payment()).outcome is Outcome.NO


def test_declined_leaves_no_trace():
    with TestGateway.misbehaving(authorise=[Fault.DECLINE]):
        answer = gateway.authorise(payment())
    assert (answer.outcome, answer.state) == (Outcome.NO, "declined")
    assert not TestAuthorisation.objects.exists()


def test_lost_answer_is_unknown_and_the_effect_is_there():
    with TestGateway.misbehaving(authorise=[Fault.ANSWER_LOST]):
        assert gateway.authorise(payment()).outcome is Outcome.UNKNOWN
    assert gateway.look_up(payment()).state == "authorised"


def test_time_out_is_unknown_and_the_effect_is_not():
    with TestGateway.misbehaving(capture=[Fault.TIME_OUT], look_up=[Fault.TIME_OUT]):
        gateway.authorise(payment())
        assert gateway.capture(payment(), 600).outcome is Outcome.UNKNOWN
        assert gateway.look_up(payment()).outcome is Outcome.UNKNOWN
        assert gateway.look_up(payment()).state == "authorised"


@pytest.mark.parametrize(
    ("amount", "outcome"),
    [(4002, Outcome.NO), (5001, Outcome.UNKNOWN), (5004, Outcome.UNKNOWN), (5000, Outcome.YES)],
)
def test_some_amounts_misbehave_by_themselves(amount, outcome):
    assert gateway.authorise(payment(amount=amount)).outcome is outcome
