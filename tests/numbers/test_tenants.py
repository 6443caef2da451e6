"""Every address of the product × anonymous, another organization, a lesser role.

A route that nobody classified here fails; so does one whose view asks for another permission.
"""

import re
from dataclasses import dataclass
from datetime import date

import pytest
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import URLResolver, get_resolver, reverse

from chirp_dashboard.billing.models import Invoice, Payment, Rental
from chirp_dashboard.numbers.models import Assignment, Order
from chirp_dashboard.organizations.models import (
    Actor,
    ApiKey,
    Application,
    Delivery,
    Membership,
    User,
)
from chirp_dashboard.organizations.permissions import PERMISSIONS, Role

from .conftest import NOON, quoted

pytestmark = pytest.mark.django_db

ORGANIZATION = {  # below /o/<org>/ -> the permission it asks for
    "numbers:overview": "view_numbers",
    "numbers:list": "view_numbers",
    "numbers:detail": "view_numbers",
    "numbers:label": "assign_numbers",
    "numbers:lock": "purchase_numbers",
    "numbers:assign_number": "assign_numbers",
    "numbers:remove": "assign_numbers",
    "numbers:move": "assign_numbers",
    "numbers:release": "purchase_numbers",
    "numbers:cancel_release": "purchase_numbers",
    "numbers:undo_release": "purchase_numbers",
    "numbers:purchase": "view_numbers",
    "numbers:search": "view_numbers",
    "numbers:basket": "purchase_numbers",
    "numbers:hold": "purchase_numbers",
    "numbers:unhold": "purchase_numbers",
    "numbers:extend": "purchase_numbers",
    "numbers:quote": "purchase_numbers",
    "numbers:order_list": "view_numbers",
    "numbers:order": "view_numbers",
    "numbers:application_numbers": "view_numbers",
    "numbers:assign": "assign_numbers",
    "numbers:add_test": "purchase_numbers",
    "numbers:archive_application": "manage_applications",
    "organizations:application_list": "view_numbers",
    "organizations:application_create": "manage_applications",
    "organizations:application_slug": "manage_applications",
    "organizations:application_settings": "view_numbers",
    "organizations:application_rename": "manage_applications",
    "organizations:webhooks": "manage_webhooks",
    "organizations:webhook_create": "manage_webhooks",
    "organizations:webhook": "manage_webhooks",
    "organizations:webhook_remove": "manage_webhooks",
    "organizations:webhook_secret": "manage_webhooks",
    "organizations:webhook_test": "manage_webhooks",
    "organizations:webhook_switch_on": "manage_webhooks",
    "organizations:delivery": "manage_webhooks",
    "organizations:redeliver": "manage_webhooks",
    "organizations:redeliver_failed": "manage_webhooks",
    "organizations:application_keys": "manage_keys",
    "organizations:application_key_create": "manage_keys",
    "organizations:application_key_revoke": "manage_keys",
    "organizations:admin_keys": "manage_admin_keys",
    "organizations:admin_key_create": "manage_admin_keys",
    "organizations:admin_key_revoke": "manage_admin_keys",
    "organizations:settings": "view_numbers",
    "organizations:change_settings": "manage_settings",
    "billing:overview": "view_billing",
    "billing:calendar": "view_billing",
    "billing:renew_feed": "manage_billing",
    "billing:revoke_feed": "manage_billing",
    "billing:forecast": "view_billing",
    "billing:forecast_csv": "view_billing",
    "billing:charges_csv": "view_billing",
    "billing:per_number": "view_billing",
    "billing:per_number_csv": "view_billing",
    "billing:payments": "view_billing",
    "billing:payments_csv": "view_billing",
    "billing:documents": "view_billing",
    "billing:documents_csv": "view_billing",
    "numbers:spending": "view_billing",
    "numbers:spending_csv": "view_billing",
    "billing:charges": "view_billing",
    "billing:invoice": "view_billing",
    "billing:invoice_pdf": "view_billing",
    "billing:invoice_csv": "view_billing",
    "billing:details": "manage_billing",
    "billing:card": "manage_billing",
    "billing:card_save": "manage_billing",
    "billing:card_manage": "manage_billing",
    "billing:card_saved": "manage_billing",
    "billing:pay": "manage_billing",
    "billing:confirm": "manage_billing",
}
PERSONAL = {  # for whoever is signed in, about themselves
    "organizations:home",
    "account_change_password",
    "account_email",
    "account_reauthenticate",
    "account_set_password",
    "mfa_activate_totp",
    "mfa_deactivate_totp",
    "mfa_download_recovery_codes",
    "mfa_generate_recovery_codes",
    "mfa_index",
    "mfa_reauthenticate",
    "mfa_view_recovery_codes",
}
OPEN = {  # for people who are not signed in
    "calendar_feed",
    "account_confirm_email",
    "account_confirm_login_code",
    "account_email_verification_sent",
    "account_inactive",
    "account_login",
    "account_logout",
    "account_reset_password",
    "account_reset_password_done",
    "account_reset_password_from_key",
    "account_reset_password_from_key_done",
    "account_signup",
    "mfa_authenticate",
    "stripe_webhook",
}


