"""Errors in the documented shape, whatever went wrong and whoever noticed it."""

import json

from django.http import HttpResponse

TYPES = {
    401: "authentication_error",
    403: "authentication_error",
    402: "provider_error",
    424: "provider_error",
}
MESSAGES = {
    400: "The request could not be read.",
    401: "The API key is missing, unknown, revoked or of the wrong kind.",
    403: "This key may not do that.",
    404: "There is nothing at this address.",
    405: "This address does not take that method.",
    412: "It was changed since you read it.",
    413: "The body is too large.",
    415: "Send JSON, with Content-Type: application/json.",
    422: "This Idempotency-Key was used for another request.",
    429: "Too many requests. Wait until the limit is reset.",
    500: "Something failed on our side. Repeat the request with the same Idempotency-Key.",
    503: "The service is not available at the moment. Try again shortly.",
}  # fmt: skip
CODES = {
    404: "not_found",
    429: "rate_limit_exceeded",
}


WORDS = {
    "missing": "This is missing.",
    "string_type": "Write a text.",
    "string_too_short": "Write at least {min_length} characters.",
    "string_too_long": "Write at most {max_length} characters.",
    "too_short": "Give at least {min_length}.",
    "too_long": "Give at most {max_length}.",
    "list_type": "Write a list.",
    "dict_type": "Write an object.",
    "model_attributes_type": "Write an object.",
    "model_type": "Write an object.",
    "literal_error": "Use {expected}.",
    "greater_than_equal": "Use {ge} or more.",
    "less_than_equal": "Use {le} or less.",
}
"""What is wrong with a value, fit for an end user, by what pydantic calls it."""


class ApiError(Exception):
    """An answer other than success: raised anywhere in an operation."""

    def __init__(self, status, message="", *, code="", param="", headers=None):
        super().__init__(message or MESSAGES[status])
        self.status, self.code, self.param = status, code, param
        self.headers = headers or {}


def type_of(status):
    if status >= 500:
        return "api_error"
    return TYPES.get(status, "invalid_request_error")


def body_of(status, message="", *, code="", param=""):
    """`{"error": {…}}`; `code` and `param` only where there is one."""
    error = {"type": type_of(status), "message": message or MESSAGES.get(status, MESSAGES[400])}
    if code := code or CODES.get(status, ""):
        error["code"] = code
    if param:
        error["param"] = param
    return {"error": error}


def answer(status, message="", *, code="", param="", headers=None):
    """The error as a response."""
    content = json.dumps(body_of(status, message, code=code, param=param), ensure_ascii=False)
    response = HttpResponse(
        content, status=status, content_type="application/json", headers=headers
    )
    if status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response


def answer_to(error):
    return answer(
        error.status, str(error), code=error.code, param=error.param, headers=error.headers
    )


def words_of(problem):
    """What pydantic found, in a sentence."""
    facts = problem.get("ctx", {})
    if problem["type"] == "string_too_short" and facts["min_length"] == 1:
        return "This is empty."
    if words := WORDS.get(problem["type"]):
        return words.format(**facts).replace("'", "")
    said = problem["msg"].removeprefix("Value error, ").rstrip(".")
    return f"{said[:1].upper()}{said[1:]}."


def answer_to_input(problem):
    """The error of a field, which pydantic found."""
    place = place_of(problem["loc"])
    is_number = place.rpartition(".")[2] == "phoneNumber" and problem["type"] != "missing"
    return answer(400, words_of(problem), code="invalid_phone_number" * is_number, param=place)


def place_of(location):
    """`["body", "payload", "to", 0]` as the documentation writes it: `to[0]`."""
    words = [
        part
        for part in location
        if part not in {"body", "query", "path", "header", "payload", "[key]"}
    ]
    name = ""
    for word in words:
        name += f"[{word}]" if isinstance(word, int) else f".{word}" if name else f"{word}"
    return name
