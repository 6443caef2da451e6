"""Where an answer leads: the links of the OpenAPI document, from an id in it to whatever takes that id."""

import re

CARRIED = {
    "createApp": {"appId": "/id"},
    "listApps": {"appId": "/apps/0/id"},
    "createAppKey": {"keyId": "/id"},
    "listAppKeys": {"keyId": "/keys/0/id"},
    "createAdminKey": {"keyId": "/id"},
    "listAdminKeys": {"keyId": "/keys/0/id"},
    "purchase": {"phoneNumberId": "/phoneNumberId"},
    "placeOrder": {"orderId": "/id"},
    "listOrders": {"orderId": "/orders/0/id"},
    "getOrder": {"phoneNumberId": "/lines/0/phoneNumberId"},
    "listNumbers": {"phoneNumberId": "/phoneNumbers/0/phoneNumberId"},
    "listNumbersOfApp": {"phoneNumberId": "/phoneNumbers/0/phoneNumberId"},
    "getNumber": {"phoneNumberId": "/phoneNumberId", "appId": "/apps/0/appId"},
    "setApps": {"phoneNumberId": "/phoneNumberId", "appId": "/apps/0/appId"},
    "assignToApp": {"phoneNumberId": "/phoneNumberId", "appId": "/appId"},
    "assignToOwnApp": {"phoneNumberId": "/phoneNumberId", "appId": "/appId"},
    "release": {"phoneNumberId": "/phoneNumberId"},
    "createWebhook": {"webhookId": "/id", "appId": "/appId"},
    "listWebhooks": {"webhookId": "/webhooks/0/id", "appId": "/webhooks/0/appId"},
    "createWebhookOfApp": {"webhookId": "/id", "appId": "/appId"},
    "listWebhooksOfApp": {"webhookId": "/webhooks/0/id", "appId": "/webhooks/0/appId"},
    "records": {"recordId": "/records/0/id"},
}
"""Which ids stand where in an answer; the first is what the answer is about."""

SENT = [
    ("available", "200", "placeOrder", {"dryRun": "true"},
     {"lines": [{"phoneNumber": "$response.body#/phoneNumbers/0/number"}]}),
    ("placeOrder", "200", "placeOrder", {},
     {"lines": [{"phoneNumber": "$response.body#/lines/0/number"}],
      "expectedTotal": "$response.body#/total"}),
    ("createApp", "201", "createAppKey", {},
     {"name": "Server", "appId": "$response.body#/id"}),
    ("createApp", "201", "checkSlug", {"slug": "$response.body#/slug"}, None),
    ("records", "200", "summary", {"start_date": "$response.body#/records/0/occurred_at"}, None),
    ("purchase", "201", "assignToOwnApp", {},
     {"phoneNumberId": "$response.body#/phoneNumberId"}),
    ("getOrder", "200", "assignToOwnApp", {},
     {"phoneNumberId": "$response.body#/lines/0/phoneNumberId"}),
    ("listNumbers", "200", "assignToOwnApp", {},
     {"phoneNumberId": "$response.body#/phoneNumbers/0/phoneNumberId"}),
]  # fmt: skip
"""Where more than an id is taken: from what, answered with which status, to what, parameters, body."""

IN_PATH = re.compile(r"\{(\w+)\}")


def add_links(document):
    """Say in `document` how one goes on from each answer."""
    operations = {
        operation["operationId"]: (path, operation)
        for path, methods in document["paths"].items()
        for operation in methods.values()
    }
    for source, carried in CARRIED.items():
        for target in takers(operations, source, carried):
            parameters = {
                name: f"$response.body#{carried[name]}"
                for name in IN_PATH.findall(operations[target][0])
            }
            for status in successes(operations[source][1]):
                add(operations[source][1], status, target, parameters)
    for source, status, target, parameters, body in SENT:
        rest = {"requestBody": body} if body else {}
        add(operations[source][1], status, target, parameters, **rest)
    for name, (path, operation) in operations.items():
        if any(parameter["name"] == "cursor" for parameter in operation["parameters"]):
            cursor = "next_cursor" if "/billing/" in path else "nextCursor"
            add(operation, "200", name, {"cursor": f"$response.body#/{cursor}"})


def takers(operations, source, carried):
    """The operations that take what `source` is about, and nothing that it does not answer."""
    about = next(iter(carried))
    for target, (path, _) in operations.items():
        named = set(IN_PATH.findall(path))
        if target == source or about not in named or not named <= set(carried):
            continue
        if about != "keyId" or path.startswith(operations[source][0]):
            yield target


def successes(operation):
    """The statuses under which `operation` answers with what was asked for; a quote has no id yet."""
    quoted = {"200"} if {"200", "201"} <= set(map(str, operation["responses"])) else set()
    return {
        f"{status}" for status in operation["responses"] if f"{status}".startswith("2")
    } - quoted


def add(operation, status, target, parameters, **rest):
    responses = {f"{code}": response for code, response in operation["responses"].items()}
    links = responses[status].setdefault("links", {})
    links[target] = {"operationId": target, "parameters": parameters, **rest}
