"""Programs of two organizations at work in one world: each gets what the document promises, and its own.

Schemathesis walks the links of the document: from an answer to the calls that take what stands in it.
Before every call that names something, a key of the other organization makes the same call.
"""

import zlib
from collections import Counter
from contextlib import contextmanager

import pytest
from django.db import transaction
from django.utils import timezone
from hypothesis import seed, settings
from hypothesis.errors import FlakyStrategyDefinition
from schemathesis.core.failures import FailureGroup
from schemathesis.core.parameters import ParameterLocation
from schemathesis.generation.stateful.state_machine import StepOutput

from chirp_dashboard.api.errors import ApiError
from chirp_dashboard.api.routers import applications, numbers, purchasing, webhooks
from chirp_dashboard.numbers.books import check_books
from chirp_dashboard.numbers.models import InventoryNumber, PhoneNumber
from chirp_dashboard.organizations.models import ApiKey, Application

from ..numbers.conftest import prices, purchase, stock
from .conftest import make_key
from .probing import (
    IDS,
    MARKS,
    OPERATIONS,
    QUIET,
    SCHEMA,
    Trespass,
    belongings,
    scheme_of,
    send,
    validate,
    world,
)

__all__ = ["prices", "purchase", "stock", "world"]

pytestmark = MARKS
OTHER = {"northwind": "rival", "rival": "northwind"}
BEGINNING = {
    "appId": "app_", "phoneNumberId": "ph_", "orderId": "ord_", "keyId": "key_", "webhookId": "whk_",
    "recordId": "chg_",
}  # fmt: skip


class Programs(SCHEMA.as_state_machine()):
    """What was done by whom, and that nobody else noticed."""

    world = by = answers = broken = None

    def setup(self):
        self.rollback = transaction.atomic()
        self.rollback.__enter__()
        self.keys = {name: vars(party) | {} for name, party in self.world.items()}
        self.rows = belongings()
        self.ids = {name: dict.fromkeys(party.ids) for name, party in self.world.items()}
        self.actors, self.steps = {}, 0

    def teardown(self):
        try:
            if not self.broken:
                with self.remembered():
                    self.check_untouched(*self.world)
                    assert check_books(at=timezone.now()) == []
        finally:
            transaction.set_rollback(True)
            self.rollback.__exit__(None, None, None)

    # A step ----------------------------------------------------------------------------------

    def step(self, input):
        with self.remembered():
            return self.take(input)

    @contextmanager
    def remembered(self):
        """Keep what went wrong first: of its repeat, with other ids, Hypothesis would say that it is flaky."""
        try:
            yield
        except Exception as error:
            self.broken.append(error)
            raise

    def take(self, input):
        self.steps += 1
        case, actor = input.case, self.actor_of(input)
        self.actors[case.id] = actor
        self.fill(case, actor)
        tried = self.trespass(case, OTHER[actor], actor)
        response = self.send(case, actor, recorded=True)
        if tried and response.status_code < 400 and tried != 404:
            raise Trespass(f"{case.operation.label}: {tried}, though the other one's")
        if case.method != "GET":
            self.rows = self.check_untouched(OTHER[actor])
        return StepOutput(response, case)

    def actor_of(self, input):
        """Who got the answer that leads here; to begin with, one after the other."""
        if input.transition:
            return self.actors[input.transition.parent_id]
        return [*OTHER][self.pick(input.case, "actor", 2)]

    def trespass(self, case, actor, owner):
        """Make the call of `owner` as `actor`, who gets nothing by it; the status, if `owner` is named in it."""
        if not self.ids[owner].keys() & named_in(case):
            return None
        response = self.send(case, actor)
        if response.status_code < 400:
            raise Trespass(f"{case.operation.label}: {response.status_code} for the other one's")
        self.check_untouched(owner, actor)
        return response.status_code

    def send(self, case, actor, *, recorded=False):
        """The answer to `case` with a key of `actor`, when it is as documented and tells nothing of others."""
        response, headers = send(case, self.keys[actor][scheme_of(case.operation)])
        if response.status_code == 401 and "Authorization" in headers:
            response, headers = send(case, self.renewed(actor, scheme_of(case.operation)))
        if recorded:
            self.after_call(response, case)
        validate(case, response, headers, recorder=self.recorder if recorded else None)
        found = dict.fromkeys(IDS.findall(response.text))
        if leaked := found.keys() & self.ids[OTHER[actor]].keys():
            raise Trespass(f"{case.operation.label} tells {actor} of {leaked}")
        assert self.world[OTHER[actor]].organization.name not in response.text
        if recorded:
            self.ids[actor] |= found
        self.answers[case.operation.label, response.status_code, recorded] += 1
        return response

    def renewed(self, actor, scheme):
        """Another key, in place of one that was really revoked or whose application was archived."""
        assert ApiKey.objects.with_secret(self.keys[actor][scheme]) is None
        organization, application = self.world[actor].organization, None
        if scheme == "AppKey":
            live = Application.objects.open().filter(organization=organization, kind="live")
            application = live.first() or Application.objects.add(
                organization, name="Next", slug=f"next-{self.steps}", kind="live",
                by=self.by, at=timezone.now(),
            )  # fmt: skip
        self.keys[actor][scheme] = make_key(organization, self.by, application).secret
        self.rows = belongings()
        return self.keys[actor][scheme]

    # What it is about ------------------------------------------------------------------------

    def fill(self, case, actor):
        """Put ids that `actor` has where made-up ones stand, mostly: nothing is ever found by those."""
        for name in case.path_parameters or {}:
            if not self.is_wrong(case, ParameterLocation.PATH):
                case.path_parameters[name] = self.own(case, actor, name, case.path_parameters[name])
        body = case.body if isinstance(case.body, dict) else {}
        if self.is_wrong(case, ParameterLocation.BODY):
            return
        for name in ("appId", "phoneNumberId"):
            if name in body:
                body[name] = self.own(case, actor, name, body[name])
        if "appIds" in body:
            body["appIds"] = [self.own(case, actor, "appId", each) for each in body["appIds"][:3]]
        if "phoneNumber" in body:
            body["phoneNumber"] = self.for_sale(case, body["phoneNumber"])
            body["numberType"] = "local"
        if "lines" in body:
            first = {"phoneNumber": self.for_sale(case, body["lines"][0]["phoneNumber"])}
            body["lines"] = [first]
        if "webhooks" in case.path and "url" in body:
            body["url"] = "https://93.184.216.34/hooks"
            body.pop("headers", None)

    def is_wrong(self, case, location):
        return case.meta.is_negative_at(location)

    def own(self, case, actor, name, value):
        beginning = BEGINNING[name]
        if name == "keyId":
            beginning = "key_app_" if "app-keys" in case.path else "key_admin_"
        mine = [
            each
            for each in self.ids[actor]
            if each.startswith(beginning) and not each.startswith("ph_purch")
        ]
        if value in mine or not mine or self.pick(case, name, 8) == 0:
            return value
        return mine[self.pick(case, name, len(mine))]

    def for_sale(self, case, value):
        offered = InventoryNumber.objects.filter(status="for_sale").order_by("number")
        known = [*offered.values_list("number", flat=True)] or [value]
        return value if value in known else known[self.pick(case, "number", len(known))]

    def pick(self, case, what, many):
        """One of `many`, the same in every run."""
        turn = f"{self.steps} {case.operation.label} {what}"
        return zlib.crc32(turn.encode()) % many

    # What belongs to whom --------------------------------------------------------------------

    def check_untouched(self, *names):
        """Raise Trespass when a row of one of `names` is another than before; else all rows as they are now."""
        now = belongings()
        whose = {self.world[name].organization.pk: name for name in names}
        for (owner, table), _ in now.items() ^ self.rows.items():
            if owner in whose:
                raise Trespass(f"{table} of {whose[owner]} was changed by the other one")
        return now


