"""Applications, settings and the admin in Chromium: with script and without, wide and narrow."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import expect

from chirp_dashboard.organizations.models import Application

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
PAGES = [
    "/?choose",
    "/o/northwind/apps/",
    "/o/northwind/apps/create/",
    "/o/northwind/apps/storefront/settings/",
    "/o/northwind/apps/storefront/webhooks/",
    "/o/northwind/apps/storefront/webhooks/create/",
    "/o/northwind/apps/storefront/archive/",
    "/o/northwind/settings/",
    "/o/northwind/",
]
ADMIN = [
    "",
    "organizations/user/add/",
    "organizations/organization/",
    "numbers/inventorynumber/add/",
]


def test_application_is_created_in_the_dialog(visit, owner, storefront):
    page = visit(owner, path="/o/northwind/apps/")
    page.get_by_role("link", name="Create application").click()
    dialog = page.get_by_role("dialog", name="Create application")
    dialog.get_by_label("Name").fill("Storefront")
    slug = dialog.get_by_label("Slug")
    expect(slug).to_have_value("storefront-2")
    expect(dialog.get_by_label("Name")).to_be_focused()
    slug.fill("Wrong slug")
    dialog.get_by_label("Name").fill("Storefront of Berlin")
    dialog.get_by_role("button", name="Create application").click()
    expect(dialog.get_by_role("alert")).to_contain_text("lower-case letters")
    expect(slug).to_have_value("Wrong slug")
    expect(dialog.get_by_label("Name")).to_have_value("Storefront of Berlin")
    slug.fill("berlin")
    dialog.get_by_role("button", name="Create application").click()
    page.wait_for_url("**/o/northwind/apps/berlin/numbers/")
    assert Application.objects.get(slug="berlin").name == "Storefront of Berlin"


def test_escape_keeps_what_was_typed(visit, owner, storefront):
    page = visit(owner, path="/o/northwind/apps/")
    page.get_by_role("link", name="Create application").click()
    page.get_by_role("dialog").get_by_label("Name").fill("Half a name")
    page.keyboard.press("Escape")
    expect(page.get_by_role("dialog").get_by_label("Name")).to_have_value("Half a name")
    page.get_by_role("dialog").get_by_role("link", name="Cancel").click()
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(page.get_by_role("link", name="Create application")).to_be_focused()


def test_application_is_archived_in_the_dialog(visit, owner, storefront):
    page = visit(owner, path="/o/northwind/apps/storefront/settings/")
    page.get_by_role("link", name="Archive Storefront…").click()
    page.get_by_role("dialog").get_by_role("button", name="Archive Storefront").click()
    page.wait_for_url("**/o/northwind/apps/")
    expect(page.locator("#toasts")).to_contain_text("Archived Storefront.")


def test_settings_are_saved_in_place(visit, owner):
    page = visit(owner, path="/o/northwind/settings/")
    page.get_by_label("Name").fill("")
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_role("alert").filter(has_text="Write a name.")).to_be_visible()
    page.get_by_label("Name").fill("Northwind Traders")
    page.get_by_label("Time zone").select_option("America/Chicago")
    page.get_by_role("button", name="Save settings").click()
    expect(page.locator("#toasts")).to_contain_text("Settings saved.")
    expect(page.get_by_label("Time zone")).to_have_value("America/Chicago")


def test_everything_works_without_script(visit, owner):
    page = visit(owner, path="/o/northwind/apps/", javascript=False)
    page.get_by_role("link", name="Create application").first.click()
    page.get_by_label("Name").fill("Order mail")
    page.get_by_role("button", name="Create application").click()
    page.goto("/o/northwind/apps/order-mail/settings/")
    page.get_by_label("Name").fill("Order letters")
    page.get_by_role("button", name="Save name").click()
    expect(page.locator("#toasts")).to_contain_text("Name saved.")
    page.get_by_role("link", name="Archive Order letters…").click()
    page.get_by_role("button", name="Archive Order letters").click()
    expect(page.locator("#toasts")).to_contain_text("Archived Order letters.")


def test_pages_have_no_barrier_and_no_sideways_scroll(visit, owner, storefront, alerts):
    storefront.webhooks.create(url="https://hooks.example.com/")
    page = visit(owner, width=360)
    for path in PAGES:
        page.goto(path)
        found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
        assert found.violations_count == 0, f"{path}\n{found.generate_report()}"
        assert page.evaluate("document.documentElement.scrollWidth") <= 360, path


def test_dialog_has_no_barrier(visit, owner):
    page = visit(owner, path="/o/northwind/apps/")
    page.get_by_role("link", name="Create application").first.click()
    page.get_by_role("dialog").get_by_label("Name").fill("A")
    found = Axe().run(page, options={"runOnly": {"type": "tag", "values": RULES}})
    assert found.violations_count == 0, found.generate_report()


def test_admin_keeps_to_the_content_security_policy(visit, operator, organization):
    page = visit(operator)
    for path in [*ADMIN, f"organizations/organization/{organization.pk}/change/"]:
        page.goto(f"/admin/{path}")  # a refused script or style is an error of the console
        expect(page.get_by_role("heading", level=1)).to_be_visible()
