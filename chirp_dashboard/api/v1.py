"""The API itself: its routers, what becomes of what they raise, and its description."""

import json
import re
from functools import cache

from django.contrib.auth.decorators import login_not_required
from django.core.exceptions import PermissionDenied, RequestDataTooBig
from django.http import Http404, HttpResponse
from django.shortcuts import render
from django.urls import path, re_path
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET
from ninja import NinjaAPI
from ninja.errors import AuthenticationError, HttpError, ValidationError
from pydantic.alias_generators import to_camel

from chirp_dashboard.billing.models.books import CreditLimitReached, PurchasesStopped
from chirp_dashboard.numbers.models.orders import CardNeeded, IdempotencyConflict
from chirp_dashboard.numbers.models.testing import TestNumberGone, TestPaymentRefused
from chirp_dashboard.organizations.refusals import Refused

from .description import describe
from .door import door
from .errors import MESSAGES, ApiError, answer, answer_to, answer_to_input
from .routers import applications, billing, numbers, purchasing, webhooks


class V1(NinjaAPI):
    def get_openapi_operation_id(self, operation):
        """The verb of the code, as a generated client will call it: `createApp`."""
        return to_camel(operation.view_func.__name__)

    def get_content_type(self):
        """As errors have it, and answers that are written by hand: JSON is UTF-8 without saying so."""
        return self.renderer.media_type


api = V1(
    title="Phone numbers",
    version="1",
    description="Everything the dashboard does, for programs.",
    docs_url=None,
    openapi_url=None,
    urls_namespace="v1",
)
api.add_router("/", numbers.router)
api.add_router("/organization", applications.router)
api.add_router("/organization", purchasing.router)
api.add_router("/organization/billing", billing.router)
api.add_router("/", webhooks.own)
api.add_router("/organization", webhooks.named)


@api.exception_handler(ApiError)
def on_api_error(request, error):
    return answer_to(error)


@api.exception_handler(AuthenticationError)
def on_wrong_key(request, error):
    return answer(401)


@api.exception_handler(ValidationError)
def on_bad_input(request, error):
    return answer_to_input(error.errors[0])


@api.exception_handler(HttpError)
def on_http_error(request, error):
    return answer(error.status_code)


@api.exception_handler(Http404)
def on_nothing_there(request, error):
    return answer(404)


@api.exception_handler(PermissionDenied)
def on_denied(request, error):
    return answer(403)


@api.exception_handler(RequestDataTooBig)
def on_too_big(request, error):
    return answer(413)


@api.exception_handler(CreditLimitReached)
@api.exception_handler(PurchasesStopped)
@api.exception_handler(CardNeeded)
@api.exception_handler(TestPaymentRefused)
def on_no_money(request, error):
    return answer(402, str(error), code="payment_required")


@api.exception_handler(TestNumberGone)
def on_gone(request, error):
    return answer(409, str(error), code="number_unavailable", param="phoneNumber")


@api.exception_handler(IdempotencyConflict)
def on_other_order(request, error):
    return answer(422, MESSAGES[422], code="idempotency_conflict", param="Idempotency-Key")


@api.exception_handler(Refused)
def on_refusal(request, error):
    return answer(409, str(error))


# Addresses ------------------------------------------------------------------------------------


@csrf_exempt
@login_not_required
def nothing_here(request, rest=""):
    return answer(404)


@cache
def document():
    """The document as it is sent: it changes with the code alone."""
    return json.dumps(describe(api))


@csrf_exempt
@require_GET
@login_not_required
def openapi(request):
    return HttpResponse(document(), content_type="application/json")


@csrf_exempt
@require_GET
@login_not_required
def reference(request):
    """The document to read and to try out, drawn by what comes with the API's framework."""
    return render(request, "api/reference.html")


def parameters():
    """What may stand behind the ? of each address, by method: `{"/v1/…": {"GET": {"limit", …}}}`."""
    return {
        path: {
            method.upper(): {
                each["name"] for each in operation.get("parameters", []) if each["in"] == "query"
            }
            for method, operation in operations.items()
        }
        for path, operations in api.get_openapi_schema(path_prefix="/v1/")["paths"].items()
    }


def strict(view, known):
    """Refuse what `view` does not read: a mistyped filter must not find everything.

    An `offset` too, where there is only a cursor: it would give the first page for ever. The older lists,
    those of keys, read it. A NUL, which the database does not even compare, is in the name of nothing.
    """

    def only_known(request, *args, **kwargs):
        if any("\0" in f"{name}" for name in kwargs.values()):
            return answer(404)
        read = known.get(request.method)
        for name in request.GET if read is not None else ():
            if name not in read:
                return answer(400, "There is no such parameter.", param=name)
        return view(request, *args, **kwargs)

    return only_known


def guarded():
    """The addresses of the API, each behind the door."""
    patterns, known = api.urls[0], parameters()
    for pattern in patterns:
        if pattern.name != "api-root":
            path = "/v1/" + re.sub(r"<(\w+)>", r"{\1}", f"{pattern.pattern}")
            pattern.callback = door(strict(pattern.callback, known[path]))
    return [pattern for pattern in patterns if pattern.name != "api-root"]


urlpatterns = [
    path("openapi.json", openapi, name="openapi"),
    path("docs", reference, name="reference"),
    *guarded(),
    re_path(r"^(?P<rest>.*)$", nothing_here, name="nothing"),
]
app_name = "v1"
