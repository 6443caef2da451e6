"""What /v1/openapi.json says is complete: meanings, examples that fit, nothing that leads nowhere."""

import json
import re

import jsonschema_rs
import pytest

from chirp_dashboard.api.description import TAGGED
from chirp_dashboard.api.glossary import ANSWERS, GLOSSARY

pytestmark = pytest.mark.django_db
JSON = "application/json"


@pytest.fixture
def document(client):
    return client.get("/v1/openapi.json").json()


def operations(document):
    return {
        operation["operationId"]: operation
        for methods in document["paths"].values()
        for operation in methods.values()
    }


def bodies(document):
    """`(where, content)` of everything that is sent and answered."""
    for name, operation in operations(document).items():
        if "requestBody" in operation:
            yield f"body of {name}", operation["requestBody"]["content"][JSON]
        for status, response in operation["responses"].items():
            yield f"{status} of {name}", response["content"][JSON]


def fits(example, schema, document):
    """Is `example` valid for `schema`, whose references are those of `document`?"""
    whole = schema | {"components": document["components"]}
    return jsonschema_rs.validator_for(whole).is_valid(example)


def test_every_reference_leads_to_a_schema_and_every_schema_is_used(document):
    named = set(re.findall(r'"#/components/schemas/(\w+)"', json.dumps(document)))
    assert named == set(document["components"]["schemas"])


def test_every_field_and_parameter_has_a_meaning(document):
    for name, schema in document["components"]["schemas"].items():
        for field, facts in schema["properties"].items():
            assert facts.get("description"), (name, field)
    for name, operation in operations(document).items():
        assert re.search(r"With an (app|admin) key\.$", operation["description"]), name
        for parameter in operation["parameters"]:
            assert parameter.get("description"), (name, parameter["name"])


def test_every_example_of_a_field_fits_it(document):
    for name, schema in document["components"]["schemas"].items():
        for field, facts in schema["properties"].items():
            for example in facts.get("examples", []):
                assert fits(example, facts, document), (name, field, example)
    for name, operation in operations(document).items():
        for parameter in operation["parameters"]:
            assert "examples" not in parameter  # a list of them is no OpenAPI
            assert ("example" in parameter) == (parameter["in"] == "path")
            said = re.findall(r"Such as `([^`]+)`", parameter["description"])
            for example in [*said, parameter.get("example", parameter["schema"].get("default"))]:
                fitting = example is None or fits(example, parameter["schema"], document)
                assert fitting, (name, parameter)


def test_every_body_has_an_example_that_fits(document):
    for where, content in bodies(document):
        assert fits(content["example"], content["schema"], document), (where, content["example"])


def test_example_that_does_not_fit_is_noticed(document):
    """The negative control of the two tests above."""
    assert not fits({"error": {}}, {"$ref": "#/components/schemas/Error"}, document)


def test_every_key_and_tag_is_explained(document):
    for scheme in document["components"]["securitySchemes"].values():
        assert "sk_" in scheme["description"]
    used = {tag for operation in operations(document).values() for tag in operation["tags"]}
    assert used == {tag["name"] for tag in document["tags"]}


def test_headers_of_answers_are_named(document):
    for name, operation in operations(document).items():
        responses = operation["responses"]
        assert "Retry-After" in responses["429"]["headers"]
        assert "X-RateLimit-Reset" in responses["429"]["headers"]
        assert ("ETag" in responses.get("200", {}).get("headers", {})) == (name in TAGGED)
    assert set(operations(document)) >= TAGGED


def test_glossary_has_no_word_that_nothing_says(document):
    said = {
        f"{name}.{field}"
        for name, schema in document["components"]["schemas"].items()
        for field in schema["properties"]
    } | {
        f"{name}.{parameter['name']}"
        for name, operation in operations(document).items()
        for parameter in operation["parameters"]
    }
    said |= {each.split(".")[1] for each in said}
    assert set(GLOSSARY) <= said
    assert {name for name, _ in ANSWERS} <= set(operations(document))
