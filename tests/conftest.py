import os
import shutil
import socket
import time
from pathlib import Path

import pytest
from django.conf import settings
from django.core.servers.basehttp import WSGIServer
from django.db import connection
from django.db.backends.postgresql.operations import DatabaseOperations
from django.test import Client

from chirp_dashboard.organizations.models import Application, Membership, Organization, User
from chirp_dashboard.organizations.permissions import Role

EVERYTHING_REQUIRED = bool(os.environ.get("REQUIRE_EVERYTHING"))
PASSWORD = "correct horse battery"

# Playwright's synchronous API runs an event loop in this thread; the ORM would refuse to work beside it.
os.environ["DJANGO_ALLOW_ASYNC_UNSAFE"] = "true"
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]


# The database ---------------------------------------------------------------------------------


def execute_sql_flush(self, sql_list):
    """Empty insert-only tables too, whose triggers refuse it, and the queue's, which Django does not know."""
    queue = [
        name
        for name in self.connection.introspection.table_names()
        if name.startswith("procrastinate_")
    ]
    with self.connection.cursor() as cursor:
        cursor.execute("SET session_replication_role = replica")
        try:
            for statement in sql_list:
                cursor.execute(statement)
            if queue:
                cursor.execute(f"TRUNCATE {', '.join(queue)} RESTART IDENTITY CASCADE")
        finally:
            cursor.execute("SET session_replication_role = DEFAULT")


DatabaseOperations.execute_sql_flush = execute_sql_flush


@pytest.fixture
def database_url(transactional_db):
    """The address of the test database, for processes of their own."""
    parameters = connection.get_connection_params()
    host, user = parameters["host"], parameters["user"]
    return f"postgresql://{user}@/{parameters['dbname']}?host={host}"


@pytest.fixture
def process_environment(database_url, tmp_path):
    """The environment of another process of the product that works on the test database."""
    return {
        "PATH": os.environ["PATH"],
        "DATABASE_URL": database_url,
        "DATA_DIR": str(tmp_path / "data"),
        "SECRET_KEY": settings.SECRET_KEY,
        "API_KEY_PEPPER": settings.API_KEY_PEPPER,
    }


# Fifty buyers arrive at once; Django's test server would turn some of them away at the door.
WSGIServer.request_queue_size = 128


# The network ----------------------------------------------------------------------------------

connect = socket.socket.connect


def connect_locally(self, address):
    if self.family != socket.AF_UNIX and address[0] not in {"127.0.0.1", "::1", "localhost"}:
        raise PermissionError(f"Tests stay on this machine; refused to connect to {address}.")
    return connect(self, address)


socket.socket.connect = connect_locally


# People ---------------------------------------------------------------------------------------


@pytest.fixture
def organization(db):
    return Organization.objects.create(name="Northwind", slug="northwind")


@pytest.fixture
def rival(db):
    """Another organization, whose things nobody of ours may see."""
    return Organization.objects.create(name="Rival", slug="rival")


@pytest.fixture
def storefront(organization):
    return Application.objects.create(
        organization=organization, name="Storefront", slug="storefront"
    )


@pytest.fixture
def alerts(organization):
    return Application.objects.create(organization=organization, name="Alerts", slug="alerts")


@pytest.fixture
def rival_application(rival):
    return Application.objects.create(organization=rival, name="Rival app", slug="rival-app")


def member(organization, role):
    user = User.objects.create_user(f"{role}@{organization.slug}.example", PASSWORD)
    Membership.objects.create(organization=organization, user=user, role=role)
    return user


@pytest.fixture
def owner(organization):
    return member(organization, Role.OWNER)


@pytest.fixture
def admin(organization):
    return member(organization, Role.ADMIN)


@pytest.fixture
def developer(organization):
    return member(organization, Role.DEVELOPER)


@pytest.fixture
def billing_person(organization):
    return member(organization, Role.BILLING)


@pytest.fixture
def viewer(organization):
    return member(organization, Role.VIEWER)


@pytest.fixture
def rival_owner(rival):
    return member(rival, Role.OWNER)


@pytest.fixture
def stranger(db):
    """Somebody who can sign in and is a member of nothing."""
    return User.objects.create_user("stranger@elsewhere.example", PASSWORD)


@pytest.fixture
def operator(db):
    """Who runs the deployment: everything in the Django admin."""
    return User.objects.create_superuser("operator@chirp.example", PASSWORD)