@dataclass
class Route:
    name: str
    view: object
    arguments: tuple

    def address(self, **values):
        return reverse(self.name, kwargs={name: values[name] for name in self.arguments})


def walk(patterns, namespace="", arguments=()):
    for pattern in patterns:
        taken = (*arguments, *pattern.pattern.converters, *pattern.pattern.regex.groupindex)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from walk(pattern.url_patterns, inner, taken)
        else:
            yield Route(f"{namespace}{pattern.name}", pattern.callback, tuple(dict.fromkeys(taken)))


ROUTES = list(walk(get_resolver().url_patterns))
ADMIN = [route for route in ROUTES if route.name.startswith("admin:")]
API = [route for route in ROUTES if route.name.startswith("v1:")]  # has a walk of its own
OURS = [route for route in ROUTES if "org" in route.arguments]
WITH_OBJECTS = [route for route in OURS if set(route.arguments) - {"org", "number_type"}]


def test_every_address_is_classified():
    names = {route.name for route in ROUTES if route not in ADMIN + API}
    assert names == ORGANIZATION.keys() | PERSONAL | OPEN
    assert {route.name for route in OURS} == ORGANIZATION.keys()


def test_every_view_asks_for_the_permission_it_should():
    asked = {route.name: getattr(route.view, "permission", None) for route in OURS}
    assert asked == ORGANIZATION


def test_only_the_open_pages_are_open():
    others = [route for route in ROUTES if route not in API]
    signed_out = {route.name for route in others if not getattr(route.view, "login_required", True)}
    assert signed_out - {"admin:login"} == OPEN


# What there is ----------------------------------------------------------------------------------


@pytest.fixture
def belongings(stock, organization, rival, owner, rival_owner):
    """An application, an assigned number, an order and an invoice of each of two organizations."""
    return {
        organization.slug: belongings_of(organization, owner, stock[0], slug="storefront"),
        rival.slug: belongings_of(rival, rival_owner, stock[1], slug="rival-app"),
    }


def belongings_of(organization, person, row, *, slug):
    application = Application.objects.create(organization=organization, name=slug, slug=slug)
    order = Order.objects.place(
        organization,
        person=person,
        numbers=[row.key],
        expected_total=sum(quoted(organization, [row], at=NOON)),
        idempotency_key=f"order of {organization}",
        at=NOON,
        application=application,
    )
    Rental.objects.charge_due(on=date(2026, 12, 1), at=NOON)
    webhook = application.webhooks.create(url="https://hooks.example/", events=[])
    key, _ = ApiKey.objects.issue(
        organization, name="Till", application=application, by=person, at=NOON
    )
    admin_key, _ = ApiKey.objects.issue(organization, name="Sync", by=person, at=NOON)
    return {
        "org": organization.slug,
        "slug": application.slug,
        "admin_key": admin_key.public_id,
        "key": key.public_id,
        "message": Delivery.objects.test(webhook, at=NOON).message_id,
        "webhook": webhook.public_id,
        "order": order.public_id,
        "number": order.lines.get().phone_number.public_id,
        "invoice": Invoice.objects.get(organization=organization).public_id,
        "payment": payment_of(organization).public_id,
        "number_type": "local",
    }


def payment_of(organization):
    return Payment.objects.record_transfer(
        organization, amount=1, received_on=NOON.date(), reference="T1",
        by=Actor.system("tests"), at=NOON,
    )  # fmt: skip


