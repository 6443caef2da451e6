"""The OpenAPI document: what the code says of itself, and what the door adds to every operation."""

from django.conf import settings

from .errors import body_of
from .illustrating import SCHEMAS, illustrate
from .links import add_links
from .schemas import Error
from .tags import VERSIONS

JSON = "application/json"
ERRORS = {
    400: "The request makes no sense; `param` names the field.",
    401: "The key is missing, unknown, revoked or of the wrong kind.",
    402: "The payment was refused, or the credit is short. Nothing was purchased.",
    404: "Your organization has no such thing.",
    405: "The address does not take that method.",
    409: "It changed meanwhile, exists already, or is being worked under the same Idempotency-Key.",
    412: "It was changed since the version that If-Match names.",
    413: "The body is too large.",
    415: "The body is not JSON.",
    422: "The Idempotency-Key was used for another request.",
    429: "Too many requests; `Retry-After` says when to come again.",
    500: "Something failed on our side.",
}
EVERYWHERE = (400, 401, 405, 429, 500)
IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": "^[!-~]+$"},
    "description": "Repeats with the same key within 24 hours get the first answer. Keys and secrets "
    "in it are shown by their ends only; an order is never placed twice under one key.",
}
IF_MATCH = {
    "name": "If-Match",
    "in": "header",
    "required": False,
    "schema": {"type": "string", "pattern": f"^({VERSIONS.pattern})$"},
    "description": "The ETag of the version to change.",
}
LIMITS = {
    "X-RateLimit-Limit": "Requests a minute.",
    "X-RateLimit-Remaining": "How many are left of this minute.",
    "X-RateLimit-Reset": "When the next minute begins, in Unix seconds.",
}
NOT_SETTLED = {
    "Location": "The address of the order.",
    "Retry-After": "In how many seconds to look again.",
}
EXAMPLES = {
    400: {"message": "This is missing.", "param": "name"},
    402: {
        "message": "The payment was declined. Nothing was purchased.",
        "code": "payment_required",
    },
    404: {"message": "There is no such application.", "param": "appId"},
    409: {
        "message": "+12125550142 is already assigned to Storefront.",
        "code": "resource_already_exists",
        "param": "phoneNumberId",
    },
    422: {"code": "idempotency_conflict", "param": "Idempotency-Key"},
}
OF_ERRORS = {
    401: {"WWW-Authenticate": "Bearer."},
    405: {"Allow": "The methods the address takes."},
    429: LIMITS | {"Retry-After": "In how many seconds to come again."},
}
ETAG = {"description": "The version, for If-Match.", "schema": {"type": "string"}}
TAGGED = {
    "getApp", "renameApp", "getNumber", "setApps", "cancelRelease", "undoRelease", "getWebhook",
    "changeWebhook", "getWebhookOfApp", "changeWebhookOfApp",
}  # fmt: skip
"""The operations that answer with the version of what they show."""
NEEDED = {"AppKey": "an app key", "AdminKey": "an admin key"}
TAGS = {
    "Phone numbers": "What the organization has: to which apps a number belongs, and giving it back.",
    "Purchasing": "Numbers for sale, quotes, orders.",
    "Apps": "The applications of the organization.",
    "Keys": "Keys of applications and of the organization. A key is shown once.",
    "Webhooks": "Where an application hears of its numbers.",
    "Billing": "What was charged, by day and by application. In snake_case, unlike the rest.",
}
KEYS = {
    "AppKey": "A key of one application: `sk_live_app_…` or `sk_test_app_…`.",
    "AdminKey": "A key of the whole organization: `sk_admin_…`.",
}
ABOUT = """Everything the dashboard does, for programs.

**Keys.** `Authorization: Bearer <key>`. An app key (`sk_live_app_…`, `sk_test_app_…`) works for one
application, an admin key (`sk_admin_…`) for the whole organization. Make them in the dashboard, under
Application → Keys and Settings → Admin keys.

**Money** is an integer in the minor unit (cents) beside its currency; under `/billing` a decimal string.

**Pages.** `limit` and `cursor`; `nextCursor` is null on the last page.

**Errors** have one shape: `{"error": {"type", "message", "code", "param"}}`.

**Limits.** 120 requests a minute and key; 60 for applications, keys and webhooks.

**Repeats.** Send an `Idempotency-Key` with every POST, and a repeat after a lost answer does nothing twice:
it gets the first answer again, with `Idempotent-Replayed: true`. While the first is being worked: 409 with
`Retry-After`. A new key or signing secret is told once, also here: where the answer that told it was lost,
the repeat names what was made and shows the end of its secret; remove that one and make another.

**Orders** are usually settled when they are answered. One that is not is answered with 202 after 10 seconds
at most; `Location` is where it can be looked at.
"""


def describe(api):
    """The document as it is served."""
    document = api.get_openapi_schema(path_prefix="/v1/")
    document["openapi"] = "3.1.0"
    document["info"]["description"] = ABOUT
    document["servers"] = [{"url": settings.BASE_URL or "/"}]
    document["tags"] = [{"name": name, "description": words} for name, words in TAGS.items()]
    document["components"]["schemas"] |= schemas_of(Error)
    for name, words in KEYS.items():
        document["components"]["securitySchemes"][name]["description"] = words
    for path, operations in document["paths"].items():
        for method, operation in operations.items():
            complete(operation, method, path)
    add_links(document)
    illustrate(document)
    return document


def schemas_of(model):
    """`model` and what it is made of, which no operation names as its answer."""
    described = model.model_json_schema(ref_template=f"{SCHEMAS}{{model}}")
    return described.pop("$defs") | {model.__name__: described}


def complete(operation, method, path):
    """Add to `operation` what the door does to every request."""
    (scheme,) = operation["security"][0]
    said = operation.get("description", "")
    operation["description"] = f"{said}\n\nWith {NEEDED[scheme]}.".strip()
    parameters = operation.setdefault("parameters", [])
    if method == "post":
        parameters.append(IDEMPOTENCY_KEY)
    if method == "put":
        parameters.append(IF_MATCH)
    for status, response in operation["responses"].items():
        response["headers"] = {
            name: {"description": words, "schema": {"type": "string"}}
            for name, words in (LIMITS | (NOT_SETTLED if f"{status}" == "202" else {})).items()
        }
    if operation["operationId"] in TAGGED:
        operation["responses"][200]["headers"]["ETag"] = ETAG
    for status in statuses(operation, method, path):
        operation["responses"].setdefault(f"{status}", error(status))


def statuses(operation, method, path):
    yield from EVERYWHERE
    if "{" in path or method != "get" or path.endswith(("/app-keys", "/summary")):
        yield 404
    if method != "get":
        yield 409
    if "requestBody" in operation:
        yield from (413, 415)
    if method == "post":
        yield 422
    if method == "put":
        yield 412
    if method == "post" and path.endswith(("/orders", "/purchase", "/undo-release")):
        yield 402


def error(status):
    return {
        "description": ERRORS[status],
        "headers": {
            name: {"description": words, "schema": {"type": "string"}}
            for name, words in OF_ERRORS.get(status, {}).items()
        },
        "content": {
            JSON: {
                "schema": {"$ref": f"{SCHEMAS}Error"},
                "example": body_of(status, **EXAMPLES.get(status, {})),
            }
        },
    }
