"""ETag and If-Match: a PUT that names a version changes that version only."""

import hashlib
import json
import re

from django.core.serializers.json import DjangoJSONEncoder
from django.http import HttpResponse

from .errors import ApiError

VERSION = '(W/)?"[!#-~]*"'
VERSIONS = re.compile(rf"\*|{VERSION}( ?, ?{VERSION})*")


def plain(view, schema):
    """`view` as `schema` sends it."""
    return schema(**view).model_dump(mode="json", by_alias=True)


def tag_of(sent):
    packed = json.dumps(sent, sort_keys=True, separators=(",", ":")).encode()
    return f'"{hashlib.sha256(packed).hexdigest()[:32]}"'


def tagged(view, schema):
    """The answer with its ETag; moments to the millisecond, as every other answer has them."""
    sent = schema(**view).model_dump(by_alias=True)
    content = json.dumps(sent, cls=DjangoJSONEncoder, ensure_ascii=False)
    version = tag_of(plain(view, schema))
    return HttpResponse(content, content_type="application/json", headers={"ETag": version})


def check_match(request, view, schema):
    """Raise 412 when the request names versions in If-Match and none of them is the present one."""
    named = request.headers.get("If-Match", "*")
    if named == "*":
        return
    if not VERSIONS.fullmatch(named):
        raise ApiError(400, "If-Match names ETags as they were sent, in quotes.", param="If-Match")
    versions = {version.strip() for version in named.split(",")}
    if tag_of(plain(view, schema)) not in versions:
        raise ApiError(412, "It was changed since you read it. Read it again.", param="If-Match")