def answers(client, route, values, **data):
    """The answers to a GET and to a POST, each undone, with what either wrote."""
    for method, sent in ((client.get, {}), (client.post, data)):
        with transaction.atomic(), CaptureQueriesContext(connection) as queries:
            response = method(route.address(**values), sent)
            transaction.set_rollback(True)
        yield response, [query["sql"] for query in queries if writes(query["sql"])]


def writes(statement):
    changes = re.search(r"\b(INSERT INTO|DELETE FROM|UPDATE \S+ SET|MERGE INTO)\b", statement)
    return changes and "django_session" not in statement


# Who may not ------------------------------------------------------------------------------------


def test_anonymous_is_sent_to_sign_in_and_changes_nothing(belongings):
    for route in [*OURS, *(route for route in ROUTES if route.name in PERSONAL)]:
        for response, written in answers(Client(), route, belongings["northwind"]):
            assert response.status_code == 302, route
            assert response.headers["Location"].startswith("/accounts/login/?next="), route
            assert written == [], route


@pytest.mark.parametrize("user", ["rival_owner", "stranger", "operator"])
def test_for_other_organizations_nothing_of_ours_exists(user, belongings, request):
    client = Client()
    client.force_login(request.getfixturevalue(user))
    for route in OURS:
        for response, written in answers(client, route, belongings["northwind"]):
            assert response.status_code == 404, route
            assert b"Northwind" not in response.content, route
            assert written == [], route


def test_things_of_others_do_not_exist_below_our_own_address(belongings, owner_client):
    theirs = belongings["rival"] | {"org": "northwind"}
    digits = b"212) 555-0143"
    for route in WITH_OBJECTS:
        got, posted = answers(owner_client, route, theirs)
        assert got[0].status_code in {404, 405}, route
        assert posted[0].status_code in {404, 405}, route
        assert 404 in {got[0].status_code, posted[0].status_code}, route
        for response, written in (got, posted):
            assert digits not in response.content, route
            assert b"rival-app" not in response.content.replace(
                route.address(**theirs).encode(), b""
            )
            assert written == [], route


def test_things_of_others_cannot_be_named_in_a_form(belongings, owner_client):
    ours, theirs = belongings["northwind"], belongings["rival"]
    before = list(Assignment.objects.order_by("pk").values())
    for name, data in [
        ("assign_number", {"application": theirs["slug"]}),
        ("remove", {"application": theirs["slug"]}),
        ("move", {"from": theirs["slug"], "to": ours["slug"]}),
        ("move", {"from": ours["slug"], "to": theirs["slug"]}),
        ("assign", {"number": theirs["number"], "step": "confirm"}),
    ]:
        route = next(route for route in OURS if route.name == f"numbers:{name}")
        response = owner_client.post(route.address(**ours), data)
        assert response.status_code in {404, 422}, name
        assert list(Assignment.objects.order_by("pk").values()) == before, name


@pytest.mark.parametrize("role", list(Role))
def test_a_role_does_what_it_may_and_nothing_else(role, belongings, organization, stock):
    user = User.objects.create_user("somebody@northwind.example")
    Membership.objects.create(organization=organization, user=user, role=role)
    client = Client()
    client.force_login(user)
    for_sale = ":".join(stock[4].key)
    for route in OURS:
        got, posted = answers(client, route, belongings["northwind"], number=for_sale)
        statuses = {got[0].status_code, posted[0].status_code}
        if role in PERMISSIONS[ORGANIZATION[route.name]]:
            assert not statuses & {403, 404, 500}, route
        else:
            assert 403 in statuses, route
            assert statuses <= {403, 405}, route
            assert got[1] == posted[1] == [], route


@pytest.mark.parametrize("client", [None, "stranger_client", "owner_client"])
def test_the_django_admin_is_for_operators(client, request):
    client = request.getfixturevalue(client) if client else Client()
    addresses = [route for route in ADMIN if not route.arguments]
    assert len(addresses) > 20
    for route in addresses:
        if route.name in {"admin:login", "admin:logout"}:
            continue
        response = client.get(route.address())
        assert response.status_code == 302, route
        assert response.headers["Location"].startswith(("/admin/login/", "/accounts/login/")), route


def test_reading_changes_nothing(belongings, owner_client):
    for route in OURS:
        got, _ = answers(owner_client, route, belongings["northwind"])
        assert got[1] == [], route
