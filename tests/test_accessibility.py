"""Every page and every dialog, in a wide light window and a narrow dark one.

axe finds nothing, nothing scrolls sideways, and a heading and a title say where one is. A page that is
added under /o/<org>/ has to be added here.
"""

import re
from collections import Counter
from urllib.parse import urlsplit

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.urls import URLResolver, get_resolver, reverse
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.billing.models import Payment
from chirp_dashboard.numbers.management.commands.load_demo import Demo
from chirp_dashboard.numbers.models import Hold
from chirp_dashboard.numbers.stock import load_demo_stock
from chirp_dashboard.organizations.models import (
    ApiKey,
    Application,
    Delivery,
    Organization,
    User,
)
from chirp_dashboard.organizations.permissions import Role

OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"],
    "resultTypes": ["violations"],
}

# A place is the name of a URL, the things it is about, and perhaps a query: see `places`.
OWNER = [
    "organizations:home ?choose",
    "account_change_password",
    "account_logout",
    "numbers:overview demo",
    "numbers:list demo",
    "numbers:list demo ?q=7777",
    "numbers:list demo ?state=released",
    "numbers:list demo ?kind=test",
    "numbers:detail demo active",
    "numbers:detail demo locked",
    "numbers:detail demo long",
    "numbers:detail demo released",
    "numbers:detail demo releasing",
    "numbers:detail demo unassigned",
    "numbers:detail demo test",
    "numbers:label demo long",
    "numbers:lock demo active",
    "numbers:assign_number demo active",
    "numbers:remove demo long",
    "numbers:move demo long",
    "numbers:release demo active",
    "numbers:release demo locked",
    "numbers:release demo test",
    "numbers:cancel_release demo releasing",
    "numbers:undo_release demo released",
    "numbers:purchase demo",
    "numbers:search demo local",
    "numbers:search demo local ?region=NY",
    "numbers:search demo local ?digits=0000000",
    "numbers:search demo tollfree",
    "numbers:search demo shortcode",
    "numbers:quote demo",
    "numbers:order_list demo",
    "numbers:order demo order",
    "numbers:application_numbers demo storefront",
    "numbers:application_numbers demo sandbox",
    "numbers:application_numbers demo trial",
    "numbers:application_numbers demo wordy",
    "numbers:assign demo storefront",
    "numbers:assign demo wordy",
    "numbers:add_test demo sandbox",
    "numbers:add_test demo storefront",
    "numbers:archive_application demo wordy",
    "organizations:application_list demo",
    "organizations:application_create demo",
    "organizations:application_settings demo storefront",
    "organizations:application_settings demo wordy",
    "organizations:webhooks demo storefront",
    "organizations:webhooks demo storefront ?state=failed",
    "organizations:webhooks demo wordy",
    "organizations:webhook_create demo storefront",
    "organizations:webhook demo storefront webhook",
    "organizations:webhook_remove demo storefront webhook",
    "organizations:webhook_secret demo storefront webhook",
    "organizations:delivery demo storefront message",
    "organizations:redeliver_failed demo storefront",
    "organizations:application_keys demo storefront",
    "organizations:application_keys demo wordy",
    "organizations:application_key_create demo storefront",
    "organizations:application_key_revoke demo storefront key",
    "organizations:admin_keys demo",
    "organizations:admin_key_create demo",
    "organizations:admin_key_revoke demo admin_key",
    "organizations:settings demo",
    "billing:overview demo",
    "billing:charges demo",
    "billing:documents demo",
    "billing:payments demo",
    "billing:per_number demo",
    "billing:forecast demo",
    "billing:calendar demo",
    "billing:card demo",
    "billing:card_saved demo",
    "numbers:spending demo",
    "numbers:spending demo ?application=storefront",
    "billing:invoice demo invoice",
    "billing:confirm demo payment",
    "billing:details demo",
    "numbers:overview empty",
    "numbers:list empty",
    "numbers:quote empty",
    "numbers:order_list empty",
    "organizations:application_list empty",
    "billing:overview empty",
    "billing:documents empty",
    "billing:payments empty",
    "billing:per_number empty",
    "billing:forecast empty",
    "billing:calendar empty",
    "numbers:spending empty",
    "billing:charges empty",
]
VIEWER = [
    "numbers:overview demo",
    "numbers:list demo",
    "numbers:detail demo active",
    "numbers:search demo local",
    "organizations:application_settings demo storefront",
    "organizations:settings demo",
    "numbers:list empty",
]
REFUSED = {  # to a viewer of the demo, and how
    "billing:overview demo": 403,
    "numbers:release demo active": 403,
    "numbers:overview rival": 404,
    "numbers:detail demo ph_nobody": 404,
}
SIGNED_OUT = ["account_login", "account_reset_password", "account_reset_password_done"]