def signed_in(user):
    """A client that has just signed in as `user`, with the password."""
    client = Client()
    client.force_login(user)
    session = client.session
    session["account_authentication_methods"] = [{"method": "password", "at": time.time()}]
    session["account_authentication_methods_user"] = str(user.pk)
    session.save()
    return client


@pytest.fixture
def owner_client(owner):
    return signed_in(owner)


@pytest.fixture
def admin_client(admin):
    return signed_in(admin)


@pytest.fixture
def developer_client(developer):
    return signed_in(developer)


@pytest.fixture
def billing_client(billing_person):
    return signed_in(billing_person)


@pytest.fixture
def viewer_client(viewer):
    return signed_in(viewer)


@pytest.fixture
def rival_client(rival_owner):
    return signed_in(rival_owner)


@pytest.fixture
def stranger_client(stranger):
    return signed_in(stranger)


@pytest.fixture
def stale_client(owner):
    """The owner, who proved the password too long ago to be given a secret."""
    client = Client()
    client.force_login(owner)
    return client


@pytest.fixture
def operator_client(operator):
    return signed_in(operator)


# The browser ----------------------------------------------------------------------------------


def chromium_path():
    """The browser to drive: CHROMIUM, the system's, or None for Playwright's own."""
    named = os.environ.get("CHROMIUM")
    return named or shutil.which("chromium") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def browser():
    # Module scope: Playwright's event loop, left running, would break every later asyncio.run().
    from playwright.sync_api import Error, expect, sync_playwright

    expect.set_options(timeout=20_000)  # a busy machine is slow, not wrong
    with sync_playwright() as playwright:
        path = chromium_path() or playwright.chromium.executable_path
        if not Path(path).exists():
            unavailable("no Chromium: install one, or name it in CHROMIUM")
        try:
            browser = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            unavailable(f"{path} does not start: {str(error).splitlines()[0]}")
        yield browser
        browser.close()


def unavailable(reason):
    """Skip what this machine cannot run; where everything is required, fail."""
    if EVERYTHING_REQUIRED:
        pytest.fail(f"REQUIRE_EVERYTHING is set and there is {reason}", pytrace=False)
    pytest.skip(reason)


class Visit:
    """Opens pages of the live server and remembers everything that went wrong in them."""

    def __init__(self, browser, address):
        self.browser = browser
        self.address = address
        self.contexts = []
        self.complaints = []

    def __call__(self, user=None, *, path=None, javascript=True, width=1280, scheme="light"):
        """A page of a fresh browser profile, signed in as `user`."""
        context = self.browser.new_context(
            base_url=self.address,
            java_script_enabled=javascript,
            viewport={"width": width, "height": 900},
            color_scheme=scheme,
            reduced_motion="reduce",  # nothing is looked at while it fades in
        )
        context.set_default_timeout(20_000)
        self.contexts.append(context)
        if user:
            cookie = signed_in(user).cookies[settings.SESSION_COOKIE_NAME].value
            context.add_cookies(
                [{"name": settings.SESSION_COOKIE_NAME, "value": cookie, "url": self.address}]
            )
        page = context.new_page()
        page.on("console", self.on_console)
        page.on("pageerror", lambda error: self.complaints.append(f"script: {error}"))
        page.on("response", self.on_response)
        if path:
            page.goto(path)
        return page

    def on_console(self, message):
        refused = message.text.startswith("Failed to load resource")  # judged in on_response
        if message.type in {"error", "warning"} and not refused:
            self.complaints.append(f"console {message.type}: {message.text}")

    def on_response(self, response):
        missing_file = response.status == 404 and settings.STATIC_URL in response.url
        if response.status >= 500 or missing_file:
            self.complaints.append(f"{response.status} {response.url}")


@pytest.fixture
def visit(browser, live_server):
    """`page = visit(owner, path="/o/northwind/")`: a browser page that fails the test on any error in it."""
    visit = Visit(browser, live_server.url)
    yield visit
    for context in visit.contexts:
        context.close()
    assert visit.complaints == []


LONGEST = ["test_accessibility.py", "test_dev.py", "test_billing_in_browser.py", "test_stateful.py"]
"""They take a minute and more: begun first, so that no process waits for another at the end."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items):
    for item in items:
        if "browser" in item.fixturenames:
            item.add_marker("browser")
    items.sort(key=lambda item: item.path.name not in LONGEST)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    if skipped:
        terminalreporter.section("NOT TESTED ON THIS MACHINE", sep="!")
        for report in skipped:
            reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else ""
            terminalreporter.write_line(f"{report.nodeid}: {reason.removeprefix('Skipped: ')}")