def named_in(case):
    """The texts in the address and the body of `case`."""
    return set(IDS.findall(f"{case.path_parameters} {case.query} {case.body}"))


@pytest.fixture
def run(world, owner):
    """Let the programs work: `run(scenarios=…, steps=…)` counts their answers by operation, status and whose.

    Every scenario is a run of Hypothesis of its own: what it learnt of one would not fit the next, where
    every id is another.
    """

    def run(*, scenarios, steps):
        facts = {"world": world, "by": owner, "answers": Counter(), "broken": []}
        for scenario in range(scenarios):
            machine = seed(scenario)(type("Run", (Programs,), facts))
            try:
                machine.run(settings=settings(max_examples=2, stateful_step_count=steps, **QUIET))
            except Exception as error:
                if facts["broken"]:
                    raise facts["broken"][0] from None
                if not isinstance(error, FlakyStrategyDefinition):
                    raise
        return facts["answers"]

    return run


def test_every_operation_is_linked():
    assert {*Programs._transitions.operations} == {*OPERATIONS}


def test_programs_of_two_organizations_never_meet(run):
    check_reach(run(scenarios=12, steps=20), tried=15, done=25)


def check_reach(answers, *, tried, done):
    """At least so many operations refused a stranger with 404, and worked for whom they should."""
    refused = {label for label, status, own in answers if not own and status == 404}
    worked = {label for label, status, own in answers if own and status < 300}
    assert len(refused) >= tried
    assert len(worked) >= done


@pytest.mark.slow
def test_programs_of_two_organizations_never_meet_in_full(run):
    check_reach(run(scenarios=80, steps=40), tried=15, done=40)


@pytest.mark.parametrize("lifted", ["numbers", "applications"])
def test_a_missing_filter_is_found(lifted, run, monkeypatch):
    """The control of the test above: without the organization in the query it must fail."""
    if lifted == "numbers":
        monkeypatch.setattr(numbers, "owned", lambda organization: PhoneNumber.objects.live())
    for module in (applications, numbers, purchasing, webhooks):
        if lifted == "applications":
            monkeypatch.setattr(module, "find_app", find_any_app)
    with pytest.raises((Trespass, FailureGroup)):
        run(scenarios=12, steps=20)


def find_any_app(request, appId):
    if application := Application.objects.open().filter(public_id=appId).first():
        return application
    raise ApiError(404)
