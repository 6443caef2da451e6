"""Whatever is sent that the document allows, or does not: the answer is one the document promises."""

from contextlib import contextmanager

import pytest
import schemathesis
from django.apps import apps
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import positive_data_acceptance

from chirp_dashboard.api import door
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import Application

from ..numbers.conftest import prices, purchase, stock
from .conftest import make_key

__all__ = ["prices", "purchase", "stock"]

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestWarning"),
]
MODES = {mode.value: mode for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)}
QUIET = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True,
    "database": None, "phases": (Phase.explicit, Phase.generate),
}  # fmt: skip
RIVAL_NUMBER = "+12125550999"


@pytest.fixture
def world(
    organization, rival, owner, storefront, alerts, rival_application, purchase, stock, monkeypatch
):
    """Two organizations with a number each, and keys of both; no limit in the way."""
    monkeypatch.setattr(door, "PER_MINUTE", {"general": 10**9, "management": 10**9})
    for signal in (request_started, request_finished):  # as Django's own test client does
        signal.disconnect(close_old_connections)
    purchase(stock[0], application=storefront)
    at = timezone.now()
    theirs = Application.objects.add(
        rival, name="Trial", slug="trial", kind=Application.Kind.TEST, by=owner, at=at
    )
    PhoneNumber.objects.add_test(theirs, RIVAL_NUMBER, number_type="local", by=owner, at=at)
    yield {
        "AdminKey": make_key(organization, owner).secret,
        "AppKey": make_key(organization, owner, storefront).secret,
        "rival": make_key(rival, owner).secret,
    }
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


@contextmanager
def forgotten():
    """What happens inside is rolled back, so that every example begins alike."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


def belongings(organization):
    """Every row of `organization`, of every table that knows whose its rows are."""
    return {
        model._meta.label: list(
            model._base_manager.filter(organization=organization).order_by("pk").values()
        )
        for model in apps.get_models()
        if any(field.name == "organization" for field in model._meta.concrete_fields)
    }


SCHEMA = schemathesis.openapi.from_wsgi("/v1/openapi.json", get_wsgi_application())
OPERATIONS = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}


def key_for(case, world):
    # Schemathesis reads bodies as they are; what is gzipped it takes for broken text.
    headers = {"Accept-Encoding": "identity"}
    if case.meta.is_negative_at(ParameterLocation.HEADER):  # such as by taking the key away
        return headers
    (scheme,) = case.operation.definition.raw["security"][0]
    return headers | {"Authorization": f"Bearer {world[scheme]}"}


def checks_for(response, case):
    """All of them, but where what is asked contradicts something that only words can say."""
    checks = list(CHECKS.get_all())
    if said_in_words(response, case):
        checks.remove(positive_data_acceptance)
    return checks


def said_in_words(response, case):
    """Is a request refused that fits the document's schemas, for a reason it gives in its texts?

    Schemathesis itself accepts 401, 403, 404, 409 and 429; these depend on the state just like them, or
    on two fields at once.
    """
    sent = {**(case.body if isinstance(case.body, dict) else {}), **(case.query or {})}
    headers = {name.lower() for name in case.headers or {}}
    if response.status_code != 400:
        return (
            (response.status_code == 402 and case.method == "POST")
            or (response.status_code == 412 and "if-match" in headers)
            or (response.status_code == 422 and "idempotency-key" in headers)
        )
    error = response.json()["error"]
    wrong = error.get("param", "")
    label = case.operation.label
    return (
        (wrong == "end_date" and "/billing/" in label)  # before start_date
        or error.get("code") == "phone_number_not_assigned"  # a 400, as at Chirp
        or (wrong in {"contains", "endsWith"} and len({"startsWith", wrong} & {*sent}) > 0)
        or (wrong in {"expectedTotal", "lines"} and label.endswith("/orders"))
        or (wrong == "numberType" and label.endswith("/purchase"))  # not of the number
        or (wrong == "slug" and sent.get("slug") == "create")
        or (wrong in {"url", "headers"} and "webhooks" in label)  # not public; ours to set
    )


def check(case, world, rival):
    """Call and validate; nothing of the other organization may stand in the answer."""
    headers = key_for(case, world)
    response = case.call(headers=headers)
    case.validate_response(
        response,
        headers=headers,
        checks=checks_for(response, case),
        transport_kwargs={"headers": headers},
    )
    assert rival.name not in response.text
    assert RIVAL_NUMBER not in response.text
    return response


def run(label, world, rival, *, mode, examples):
    before = belongings(rival)

    @settings(max_examples=examples, **QUIET)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def answers_as_documented(case):
        with forgotten():
            response = check(case, world, rival)
            if response.status_code < 400 and case.method != "GET":
                assert check_books(at=timezone.now()) == []
                assert belongings(rival) == before

    answers_as_documented()


def takes_something(operation):
    """Can anything wrong be sent to it?"""
    return bool(operation.body or operation.query.items or operation.path_parameters.items)


def labels(mode):
    return [
        label
        for label, operation in OPERATIONS.items()
        if mode is GenerationMode.POSITIVE or takes_something(operation)
    ]


@pytest.mark.parametrize("mode", MODES)
def test_every_answer_is_as_documented(mode, world, rival):
    for label in labels(MODES[mode]):
        run(label, world, rival, mode=MODES[mode], examples=6)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented_in_full(label, mode, world, rival):
    if label in labels(MODES[mode]):
        run(label, world, rival, mode=MODES[mode], examples=100)
