"""The /v1 door: who asks, how often, in which form, and whether it was asked before.

Every operation passes through `door()` before it is worked; everything that leaves, also what Django
itself refuses, leaves through `ApiMiddleware` in the documented shape.
"""

import hashlib
import re
import time
from functools import wraps

from django.db import connection, transaction
from django.http import HttpResponse
from django.utils import timezone

from chirp_dashboard.numbers.models import Order
from chirp_dashboard.organizations.models import ApiKey, Application

from .errors import MESSAGES, answer
from .models import KEPT_FOR, Answer, Window

PER_MINUTE = {"general": 120, "management": 60}
MANAGED = ("/v1/organization/apps", "/v1/organization/app-keys", "/v1/organization/admin-keys", "/v1/webhooks")  # fmt: skip
WITH_BODY = {"POST", "PUT", "PATCH"}
ORDERING = re.compile(r"/v1/organization/(orders|phone-numbers/(?P<app>[^/\0]+)/purchase)")
LONGEST_KEY = 255
IDEMPOTENCY_KEY = re.compile(rf"[!-~]{{1,{LONGEST_KEY}}}")
UNSTORED = {401, 413, 415, 429}
"""Answers that are no outcome of the request: its repeat is worked anew."""
SECRETS = re.compile(rf"((?:{'|'.join(ApiKey.PREFIXES)})|whsec_)[0-9A-Za-z+/=]{{20,}}")


class ApiMiddleware:
    """Answer under /v1 in JSON only, with the limit of the key in the headers."""

    def __init__(self, get_response):
        self.get_response = get_response

    def __call__(self, request):
        if not request.path_info.startswith("/v1/"):
            return self.get_response(request)
        request.limit = None
        response = self.get_response(request)
        if (
            response.status_code >= 400
            and response.headers.get("Content-Type") != "application/json"
        ):
            allow = {"Allow": response.headers["Allow"]} if "Allow" in response.headers else None
            status = response.status_code if response.status_code in MESSAGES else 400
            response = answer(status, headers=allow)
        for name, value in (request.limit or {}).items():
            response.headers[name] = value
        response.headers["Cache-Control"] = "no-store"
        return response


def door(view):
    """Let a request of a known key through to `view`, within its limit, a repeated POST only once."""

    @wraps(view)
    def guarded(request, *args, **kwargs):
        at = timezone.now()
        request.key = key_of(request)
        if request.key is None:
            return answer(401)
        if refusal := count(request, at=at):
            return refusal
        request.key.seen(at=at)
        if request.method in WITH_BODY and has_body(request) and not is_json(request):
            return answer(415)
        if request.method != "POST" or "Idempotency-Key" not in request.headers:
            return view(request, *args, **kwargs)
        return once(request, lambda: view(request, *args, **kwargs), at=at)

    guarded.csrf_exempt = True
    guarded.login_required = False
    return guarded


# Who asks -------------------------------------------------------------------------------------


def key_of(request):
    """The key of the Authorization header, or None; without a query when its checksum fails."""
    scheme, _, secret = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        return None
    return ApiKey.objects.with_secret(secret.strip())


# How often ------------------------------------------------------------------------------------


