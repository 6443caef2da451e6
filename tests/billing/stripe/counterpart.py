"""Serves `seahaven-stripe-world`, a stateful Stripe nobody here wrote, over HTTP on loopback.

Run by the interpreter of its own environment (Python 3.13 or newer), never imported by the tests:
`python counterpart.py`. It prints its port, then serves `/worlds/<id>/v1/…`: each id is a Stripe
account of its own, made by the first request that names it. Beside Stripe's API:

    DELETE /worlds/<id>                    throw the account away
    POST   /worlds/<id>/forget             forget every idempotency key, as Stripe does after a day
    POST   /worlds/<id>/authenticate/<pm>  the cardholder has authenticated this card for good
    GET    /worlds/<id>/charge_of/<in>     the charge that paid an invoice
"""

import __future__

import importlib.abc
import importlib.machinery
import json
import os
import re
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ADDRESS = re.compile(r"/worlds/([A-Za-z0-9_-]{1,64})(/[^?]*)?(?:\?(.*))?")


class PostponedAnnotations(importlib.machinery.SourceFileLoader):
    """Compiles a module as if it began with `from __future__ import annotations`.

    The world is written for Python 3.14, where annotations are evaluated only when asked for.
    """

    def source_to_code(self, data, path, *, _optimize=-1):
        flags = __future__.annotations.compiler_flag
        return compile(data, path, "exec", flags, dont_inherit=True, optimize=_optimize)

    def get_code(self, fullname):
        """Past the cache of compiled files, which would hold what other loaders made of them."""
        path = self.get_filename(fullname)
        return self.source_to_code(self.get_data(path), path)


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if not name.startswith("seahaven"):
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        if spec and isinstance(spec.loader, importlib.machinery.SourceFileLoader):
            spec.loader = PostponedAnnotations(name, spec.loader.path)
        return spec


if sys.version_info < (3, 14):
    sys.meta_path.insert(0, Finder())

from seahaven.http import HttpRequest, HttpResponse  # noqa: E402
from seahaven.http.runtime import Registry, dispatch  # noqa: E402
from seahaven_stripe_world import world  # noqa: E402
from seahaven_stripe_world.http_api import handle  # noqa: E402

worlds = Registry(world, {"startup": {"livemode": False}}, max_instances=0)


def forget_keys(ctx, _):
    ctx.db.execute("DELETE FROM idempotency_keys")
    return HttpResponse.json({})


def authenticate(ctx, payment_method):
    ctx.db.execute(
        "UPDATE payment_methods SET x_behavior = replace(x_behavior, 'three_d_secure=required', '')"
        " WHERE id = ?",
        payment_method,
    )
    return HttpResponse.json({})


def charge_of(ctx, invoice):
    row = ctx.db.one("SELECT _charge FROM invoices WHERE id = ?", invoice)
    return HttpResponse.json({"charge": row and row["_charge"]})


BESIDE = {"forget": forget_keys, "authenticate": authenticate, "charge_of": charge_of}


def answer(method, instance_id, path, query, headers, body):
    """The HttpResponse of one request."""
    if not path:
        worlds.delete(instance_id)
        return HttpResponse.json({})
    verb, _, argument = path.strip("/").partition("/")
    if verb in BESIDE:

        def run(ctx, _):
            return BESIDE[verb](ctx, argument)
    else:
        run = handle
    request = HttpRequest(method, path, query or "", tuple(headers.items()), body)
    return worlds.run(instance_id, lambda instance: dispatch(instance, run, request))


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(6, 1, 1)  # TCP_NODELAY

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        instance_id, path, query = ADDRESS.fullmatch(self.path).groups()
        response = answer(self.command, instance_id, path, query, self.headers, body)
        self.send_response(response.status)
        for name, value in response.headers:
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(response.body_bytes)))
        self.end_headers()
        self.wfile.write(response.body_bytes)

    do_GET = do_POST = do_DELETE = respond

    def log_message(self, *_):
        """Nothing: the tests look at what happened, not at what was asked."""


def end_with_the_parent():
    """Whoever started this process holds the other end of standard input."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    ThreadingHTTPServer.daemon_threads = True
    ThreadingHTTPServer.request_queue_size = 128
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(json.dumps({"port": server.server_port}) + "\n")
    sys.stdout.flush()
    threading.Thread(target=end_with_the_parent, daemon=True).start()
    server.serve_forever()
