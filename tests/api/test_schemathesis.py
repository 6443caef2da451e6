"""Whatever is sent that the document allows, or does not: the answer is one the document promises."""

import pytest
from django.utils import timezone
from hypothesis import given, settings
from schemathesis import GenerationMode

from chirp_dashboard.numbers.books import check_books

from ..numbers.conftest import prices, purchase, stock
from .probing import (
    MARKS,
    OPERATIONS,
    QUIET,
    RIVAL_NUMBER,
    SCHEMA,
    belongings_of,
    forgotten,
    scheme_of,
    send,
    validate,
    world,
)

__all__ = ["prices", "purchase", "stock", "world"]

MODES = {mode.value: mode for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)}

pytestmark = MARKS


def check(case, world, rival):
    """Call and validate; nothing of the other organization may stand in the answer."""
    secret = getattr(world["northwind"], scheme_of(case.operation))
    response, headers = send(case, secret)
    validate(case, response, headers)
    assert rival.name not in response.text
    assert RIVAL_NUMBER not in response.text
    return response


def run(label, world, rival, *, mode, examples):
    before = belongings_of(rival)

    @settings(max_examples=examples, **QUIET)
    @given(case=OPERATIONS[label].as_strategy(generation_mode=mode))
    def answers_as_documented(case):
        with forgotten():
            response = check(case, world, rival)
            if response.status_code < 400 and case.method != "GET":
                assert check_books(at=timezone.now()) == []
                assert belongings_of(rival) == before

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
        run(label, world, rival, mode=MODES[mode], examples=4)


@pytest.mark.slow
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("label", OPERATIONS)
def test_every_answer_is_as_documented_in_full(label, mode, world, rival):
    if label in labels(MODES[mode]):
        run(label, world, rival, mode=MODES[mode], examples=100)


# Edges ----------------------------------------------------------------------------------------


def edges(operation):
    """What schemathesis tries at the edges of `operation`: the bounds of every value and what lies beyond
    them, every type, what is missing or too much, other methods, other content types.
    """
    SCHEMA.coverage_unexpected_methods_seen.clear()
    return SCHEMA.iter_coverage_cases(
        operation,
        generation_modes=[*MODES.values()],
        generation_config=SCHEMA.config.generation_for(operation=operation, phase="coverage"),
    )


def kind_of(case):
    """Edges of one kind differ in the value only."""
    about = case.meta.phase.data
    return about.scenario, about.parameter_location, about.parameter


def one_of_each_kind(cases):
    return {kind_of(case): case for case in cases}.values()


def try_edges(cases, world, rival):
    """Which statuses the edges of each scenario were answered with."""
    answers = {}
    for case in cases:
        with forgotten():
            response = check(case, world, rival)
        answers.setdefault(case.meta.phase.data.scenario, set()).add(response.status_code)
    return answers


def check_edges(answers):
    assert answers["unspecified_http_method"] == {405}
    assert answers["unsupported_content_type"] == {415}
    assert answers["missing_parameter"] <= {400, 401}
    for scenario in (
        "value_above_maximum",
        "string_above_max_length",
        "object_missing_required_property",
    ):
        assert answers[scenario] == {400}


def test_every_kind_of_edge_is_answered_as_documented(world, rival):
    cases = [
        case for operation in OPERATIONS.values() for case in one_of_each_kind(edges(operation))
    ]
    check_edges(try_edges(cases, world, rival))


@pytest.mark.slow
def test_every_edge_is_answered_as_documented(world, rival):
    cases = [case for operation in OPERATIONS.values() for case in edges(operation)]
    assert len(cases) > 1_000
    check_edges(try_edges(cases, world, rival))
