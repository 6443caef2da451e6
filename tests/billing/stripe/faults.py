"""What can go wrong between Stripe and us, one fault per call."""

import json
from dataclasses import dataclass, field
from enum import Enum


@dataclass
class Answer:
    status: int
    body: object
    headers: dict = field(default_factory=dict)

    @property
    def content(self):
        return self.body if isinstance(self.body, bytes) else json.dumps(self.body).encode()


def refusal(status, message, *, kind="invalid_request_error", **facts):
    return Answer(status, {"error": {"type": kind, "message": message, **facts}})


class Fault(Enum):
    ANSWER_LOST = "answer lost"  # it was done, and the connection breaks before the answer
    TIME_OUT = "time-out"  # it never arrived: the connection breaks, nothing was done
    SILENCE = "silence"  # nothing was done and nothing is said until the caller gives up
    CONFLICT = "409"  # another request with this key is still running; nothing was done
    TOO_MANY = "429"  # refused at the door, before the key is looked at
    SERVER_ERROR = "500"  # nothing was done, and this key answers 500 from now on
    SERVER_ERROR_AFTER = "500 after effect"  # it was done, and this key answers 500 from now on
    UNAVAILABLE = "503"  # nothing was done
    DECLINE = "decline"  # 402 card_declined, for this key from now on
    AUTHENTICATION_REQUIRED = "authentication required"  # 402, for this key from now on
    GARBAGE = "garbage"  # it was done, and the answer is a page of somebody's proxy


HAS_EFFECT = {Fault.ANSWER_LOST, Fault.SERVER_ERROR_AFTER, Fault.GARBAGE}
BREAKS = {Fault.ANSWER_LOST, Fault.TIME_OUT}

SERVER_ERROR = {
    "error": {"type": "api_error", "message": "An unknown error occurred.", "code": None}
}
ANSWERS = {
    Fault.CONFLICT: (
        409,
        {
            "error": {
                "type": "idempotency_error",
                "code": "idempotency_key_in_use",
                "message": "There is currently another in-progress request using this key.",
            }
        },
    ),
    Fault.TOO_MANY: (
        429,
        {
            "error": {
                "type": "invalid_request_error",
                "code": "rate_limit",
                "message": "Request rate limit exceeded.",
            }
        },
    ),
    Fault.SERVER_ERROR: (500, SERVER_ERROR),
    Fault.SERVER_ERROR_AFTER: (500, SERVER_ERROR),
    Fault.UNAVAILABLE: (503, SERVER_ERROR),
    Fault.DECLINE: (
        402,
        {
            "error": {
                "type": "card_error",
                "code": "card_declined",
                "decline_code": "generic_decline",
                "message": "Your card was declined.",
            }
        },
    ),
    Fault.AUTHENTICATION_REQUIRED: (
        402,
        {
            "error": {
                "type": "card_error",
                "code": "authentication_required",
                "decline_code": "authentication_required",
                "message": "Your card was declined. This transaction requires authentication.",
            }
        },
    ),
}
KEPT_FOR_THE_KEY = {
    Fault.SERVER_ERROR,
    Fault.SERVER_ERROR_AFTER,
    Fault.DECLINE,
    Fault.AUTHENTICATION_REQUIRED,
}
