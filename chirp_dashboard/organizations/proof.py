"""Fresh proof: a session left open on a desk must not hand out a key.

Whoever makes a secret has signed in, or entered the password or a code again, a short while ago.
"""

import time
from functools import wraps
from urllib.parse import urlencode

from allauth.account.authentication import get_authentication_records
from django.shortcuts import redirect, resolve_url
from django_htmx.http import HttpResponseClientRedirect

FRESH_FOR = 15 * 60  # seconds


def is_fresh(request, *, now):
    records = get_authentication_records(request, request.user)
    return any(record["at"] > now - FRESH_FOR for record in records)


def fresh_proof(view):
    """Ask who it is first, when that was last proved too long ago; then lead back here."""

    @wraps(view)
    def proven(request, *args, **kwargs):
        if is_fresh(request, now=time.time()):
            return view(request, *args, **kwargs)
        here = request.get_full_path()
        if request.method == "POST" and (name := request.POST.get("name")):
            here = f"{request.path}?{urlencode({'name': name[:120]})}"  # what was typed is kept
        question = f"{resolve_url('account_reauthenticate')}?{urlencode({'next': here})}"
        return HttpResponseClientRedirect(question) if request.htmx else redirect(question)

    return proven
