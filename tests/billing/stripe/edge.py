"""The HTTP edge in front of the counterpart: faults, and the parts of Stripe the counterpart lacks.

Where the counterpart (seahaven-stripe-world 0.3.0) differs from Stripe's documentation, the
documentation wins, and the edge makes up for it:

 1. It answers for API version 2026-08-26.dahlia whatever version is asked for.
    So a payment's kinds are `payment_method_types`; since endive `allowed_payment_method_types`.
 2. No Checkout and no Billing Portal: a small fake of ours, setup mode only (`hosted.py`).
 3. `return_url` is unknown to it, and a payment that needs authentication gets `use_stripe_sdk`; Stripe
    redirects to a page of the bank's when `return_url` is given. The edge has that page.
 4. No minimum amount of a PaymentIntent; Stripe refuses less than 50 cents (amount_too_small).
 5. `pay` knows no `payment_method` and no `off_session`, takes the customer's default card only, and
    answers 200 with an open invoice where Stripe answers 402 invoice_payment_intent_requires_action,
    or 400 where there is no card.
 6. No InvoicePayment, the only way from an invoice to its charge since 2025. It also makes a charge
    without a PaymentIntent, so the edge names the charge itself.
 7. No limit of 250 lines of an invoice.
 8. `hosted_invoice_url` leads to Stripe's own site; here to the edge.
 9. Keys are kept for ever; Stripe forgets them after 24 hours: `world.forget_keys()`.
10. No webhooks are sent: `world.events()` reads /v1/events, `signed(event)` signs one.
11. Authorisations never end; Stripe cancels them after seven days: `world.expire(intent)`.
12. A cardholder who authenticates is not modelled: the edge's pages take the mark off the card.
13. An invoice deleted as a draft leaves its items attached to it; nothing here depends on them.
14. The metadata an invoice is created with is dropped; the edge writes it afterwards.
"""

import fnmatch
import re
import socket
import sys
import threading
import time
import uuid
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl

import requests
from requests.adapters import HTTPAdapter

from .faults import ANSWERS, BREAKS, HAS_EFFECT, KEPT_FOR_THE_KEY, Answer, Fault, refusal
from .hosted import Hosted

MINIMUM = {"usd": 50, "eur": 50, "gbp": 30, "cad": 50, "jpy": 50}
LONGEST_SILENCE = 20  # seconds
ADDRESS = re.compile(r"/worlds/([A-Za-z0-9_-]+)(/[^?]*)(?:\?(.*))?")


@dataclass
class Call:
    """One request as it arrived, and the status it was answered with."""

    method: str
    path: str
    form: dict
    headers: dict
    status: int | None = None

    @property
    def key(self):
        return self.headers.get("idempotency-key", "")

    def is_to(self, pattern):
        return fnmatch.fnmatchcase(f"{self.method} {self.path}", pattern)