# Where a dialog opens, and the end of the link that opens it.
DIALOGS = [
    ("numbers:detail demo active", "/release/"),
    ("numbers:detail demo active", "/remove/?application=storefront"),
    ("numbers:detail demo active", "/move/?from=storefront"),
    ("numbers:detail demo active", "/lock/"),
    ("numbers:detail demo active", "/label/"),
    ("numbers:detail demo active", "/assign/"),
    ("numbers:detail demo releasing", "/cancel-release/"),
    ("numbers:detail demo released", "/undo-release/"),
    ("numbers:application_numbers demo storefront", "/assign/"),
    ("numbers:application_numbers demo trial", "/numbers/test/"),
    ("billing:overview demo", "/details/"),
    ("organizations:application_list demo", "/create/"),
    ("organizations:application_settings demo wordy", "/archive/"),
    ("organizations:application_keys demo storefront", "/keys/create/"),
    ("organizations:application_keys demo storefront", "/revoke/"),
    ("organizations:webhooks demo storefront", "/webhooks/create/"),
    ("organizations:webhooks demo storefront", "/deliveries/failed/"),
]

# Answers GET with a piece of a page that is visited, or with a file.
PIECES = {
    "numbers:basket",
    "organizations:application_slug",
    "billing:charges_csv",
    "billing:documents_csv",
    "billing:forecast_csv",
    "billing:invoice_csv",
    "billing:invoice_pdf",
    "billing:payments_csv",
    "billing:per_number_csv",
    "numbers:spending_csv",
}


@pytest.fixture
def demo(transactional_db):
    """The demo, with something very long and a basket in it, and an organization without anything."""
    load_demo_stock()
    Demo(password="irrelevant", at=timezone.now()).load()
    organization = Organization.objects.get(slug="demo")
    owner, at = person("owner"), timezone.now()
    wordy = Application.objects.add(
        organization, name="Wordy " + "W" * 114, slug="wordy", kind="live", by=owner, at=at
    )
    Application.objects.add(organization, name="Trial", slug="trial", kind="test", by=owner, at=at)
    number = organization.phone_numbers.get(number="+12125550185")
    number.rename("Reached after hours, " + "W" * 59, by=owner, at=at)
    number.assign(wordy, by=owner, at=at)
    Hold.objects.hold(organization, owner, [("US", "+12125550142"), ("US", "+12125550143")], at=at)
    empty = Organization.objects.create(name="Empty", slug="empty")
    empty.admit(owner, Role.OWNER, by=owner, at=at)
    empty.admit(person("viewer"), Role.VIEWER, by=owner, at=at)
    return organization


def person(role):
    return User.objects.get(email=f"{role}@demo.example")


@pytest.fixture
def places(demo):
    """`places("numbers:detail demo active")` is the address of that page."""
    numbers = demo.phone_numbers
    things = {
        "active": numbers.get(number="+12125550181").public_id,
        "unassigned": numbers.get(number="+12125550184").public_id,
        "long": numbers.get(number="+12125550185").public_id,
        "locked": numbers.get(number="+18005550150").public_id,
        "releasing": numbers.get(number="+14165550121").public_id,
        "released": numbers.get(number="+12125550183").public_id,
        "test": numbers.get(number="+15005550100").public_id,
        "order": demo.orders.latest("id").public_id,
        "invoice": demo.invoices.latest("id").public_id,
        "payment": unconfirmed_payment(demo).public_id,
        **keys(demo),
    }

    def address(place):
        name, *words = place.split()
        query = words.pop() if words and words[-1].startswith("?") else ""
        return reverse(name, args=[things.get(word, word) for word in words]) + query

    return address


def unconfirmed_payment(organization):
    """One that the customer's bank asks about: the page with most on it."""
    return Payment.objects.create(
        organization=organization, order=organization.orders.latest("id"), gateway="test",
        reference="asks", amount=4003, currency=organization.currency, state="action_required",
        action_url="https://bank.example/confirm",
    )  # fmt: skip


def keys(organization):
    """A key of Storefront and one of the organization, and something its webhook was told."""
    by, at = person("owner"), timezone.now()
    storefront = organization.applications.get(slug="storefront")
    message = Delivery.objects.test(storefront.webhook, at=at).message_id
    key, _ = ApiKey.objects.issue(organization, name="Till", application=storefront, by=by, at=at)
    admin, _ = ApiKey.objects.issue(organization, name="Sync " + "W" * 60, by=by, at=at)
    ids = {"key": key.public_id, "admin_key": admin.public_id, "message": message}
    return ids | {"webhook": storefront.webhook.public_id}


