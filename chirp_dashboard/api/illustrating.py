"""Examples and meanings for the OpenAPI document, put together from its schemas and the glossary."""

import json
import re

from .glossary import ANSWERS, GLOSSARY

JSON = "application/json"
SCHEMAS = "#/components/schemas/"
REFERENCE = re.compile(f'"{SCHEMAS}(\\w+)"')


def illustrate(document):
    """Say of every field and parameter what it means, and of every body what one looks like."""
    schemas = document["components"]["schemas"]
    leave_out_unused(document)
    for name, schema in schemas.items():
        for field, facts in schema.get("properties", {}).items():
            explain(facts, name, field)
    for operations in document["paths"].values():
        for operation in operations.values():
            for parameter in operation["parameters"]:
                explain_parameter(parameter, operation["operationId"])
            show(operation, schemas)


def meaning_of(owner, field):
    return GLOSSARY.get(f"{owner}.{field}") or GLOSSARY.get(field) or ("", None)


def explain(facts, owner, field):
    meaning, example = meaning_of(owner, field)
    facts.pop("title", None)
    facts.setdefault("description", meaning)
    if "$ref" not in facts and not is_list_of_objects(facts):
        facts.setdefault("examples", [example])


def is_list_of_objects(facts):
    return "$ref" in facts.get("items", {})


def explain_parameter(parameter, operation):
    """Its meaning, with an example in words: one of its own would be filled in when it is tried out."""
    schema = parameter["schema"] = without_null(parameter["schema"])
    meaning, example = meaning_of(operation, parameter["name"])
    said = parameter.get("description") or schema.get("description") or meaning
    parameter.pop("examples", None)
    (example,) = schema.pop("examples", [example])
    schema.pop("title", None)
    schema.pop("description", None)
    if parameter["in"] == "path":
        parameter["example"] = example
    elif example is not None and "default" not in schema:
        said = f"{said} Such as `{example}`."
    parameter["description"] = said


def without_null(schema):
    """`schema` of what may be left out of an address; null cannot stand there."""
    if "anyOf" not in schema:
        return schema
    given, _ = schema["anyOf"]
    return {name: facts for name, facts in schema.items() if name != "anyOf"} | given


def show(operation, schemas):
    """Give every body of `operation` that is described by a schema an example of it."""
    bodies = [("", operation.get("requestBody", {})), *operation["responses"].items()]
    for status, body in bodies:
        content = body.get("content", {}).get(JSON, {})
        if content and "example" not in content:
            example = example_of(content["schema"], schemas)
            changes = ANSWERS.get((operation["operationId"], f"{status}"), {})
            content["example"] = merged(example, changes)


def example_of(facts, schemas):
    """What `facts` describe, from the examples of its fields."""
    if "examples" in facts:
        return facts["examples"][0]
    if "$ref" in facts:
        schema = schemas[facts["$ref"].removeprefix(SCHEMAS)]
        return {field: example_of(each, schemas) for field, each in schema["properties"].items()}
    return [example_of(facts["items"], schemas)]


def merged(example, changes):
    """`example` with `changes`; those of a list are made to each of its objects."""
    if not isinstance(changes, dict):
        return changes
    result = dict(example)
    for field, change in changes.items():
        if isinstance(change, list):
            result[field] = [merged(each, change[0]) for each in example[field]]
        else:
            result[field] = merged(example[field], change)
    return result


def leave_out_unused(document):
    """Drop the schemas that only parameters were made from; they stand in the parameters."""
    schemas = document["components"]["schemas"]
    while unused := set(schemas) - set(REFERENCE.findall(json.dumps(document))):
        for name in unused:
            del schemas[name]