class World(Hosted):
    """One Stripe account. `url` is where our gateway finds it; `ask` goes round faults and fakes."""

    def __init__(self, edge, counterpart):
        self.name = uuid.uuid4().hex
        self.url = f"{edge}/worlds/{self.name}"
        self.counterpart = f"{counterpart}/worlds/{self.name}"
        self.session = requests.Session()
        self.session.headers["Authorization"] = "Bearer sk_test_world"
        self.session.mount("http://", HTTPAdapter(pool_maxsize=32))
        self.lock = threading.RLock()
        self.faults, self.calls, self.kept = [], [], {}
        self.return_urls, self.payments = {}, {}
        self.reset_pages()

    # Faults ------------------------------------------------------------------------------------

    def fault(self, pattern, fault, *, times=1, retry_after=None):
        """Let the next `times` calls to `pattern` ("POST /v1/invoices/*/pay") meet `fault`."""
        self.faults.append([pattern, fault, times, retry_after])

    def take_fault(self, call):
        for due in self.faults:
            if due[2] and call.is_to(due[0]):
                due[2] -= 1
                return due[1], due[3]
        return None, None

    @property
    def faults_left(self):
        return sum(due[2] for due in self.faults)

    def count(self, pattern="*"):
        """How many calls to `pattern` arrived."""
        return sum(call.is_to(pattern) for call in self.calls)

    # What happens at Stripe without us ---------------------------------------------------------

    def ask(self, method, path, **params):
        """Stripe's answer as a dict, past faults; `metadata={"a": 1}` and lists are written its way."""
        answer = self.forward(method, path, flat(params), {})
        if answer.status >= 400:
            raise AssertionError(f"{method} {path}: {answer.status} {answer.body}")
        return answer.body

    def all(self, path, **params):
        """Every object of a list, newest first."""
        found, more = [], True
        while more:
            page = self.ask("GET", path, limit=100, **params)
            found += page["data"]
            more = page["has_more"]
            params["starting_after"] = found[-1]["id"] if found else None
        return found

    def events(self):
        """Everything Stripe would send us, oldest first."""
        events = self.all("/v1/events")[::-1] + self.own_events
        return sorted(events, key=lambda event: event["created"])

    def add_card(self, customer, token="tok_visa"):
        """Save a card the way Checkout does, as the customer's default; its id."""
        card = self.attach(customer, token)
        self.ask(
            "POST", f"/v1/customers/{customer}",
            invoice_settings={"default_payment_method": card},
        )  # fmt: skip
        return card

    def attach(self, customer, token):
        """The id of a new card of `customer`; "declining" is one that attaches and is always declined."""
        kind = DECLINING_CARD if token == "declining" else {"token": token}
        card = self.ask("POST", "/v1/payment_methods", type="card", card=kind)["id"]
        self.ask("POST", f"/v1/payment_methods/{card}/attach", customer=customer)
        return card

    def forget_keys(self):
        """What Stripe does after 24 hours."""
        self.kept.clear()
        self.beside("POST", "/forget")

    def expire(self, intent):
        """What Stripe does to an authorisation after seven days."""
        self.ask("POST", f"/v1/payment_intents/{intent}/cancel", cancellation_reason="automatic")

    def visit(self, url, **query):
        """Open one of Stripe's pages and do there what `query` says; the address it leads back to."""
        got = requests.get(url, params=query, allow_redirects=False, timeout=20)
        assert got.status_code in {200, 303}, got.text
        return got.headers.get("Location", "")

    def authenticate(self, payment_method):
        self.beside("POST", f"/authenticate/{payment_method}")

    def beside(self, method, path):
        return self.session.request(method, self.counterpart + path).json()

    def close(self):
        self.session.delete(self.counterpart)
        self.session.close()

    # The edge itself ---------------------------------------------------------------------------

    def answer(self, call):
        """The Answer to one call, or None when the connection breaks without one."""
        with self.lock:
            self.calls.append(call)
            if call.key in self.kept and call.method == "POST":
                answer = self.kept[call.key]
                return Answer(answer.status, answer.body, {"Idempotent-Replayed": "true"})
            fault, retry_after = self.take_fault(call)
        if fault is None:
            return self.respond(call)
        if fault in HAS_EFFECT:
            self.respond(call)
        if fault is Fault.SILENCE:
            time.sleep(self.silence)
        if fault in BREAKS or fault is Fault.SILENCE:
            return None
        if fault is Fault.GARBAGE:
            return Answer(200, b"<html>Bad gateway</html>", {"Content-Type": "text/html"})
        answer = Answer(*ANSWERS[fault])
        if retry_after is not None:
            answer.headers["Retry-After"] = str(retry_after)
        if fault in KEPT_FOR_THE_KEY and call.key:
            self.kept[call.key] = answer
        return answer

    silence = LONGEST_SILENCE

    def respond(self, call):
        for pattern, own in OWN.items():
            if call.is_to(pattern):
                return own(self, call)
        return self.pass_on(call)

    def pass_on(self, call, form=None):
        form = call.form if form is None else form
        headers = {
            name: call.headers[name] for name in ("idempotency-key",) if name in call.headers
        }
        return self.forward(call.method, call.path, form, headers)

    def forward(self, method, path, form, headers):
        sent = {"params" if method == "GET" else "data": list(form.items())}
        got = self.session.request(method, self.counterpart + path, headers=headers, **sent)
        answer = Answer(got.status_code, got.json())
        if "Idempotent-Replayed" in got.headers:
            answer.headers["Idempotent-Replayed"] = "true"
        self.redirect(answer.body)
        return answer

    def redirect(self, body):
        """Let addresses in an answer lead to the edge's pages instead of Stripe's."""
        if isinstance(body, dict):
            if body.get("object") == "invoice" and body.get("hosted_invoice_url"):
                body["hosted_invoice_url"] = f"{self.url}/hosted/invoice/{body['id']}"
            if body.get("object") == "payment_intent" and body["status"] == "requires_action":
                body["next_action"] = {
                    "type": "redirect_to_url",
                    "redirect_to_url": {
                        "url": f"{self.url}/hosted/authenticate/{body['id']}",
                        "return_url": self.return_urls.get(body["id"]),
                    },
                }
            for value in body.values():
                self.redirect(value)
        elif isinstance(body, list):
            for value in body:
                self.redirect(value)

    def create_intent(self, call):
        form = dict(call.form)
        return_url = form.pop("return_url", None)
        for name in [name for name in form if name.startswith("allowed_payment_method_types")]:
            form[name.removeprefix("allowed_")] = form.pop(name)
        least = MINIMUM.get(form.get("currency"), 50)
        if int(form["amount"]) < least:
            return refusal(
                400, "Amount must be at least the minimum.", code="amount_too_small", param="amount"
            )
        answer = self.pass_on(call, form)
        if answer.status == 200 and return_url:
            self.return_urls[answer.body["id"]] = return_url
            self.redirect(answer.body)
        return answer

    def create_invoice(self, call):
        """The counterpart takes metadata of an invoice only when it is changed."""
        answer = self.pass_on(call)
        metadata = {
            name: value for name, value in call.form.items() if name.startswith("metadata[")
        }
        if answer.status != 200 or not metadata:
            return answer
        return self.forward("POST", f"/v1/invoices/{answer.body['id']}", metadata, {})

    def add_lines(self, call):
        lines = {
            re.match(r"lines\[(\d+)\]", name)[1] for name in call.form if name.startswith("lines[")
        }
        invoice = call.path.split("/")[3]
        there = self.forward("GET", f"/v1/invoices/{invoice}/lines", {"limit": "100"}, {})
        if len(lines) + len(there.body.get("data", [])) > 250:
            return refusal(400, "An invoice can have at most 250 line items.", param="lines")
        return self.pass_on(call)

    def pay(self, call):
        form = {
            name: value
            for name, value in call.form.items()
            if name not in {"payment_method", "off_session"}
        }
        invoice = call.path.split("/")[3]
        with self.lock:
            answer = self.pass_on(call, form)
            self.note_payment(invoice, answer)
        if answer.status != 200 or answer.body["status"] == "paid":
            return answer
        if answer.body["attempted"]:
            return refusal(
                402, "This payment requires additional user action before it can be completed.",
                kind="card_error", code="invoice_payment_intent_requires_action",
            )  # fmt: skip
        return refusal(400, "There is no `default_payment_method` set on this Customer or Invoice.")

    def note_payment(self, invoice, answer):
        """Remember what became of the attempt, for /v1/invoice_payments."""
        if answer.status == 200 and answer.body["status"] == "paid":
            charge = self.beside("GET", f"/charge_of/{invoice}")["charge"]
            payment = {"type": "charge", "charge": charge}
            self.payments[invoice] = {"status": "paid", "payment": payment}
        elif answer.status == 402 or (answer.status == 200 and answer.body["attempted"]):
            status = "requires_action" if answer.status == 200 else "requires_payment_method"
            intent = {"id": f"pi_of_{invoice}", "object": "payment_intent", "status": status}
            if answer.status == 402:
                intent["last_payment_error"] = answer.body["error"]
            payment = {"type": "payment_intent", "payment_intent": intent}
            self.payments[invoice] = {"status": "open", "payment": payment}

    def invoice_payments(self, call):
        invoice = call.form.get("invoice")
        known = self.payments.get(invoice)
        data = (
            [{"object": "invoice_payment", "id": "inpay_1", "invoice": invoice, **known}]
            if known
            else []
        )
        return Answer(200, {"object": "list", "data": data, "has_more": False, "url": call.path})