def check(page):
    """Nothing to complain about in it as it is now, wide and narrow."""
    assert page.locator("h1").count() == 1
    assert re.fullmatch(r"\S.+ · \S.+", page.title())
    for width, scheme in ((1280, "light"), (360, "dark")):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        wrong = [
            (violation["id"], node["html"], node["failureSummary"])
            for violation in Axe().run(page, options=OPTIONS).response["violations"]
            for node in violation["nodes"]
        ]
        assert wrong == [], f"{width} px, {scheme}"
    for box in ("document.documentElement", "document.getElementById('dialog')"):
        assert page.evaluate(f"{box}.scrollWidth - {box}.clientWidth") <= 0, f"{box} scrolls"


def test_pages_of_an_owner(visit, places, subtests):
    page = visit(person("owner"))
    titles = {}
    for place in OWNER:
        with subtests.test(place):
            assert page.goto(places(place)).ok
            check(page)
            titles[urlsplit(page.url).path] = page.title()
    assert [title for title, count in Counter(titles.values()).items() if count > 1] == []


def test_pages_of_a_viewer(visit, places, subtests):
    page = visit(person("viewer"))
    for place in VIEWER:
        with subtests.test(place):
            assert page.goto(places(place)).ok
            check(page)
    for place, status in REFUSED.items():
        with subtests.test(place):
            assert page.goto(places(place)).status == status
            check(page)


def test_pages_before_signing_in(visit, subtests):
    page = visit()
    for place in SIGNED_OUT:
        with subtests.test(place):
            assert page.goto(reverse(place)).ok
            check(page)
    page.goto(reverse("account_login"))
    page.get_by_label("E-mail address").fill("owner@demo.example")
    page.get_by_label("Password").fill("guessed")
    page.get_by_role("button", name="Sign in").click()
    expect(page.locator(".error-summary")).to_be_focused()
    check(page)


def test_dialogs(visit, places, subtests):
    page = visit(person("owner"))
    for place, link in DIALOGS:
        with subtests.test(link, place=place):
            page.set_viewport_size({"width": 1280, "height": 900})
            page.goto(places(place))
            page.locator(f'main a[data-dialog][href$="{link}"]').first.click()
            heading = page.locator("#dialog h2").first
            expect(heading).to_be_visible()
            expect(page.get_by_role("dialog", name=heading.inner_text())).to_be_visible()
            check(page)
    with subtests.test("a delivery"):
        page.goto(places("organizations:webhooks demo storefront"))
        page.locator("#deliveries a[data-dialog]").first.click()
        expect(page.get_by_role("dialog").get_by_role("heading", name="Tries")).to_be_visible()
        check(page)
    for item in ("Change…", "New signing secret…", "Remove webhook…"):
        with subtests.test(f"of a webhook: {item}"):
            page.set_viewport_size({"width": 1280, "height": 900})
            page.goto(places("organizations:webhooks demo storefront"))
            page.get_by_role("button", name="More for").click()
            page.get_by_role("link", name=item).click()
            expect(page.locator("#dialog #question-title")).to_be_visible()
            check(page)
    with subtests.test("steps of assigning"):
        page.goto(places("numbers:application_numbers demo wordy"))
        page.locator('main a[data-dialog][href$="/assign/"]').first.click()
        dialog = page.get_by_role("dialog")
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog.locator(".error-summary")).to_be_focused()
        check(page)
        dialog.get_by_label(re.compile("555-0181")).check()
        dialog.get_by_role("button", name="Continue").click()
        expect(dialog.locator("#question-title")).to_contain_text("Assign 1 number to Wordy")
        check(page)
    with subtests.test("a form that was refused"):
        page.goto(places("organizations:application_create demo"))
        page.get_by_role("button", name="Create application").click()
        expect(page.locator(".error-summary")).to_be_focused()
        check(page)


def routes(patterns, namespace="", arguments=()):
    """`(name, arguments)` of every address."""
    for pattern in patterns:
        taken = (*arguments, *pattern.pattern.converters)
        if isinstance(pattern, URLResolver):
            inner = f"{namespace}{pattern.namespace}:" if pattern.namespace else namespace
            yield from routes(pattern.url_patterns, inner, taken)
        else:
            yield f"{namespace}{pattern.name}", taken


def test_every_page_of_an_organization_is_visited(owner_client):
    known = {place.split()[0] for place in OWNER} | PIECES
    for name, arguments in routes(get_resolver().url_patterns):
        if "org" in arguments and name not in known:
            address = reverse(name, kwargs=dict.fromkeys(arguments, "any") | {"org": "northwind"})
            assert owner_client.get(address).status_code == 405, f"{name} is a page: add it above"
