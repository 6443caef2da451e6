"""What the tests by schemathesis share: the document, two organizations in one world, and what is checked."""

import re
from contextlib import contextmanager
from functools import cache
from types import SimpleNamespace

import pytest
import schemathesis
from django.apps import apps
from django.core.signals import request_finished, request_started
from django.core.wsgi import get_wsgi_application
from django.db import close_old_connections, connection, transaction
from django.utils import timezone
from hypothesis import HealthCheck, Phase
from schemathesis.checks import CHECKS
from schemathesis.core.parameters import ParameterLocation
from schemathesis.specs.openapi.checks import (
    ignored_auth,
    positive_data_acceptance,
    use_after_free,
)

from chirp_dashboard.api import door
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import ApiKey, Application

from ..numbers.conftest import in_stock
from .conftest import make_key

QUIET = {
    "deadline": None, "suppress_health_check": list(HealthCheck), "derandomize": True,
    "database": None, "phases": (Phase.explicit, Phase.generate),
}  # fmt: skip
"""The same examples every time, so that a failure is one of the code that was changed."""

MARKS = [
    pytest.mark.django_db,
    pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::pytest.PytestWarning"),
]
RIVAL_NUMBER = "+12125550999"
IDS = re.compile(r"\b[a-z_]+_(?:test_)?[0-9A-Za-z]{27}\b|\bchg_[0-9]+")
SCHEMA = schemathesis.openapi.from_wsgi("/v1/openapi.json", get_wsgi_application())
OPERATIONS = {result.ok().label: result.ok() for result in SCHEMA.get_all_operations()}


class Trespass(AssertionError):
    """One organization saw or changed what is another's."""


@pytest.fixture
def world(
    organization, rival, owner, storefront, alerts, rival_application, purchase, stock, monkeypatch
):
    """Two organizations with a number each, numbers for sale, and keys of both; no limit in the way."""
    monkeypatch.setattr(door, "PER_MINUTE", {"general": 10**9, "management": 10**9})
    for signal in (request_started, request_finished):  # as Django's own test client does
        signal.disconnect(close_old_connections)
    at = timezone.now()
    purchase(stock[0], application=storefront, at=at)
    for digit in range(7):
        in_stock(f"+1212555017{digit}")
    theirs = Application.objects.add(
        rival, name="Trial", slug="trial", kind=Application.Kind.TEST, by=owner, at=at
    )
    PhoneNumber.objects.add_test(theirs, RIVAL_NUMBER, number_type="local", by=owner, at=at)
    yield {
        each.slug: SimpleNamespace(
            organization=each,
            ids=[*ids_of(each)],
            AdminKey=make_key(each, owner).secret,
            AppKey=make_key(each, owner, application).secret,
        )
        for each, application in ((organization, storefront), (rival, rival_application))
    }
    for signal in (request_started, request_finished):
        signal.connect(close_old_connections)


def ids_of(organization):
    """The public ids of what `organization` has, in a fixed order."""
    for model in (Application, PhoneNumber, ApiKey):
        owned = model._base_manager.filter(organization=organization).order_by("pk")
        yield from owned.values_list("public_id", flat=True)


@contextmanager
def forgotten():
    """What happens inside is rolled back, so that every example begins alike."""
    with transaction.atomic():
        yield
        transaction.set_rollback(True)


@cache
def owned_tables():
    """The tables that know whose their rows are."""
    return [
        model._meta.db_table
        for model in apps.get_models()
        if any(field.name == "organization" for field in model._meta.concrete_fields)
    ]


def belongings():
    """What each organization has: `{(its id, table): fingerprint of all its rows}`, but for when a key was seen."""
    rows = " UNION ALL ".join(
        f"SELECT '{table}', organization_id, md5(string_agg(facts, ',' ORDER BY facts)) FROM"
        f" (SELECT organization_id, (to_jsonb(each) - 'used_at')::text AS facts FROM {table} each)"
        " AS rows GROUP BY organization_id"
        for table in owned_tables()
    )
    with connection.cursor() as cursor:
        cursor.execute(rows)
        return {(owner, table): print_ for table, owner, print_ in cursor.fetchall()}


def belongings_of(organization):
    return {
        table: print_ for (owner, table), print_ in belongings().items() if owner == organization.pk
    }


def scheme_of(operation):
    """The kind of key that `operation` takes."""
    (scheme,) = operation.definition.raw["security"][0]
    return scheme


def headers_for(case, secret):
    # Schemathesis reads bodies as they are; what is gzipped it takes for broken text.
    headers = {"Accept-Encoding": "identity"}
    if case.meta and case.meta.is_negative_at(ParameterLocation.HEADER):
        scenario = getattr(case.meta.phase.data, "scenario", None)
        if scenario is None or scenario == "missing_parameter":  # such as by taking the key away
            return headers
    return headers | {"Authorization": f"Bearer {secret}"}


def send(case, secret):
    """The answer to `case` with the key `secret`, and the headers it was sent with."""
    headers = headers_for(case, secret)
    return case.call(headers=headers), headers


CONFIRMED = set()
"""Operations that were seen to refuse strangers; once is enough, as schemathesis itself says."""


STAYING = {
    "GET /v1/organization/phone-numbers/{phoneNumberId}",
    "GET /v1/organization/phone-numbers/{phoneNumberId}/timeline",
}
"""A number that was released can be looked at for ever, and be had back for 14 days."""


def checks_for(response, case):
    """All of them, but where what is asked contradicts something that only words can say."""
    checks = list(CHECKS.get_all())
    if said_in_words(response, case):
        checks.remove(positive_data_acceptance)
    if case.operation.label in STAYING:
        checks.remove(use_after_free)
    if case.operation.label in CONFIRMED:
        checks.remove(ignored_auth)
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
    if error.get("code") == "phone_number_not_assigned":
        return True
    wrong = error.get("param", "")
    label = case.operation.label
    return (
        (wrong == "end_date" and "/billing/" in label)  # before start_date
        or (wrong in {"contains", "endsWith"} and len({"startsWith", wrong} & {*sent}) > 0)
        or (wrong in {"expectedTotal", "lines"} and label.endswith("/orders"))
        or (wrong == "slug" and sent.get("slug") == "create")
        or (wrong in {"url", "headers"} and "webhooks" in label)  # not public; ours to set
    )


def validate(case, response, headers, **options):
    """Every check of schemathesis, and the shape of whatever is refused."""
    case.validate_response(
        response,
        headers=headers,
        checks=checks_for(response, case),
        transport_kwargs={"headers": headers},
        **options,
    )
    if response.status_code < 300 and "Authorization" in headers:
        CONFIRMED.add(case.operation.label)
    if response.status_code >= 400:
        check_shape(response)


def check_shape(response):
    """Is it the one shape that errors have?"""
    body = response.json()
    assert set(body) == {"error"}, body
    assert {"type", "message"} <= set(body["error"]) <= {"type", "message", "code", "param"}, body
    assert all(isinstance(value, str) and value for value in body["error"].values()), body
