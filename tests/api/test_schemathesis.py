"""Whatever is sent that the document allows, or does not: the answer is one the document promises."""

import pytest
import schemathesis
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import CHECKS

from chirp_dashboard.api import door
from chirp_dashboard.numbers.models import PhoneNumber

from ..numbers.conftest import prices, purchase, stock
from .conftest import make_key

__all__ = ["prices", "purchase", "stock"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestWarning"),
]
EXAMPLES = {"fast": 8, "full": 100}
QUIET = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True,
    "database": None, "phases": (Phase.explicit, Phase.generate),
}  # fmt: skip


@pytest.fixture
def world(
    organization, rival, owner, storefront, alerts, rival_application, purchase, stock, monkeypatch
):
    """Two organizations with a number each, and keys of the first; no limit in the way."""
    monkeypatch.setattr(door, "PER_MINUTE", {"general": 10**9, "management": 10**9})
    for signal in (request_started, request_finished):  # as Django's own test client does
        signal.disconnect(close_old_connections)
    purchase(stock[0], application=storefront)
    PhoneNumber.objects.create(
        organization=rival, country="US", number="+12125550999", number_type="local",
        rental_amount=100, currency="USD", no_fee_reason="test",
    )  # fmt: skip
    yield {
        "AdminKey": make_key(organization, owner).secret,
        "AppKey": make_key(organization, owner, storefront).secret,
    }
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


OPERATIONS = {
    result.ok().label: result.ok()
    for result in schemathesis.openapi.from_wsgi(
        "/v1/openapi.json", get_wsgi_application()
    ).get_all_operations()
}


def check(case, world, rival):
    """Call and validate; nothing of the other organization may stand in the answer."""
    (scheme,) = case.operation.definition.raw["security"][0]
    response = case.call_and_validate(
        headers={"Authorization": f"Bearer {world[scheme]}"}, checks=list(CHECKS.get_all())
    )
    for secret in (rival.name, "+12125550999"):
        assert secret not in response.text
    return response


def run(label, world, rival, *, examples):
    strategy = OPERATIONS[label].as_strategy()

    @settings(max_examples=examples, **QUIET)
    @given(case=strategy)
    def answers_as_documented(case):
        check(case, world, rival)

    answers_as_documented()


@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented(label, world, rival):
    run(label, world, rival, examples=EXAMPLES["fast"])


@pytest.mark.slow
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented_in_full(label, world, rival):
    run(label, world, rival, examples=EXAMPLES["full"])
