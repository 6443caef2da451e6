"""Pages of Stripe's that people visit: Checkout in setup mode, the Billing Portal, authentication.

A small fake, because the counterpart has neither Checkout nor Portal. Each page is a plain one with
links; opened with `?card=tok_visa` or `?ok=1` it does what a person would and redirects back.
"""

import html
import time
import uuid

from .faults import Answer, refusal


class Hosted:
    """The part of a World that people see."""

    def reset_pages(self):
        self.checkouts, self.portals, self.answers, self.own_events = {}, {}, {}, []

    # Checkout ----------------------------------------------------------------------------------

    def create_checkout(self, call):
        form = call.form
        if form.get("mode") != "setup" or not form.get("success_url"):
            return refusal(400, "Setup mode only.")
        if missing := self.missing(form["customer"]):
            return missing
        name = f"cs_test_{uuid.uuid4().hex}"
        session = {
            "id": name, "object": "checkout.session", "mode": "setup", "status": "open",
            "created": int(time.time()), "customer": form["customer"], "setup_intent": None,
            "success_url": form["success_url"], "cancel_url": form.get("cancel_url"),
            "metadata": metadata_of(form), "url": f"{self.url}/hosted/checkout/{name}",
        }  # fmt: skip
        with self.lock:
            session = self.answers.setdefault(call.key or name, session)
            self.checkouts[session["id"]] = session
        return Answer(200, session)

    def missing(self, customer):
        """The refusal of a customer who is not there, or None."""
        if self.forward("GET", f"/v1/customers/{customer}", {}, {}).status < 400:
            return None
        return refusal(
            400, f"No such customer: '{customer}'", code="resource_missing", param="customer"
        )

    def list_checkouts(self, call):
        found = [
            session
            for session in reversed(self.checkouts.values())
            if session["customer"] == call.form.get("customer", session["customer"])
            and session["status"] == call.form.get("status", session["status"])
        ]
        found = [self.expanded(session) for session in found[: int(call.form.get("limit", 10))]]
        return Answer(200, {"object": "list", "data": found, "has_more": False, "url": call.path})

    def expanded(self, session):
        """As asked with expand[]=data.setup_intent.payment_method."""
        if not session["setup_intent"]:
            return session
        intent = self.ask("GET", f"/v1/setup_intents/{session['setup_intent']}")
        intent["payment_method"] = self.ask(
            "GET", f"/v1/payment_methods/{intent['payment_method']}"
        )
        return session | {"setup_intent": intent}

    def complete_checkout(self, session, token):
        """Save the card `token` as Checkout does: attached, but nobody's default yet."""
        customer = session["customer"]
        card = self.attach(customer, token)
        intent = self.ask(
            "POST", "/v1/setup_intents",
            customer=customer, payment_method=card, confirm=True,
            payment_method_types=["card"],
        )  # fmt: skip
        session.update(status="complete", setup_intent=intent["id"])
        self.emit("checkout.session.completed", session)

    def checkout_page(self, call):
        session = self.checkouts[call.path.rsplit("/", 1)[1]]
        if token := call.form.get("card"):
            if session["status"] == "open":
                self.complete_checkout(session, token)
            return redirect(session["success_url"].replace("{CHECKOUT_SESSION_ID}", session["id"]))
        return page(
            "Save a card",
            {"?card=tok_visa": "Save 4242 4242 4242 4242", session["cancel_url"] or "#": "Back"},
        )

    # Billing Portal ----------------------------------------------------------------------------

    def create_portal(self, call):
        if missing := self.missing(call.form["customer"]):
            return missing
        name = f"bps_{uuid.uuid4().hex}"
        session = {
            "id": name, "object": "billing_portal.session", "customer": call.form["customer"],
            "return_url": call.form.get("return_url"), "url": f"{self.url}/hosted/portal/{name}",
            "created": int(time.time()), "livemode": False,
        }  # fmt: skip
        self.portals[name] = session
        return Answer(200, session)

    def portal_page(self, call):
        session = self.portals[call.path.rsplit("/", 1)[1]]
        customer = self.ask("GET", f"/v1/customers/{session['customer']}")
        if token := call.form.get("card"):
            self.add_card(customer["id"], token)
        elif "remove" in call.form:
            card = customer["invoice_settings"]["default_payment_method"]
            self.ask("POST", f"/v1/payment_methods/{card}/detach")
        else:
            links = {
                "?card=tok_mastercard": "Use 5555 5555 5555 4444",
                "?remove=1": "Remove the card",
            }
            return page("Manage cards", links | {session["return_url"] or "#": "Back"})
        return redirect(session["return_url"])

    # Authentication ----------------------------------------------------------------------------

    def authentication_page(self, call):
        """Where a bank asks the cardholder; `?ok=1` says yes, `?ok=0` no."""
        name = call.path.rsplit("/", 1)[1]
        intent = self.ask("GET", f"/v1/payment_intents/{name}")
        if "ok" not in call.form:
            return page("Confirm the payment", {"?ok=1": "Confirm", "?ok=0": "Refuse"})
        if intent["status"] == "requires_action":
            self.settle(intent, confirmed=call.form["ok"] == "1")
        return redirect(self.return_urls.get(name) or self.url)

    def settle(self, intent, *, confirmed):
        card = intent["payment_method"]
        if confirmed:
            self.authenticate(card)
        else:
            card = self.attach(intent["customer"], "declining")
        path = f"/v1/payment_intents/{intent['id']}/confirm"
        self.forward("POST", path, {"payment_method": card}, {})

    def invoice_page(self, call):
        """Stripe's own page of an invoice, where the customer authenticates and pays."""
        name = call.path.rsplit("/", 1)[1]
        if call.form.get("ok") != "1":
            return page("Pay the invoice", {"?ok=1": "Pay"})
        invoice = self.ask("GET", f"/v1/invoices/{name}")
        customer = self.ask("GET", f"/v1/customers/{invoice['customer']}")
        self.authenticate(customer["invoice_settings"]["default_payment_method"])
        with self.lock:
            self.note_payment(name, self.forward("POST", f"/v1/invoices/{name}/pay", {}, {}))
        return page("Paid", {})

    def emit(self, kind, facts):
        self.own_events.append(
            {
                "id": f"evt_{uuid.uuid4().hex[:24]}", "object": "event", "type": kind,
                "created": int(time.time()), "livemode": False, "pending_webhooks": 1,
                "api_version": "2026-10-28.endive", "data": {"object": dict(facts)},
                "request": {"id": None, "idempotency_key": None},
            }
        )  # fmt: skip

    OWN = {
        "POST /v1/checkout/sessions": create_checkout,
        "GET /v1/checkout/sessions": list_checkouts,
        "POST /v1/billing_portal/sessions": create_portal,
        "GET /hosted/checkout/*": checkout_page,
        "GET /hosted/portal/*": portal_page,
        "GET /hosted/authenticate/*": authentication_page,
        "GET /hosted/invoice/*": invoice_page,
    }


def metadata_of(form):
    return {
        name[len("metadata[") : -1]: value
        for name, value in form.items()
        if name.startswith("metadata[")
    }


def redirect(url):
    return Answer(303, b"", {"Location": url, "Content-Type": "text/plain"})


def page(title, links):
    items = "".join(
        f'<p><a href="{html.escape(href)}">{html.escape(text)}</a></p>'
        for href, text in links.items()
    )
    document = (
        f'<!doctype html><html lang="en"><title>{title}</title><h1>{title}</h1>{items}</html>'
    )
    return Answer(200, document.encode(), {"Content-Type": "text/html; charset=utf-8"})