OWN = {
    "POST /v1/payment_intents": World.create_intent,
    "POST /v1/invoices": World.create_invoice,
    "POST /v1/invoices/*/add_lines": World.add_lines,
    "POST /v1/invoices/*/pay": World.pay,
    "GET /v1/invoice_payments": World.invoice_payments,
    **Hosted.OWN,
}

DECLINING_CARD = {"number": "4000000000000341", "exp_month": 12, "exp_year": 2034, "cvc": "123"}


def flat(params, prefix=""):
    """Nested parameters the way Stripe's forms write them."""
    found = {}
    pairs = params.items() if isinstance(params, dict) else enumerate(params)
    for name, value in pairs:
        name = f"{prefix}[{name}]" if prefix else name
        if isinstance(value, dict | list | tuple):
            found |= flat(value, name)
        elif value is not None:
            found[name] = str(value).lower() if isinstance(value, bool) else str(value)
    return found


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def setup(self):
        super().setup()
        self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def respond(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
        name, path, query = ADDRESS.fullmatch(self.path).groups()
        form = dict(parse_qsl(f"{query or ''}&{body}", keep_blank_values=True))
        headers = {header.lower(): value for header, value in self.headers.items()}
        call = Call(self.command, path, form, headers)
        world = self.server.worlds.get(name)
        answer = world.answer(call) if world else refusal(404, "No such account.")
        if answer is None:
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)
            return
        call.status = answer.status
        self.send_response(answer.status)
        for header, value in ({"Content-Type": "application/json"} | answer.headers).items():
            self.send_header(header, value)
        self.send_header("Request-Id", f"req_{uuid.uuid4().hex[:14]}")
        self.send_header("Content-Length", str(len(answer.content)))
        self.end_headers()
        self.wfile.write(answer.content)

    do_GET = do_POST = do_DELETE = respond

    def log_message(self, *_):
        """Nothing: `world.calls` remembers."""


class Edge(ThreadingHTTPServer):
    """Serves every world of a test session; `url` is the root, `/worlds/<name>` one account."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, counterpart):
        super().__init__(("127.0.0.1", 0), Handler)
        self.counterpart, self.worlds = counterpart, {}
        self.url = f"http://127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, args=[0.05], daemon=True).start()

    def open(self):
        world = World(self.url, self.counterpart)
        self.worlds[world.name] = world
        return world

    def shut(self, world):
        del self.worlds[world.name]
        world.close()

    def handle_error(self, request, client_address):
        """A caller that went away is not an error; anything else is shown."""
        if not isinstance(sys.exception(), OSError):
            super().handle_error(request, client_address)