def count(request, *, at):
    """Count the request; 429 when it is one too many of this minute."""
    bucket = "management" if request.path_info.startswith(MANAGED) else "general"
    limit, minute = PER_MINUTE[bucket], int(at.timestamp() // 60)
    requests = Window.objects.count(request.key, bucket=bucket, minute=minute)
    reset = (minute + 1) * 60
    request.limit = {
        "X-RateLimit-Limit": str(limit),
        "X-RateLimit-Remaining": str(max(0, limit - requests)),
        "X-RateLimit-Reset": str(reset),
    }
    if requests <= limit:
        return None
    return answer(429, headers={"Retry-After": str(max(1, reset - int(time.time())))})


# In which form --------------------------------------------------------------------------------


def has_body(request):
    return (
        request.headers.get("Content-Length", "0") != "0" or "Transfer-Encoding" in request.headers
    )


def is_json(request):
    return request.content_type == "application/json"


# Whether it was asked before ------------------------------------------------------------------


def once(request, work, *, at):
    """Answer by `work()`, or as the first request with the same Idempotency-Key was answered."""
    name = request.headers["Idempotency-Key"]
    if not IDEMPOTENCY_KEY.fullmatch(name):
        return answer(
            400, f"An Idempotency-Key has 1 to {LONGEST_KEY} printable ASCII characters, no spaces.",
            param="Idempotency-Key",
        )  # fmt: skip
    if calls_outside(request):
        return once_with_calls(request, name, work, at=at)
    return once_in_one_transaction(request, name, work, at=at)


def calls_outside(request):
    """May it call a gateway or a carrier? An order may; what a test application purchases never does."""
    ordering = ORDERING.fullmatch(request.path_info)
    if not ordering or not ordering["app"]:
        return bool(ordering)
    trial = Application.objects.filter(public_id=ordering["app"], kind=Application.Kind.TEST)
    return not trial.exists()


def once_in_one_transaction(request, name, work, *, at):
    """What the request does and that it was answered are one transaction, so a crash leaves both or neither.

    Its lock dies with its connection.
    """
    print_ = fingerprint(request)
    with transaction.atomic():
        if not lock(request.key, name):
            return in_progress()
        if given := given_before(request.key, name, at=at):
            return again(given, print_)
        response = work()
        if response.status_code >= 500:
            transaction.set_rollback(True)
        elif response.status_code not in UNSTORED:
            remember(request.key, name, print_, response, at=at)
    return response


def once_with_calls(request, name, work, *, at):
    """An order may call a gateway, which no transaction may contain: its own key keeps it from happening twice.

    A repeat that comes before this answer was stored gets the same order. So does one that finds a
    refusal: of several requests at once, one may be refused just before another gets the number.
    """
    print_ = fingerprint(request)
    request.order_key = (
        f"api-{hashlib.sha256(f'{request.key.pk} {name}'.encode()).hexdigest()[:60]}"
    )
    given = given_before(request.key, name, at=at)
    if given and (given.status < 400 or not has_order(request)):
        return again(given, print_)
    response = work()
    if response.status_code < 500 and response.status_code not in UNSTORED | {202}:
        remember(request.key, name, print_, response, at=at)
    return response


def has_order(request):
    placed = Order.objects.filter(organization=request.key.organization)
    return placed.filter(idempotency_key=request.order_key).exists()


def given_before(key, name, *, at):
    """The answer given within a day; an older one is forgotten."""
    given = Answer.objects.filter(key=key, idempotency_key=name).first()
    if given and given.given_at <= at - KEPT_FOR:
        given.delete()
        return None
    return given


def fingerprint(request):
    asked = f"{request.method} {request.get_full_path()}\n".encode() + request.body
    return hashlib.sha256(asked).hexdigest()


def lock(key, name):
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_try_advisory_xact_lock(hashtextextended(%s, %s))", [name, key.pk])
        return cursor.fetchone()[0]


def in_progress():
    return answer(
        409, "A request with this Idempotency-Key is being worked. Ask again in a moment.",
        code="idempotency_conflict", headers={"Retry-After": "1"},
    )  # fmt: skip


def again(given, print_):
    if given.fingerprint != print_:
        return answer(
            422, code="idempotency_conflict",
            param="Idempotency-Key",
        )  # fmt: skip
    return HttpResponse(
        given.body, status=given.status, content_type="application/json",
        headers={"Idempotent-Replayed": "true"},
    )  # fmt: skip


def remember(key, name, print_, response, *, at):
    """Keep the answer. What was achieved takes the place of a refusal given at the same time."""
    given = Answer(
        key=key, idempotency_key=name, fingerprint=print_, status=response.status_code,
        body=masked(response.content.decode()), given_at=at,
    )  # fmt: skip
    if given.status >= 300:
        Answer.objects.bulk_create([given], ignore_conflicts=True)
        return
    Answer.objects.bulk_create(
        [given], update_conflicts=True, unique_fields=["key", "idempotency_key"],
        update_fields=["fingerprint", "status", "body", "given_at"],
    )  # fmt: skip


def masked(text):
    """`text` with the preview of every key and secret in its place: they are told once and kept nowhere."""
    return SECRETS.sub(lambda secret: f"{secret[1]}****{secret[0][-4:]}", text)
