"""Keys and webhooks in Chromium: with script and without, with the mouse and from the keyboard."""

import re

import pytest
from django.test import Client
from playwright.sync_api import expect

from chirp_dashboard.organizations import sending
from chirp_dashboard.organizations.models import ApiKey, Delivery, Webhook

from ..api.receiver import Receiver

pytestmark = pytest.mark.django_db(transaction=True)

KEYS = "/o/northwind/apps/storefront/keys/"
ADMIN_KEYS = "/o/northwind/settings/keys/"
WEBHOOKS = "/o/northwind/apps/storefront/webhooks/"


def use(secret):
    path = "/v1/organization/apps" if secret.startswith("sk_admin_") else "/v1/phone-numbers"
    return Client().get(path, headers={"Authorization": f"Bearer {secret}"}).status_code


@pytest.mark.parametrize("path", [KEYS, ADMIN_KEYS], ids=["app", "admin"])
def test_life_of_a_key(visit, owner, storefront, path):
    page = visit(owner, path=path)
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.get_by_role("link", name="Create key").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_role("button", name="Create key").click()
    expect(dialog.get_by_role("alert")).to_contain_text("Write a name.")
    dialog.get_by_label("Name").fill("Till")
    dialog.get_by_role("button", name="Create key").click()
    secret = dialog.locator("#secret").inner_text()
    expect(page.locator("#keys")).to_contain_text("Till")
    page.on("dialog", lambda question: question.dismiss())
    for _ in range(4):
        with page.expect_event("dialog"):
            page.keyboard.press(
                "Escape"
            )  # a key nobody copied is not lost by a slip, nor by several
        expect(dialog.locator("#secret")).to_have_text(secret)
    dialog.get_by_role("button", name="Copy").click()
    expect(page.locator("#live")).to_have_text("Copied: the key")
    assert page.evaluate("navigator.clipboard.readText()") == secret
    page.keyboard.press("Escape")
    expect(page.locator("#dialog")).to_be_empty()  # it closes a moment before it is emptied
    assert secret not in page.content()
    page.reload()
    assert secret not in page.content()
    assert use(secret) == 200
    page.get_by_role("link", name="Revoke… Till").click()
    dialog.get_by_role("button", name="Revoke Till").click()
    expect(page.locator("#toasts")).to_contain_text("Revoked Till.")
    expect(page.locator("#keys .empty")).to_be_visible()
    assert use(secret) == 401


def test_life_of_a_key_without_script(visit, owner, storefront):
    page = visit(owner, path=KEYS, javascript=False, width=360)
    page.get_by_role("link", name="Create key").click()
    page.get_by_label("Name").fill("Till")
    page.get_by_role("button", name="Create key").click()
    secret = page.locator("#secret").inner_text()
    assert use(secret) == 200
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    page.get_by_role("link", name="Done").click()
    expect(page.get_by_role("link", name="Revoke… Till")).to_be_visible()
    assert secret not in page.content()
    page.get_by_role("link", name="Revoke… Till").click()
    page.get_by_role("button", name="Revoke Till").click()
    expect(page.locator("#toasts")).to_contain_text("Revoked Till.")
    assert use(secret) == 401


def test_key_is_created_and_revoked_from_the_keyboard(visit, owner, storefront):
    page = visit(owner, path=KEYS)
    opener = page.get_by_role("link", name="Create key")
    opener.focus()
    page.keyboard.press("Enter")
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_label("Name")).to_be_focused()
    page.keyboard.type("Till")
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("button", name="Copy")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Tab")
    expect(dialog.get_by_role("link", name="Done")).to_be_focused()
    page.keyboard.press("Enter")
    expect(dialog).to_be_hidden()
    expect(opener).to_be_focused()
    page.get_by_role("link", name="Revoke… Till").focus()
    page.keyboard.press("Enter")
    expect(dialog.get_by_role("link", name="Keep it")).to_be_focused()
    page.keyboard.press("Shift+Tab")
    expect(dialog.get_by_role("button", name="Revoke Till")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#toasts")).to_contain_text("Revoked Till.")
    assert ApiKey.objects.in_use().count() == 0


def test_stale_session_is_asked_for_the_password_and_led_back(visit, owner, storefront):
    page = visit(path="/accounts/login/")
    client = Client()
    client.force_login(owner)
    cookie = {"name": "sessionid", "value": client.cookies["sessionid"].value}
    page.context.add_cookies([cookie | {"url": page.url.partition("/accounts/")[0]}])
    page.goto(KEYS)
    page.get_by_role("link", name="Create key").click()
    page.wait_for_url("**/accounts/reauthenticate/**")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Continue").click()
    page.wait_for_url(f"**{KEYS}create/")
    page.get_by_label("Name").fill("Till")
    page.get_by_role("button", name="Create key").click()
    expect(page.locator("#secret")).to_have_text(re.compile("^sk_live_app_"))


@pytest.fixture
def receiver(tmp_path, monkeypatch, storefront):
    receiver = Receiver(tmp_path)
    monkeypatch.setattr(sending, "make_client", receiver.client)
    storefront.webhooks.create(url=receiver.url, events=[])
    yield receiver
    receiver.close()


@pytest.mark.parametrize("javascript", [True, False], ids=["script", "no script"])
def test_story_of_a_delivery(visit, developer, receiver, javascript):
    receiver.answers = [500, 200]
    page = visit(developer, path=WEBHOOKS, javascript=javascript)
    page.get_by_role("button", name="Send test event").click()
    row = page.locator("#deliveries tbody tr")
    expect(row).to_contain_text("on its way")
    assert sending.send_due() == 1
    Delivery.objects.update(state="failed", next_try_at=None)
    if not javascript:
        page.reload()
    expect(row).to_contain_text("Failed")  # with script the page asks by itself
    expect(row).to_contain_text("500")
    page.get_by_role("link", name="webhook.test").click()
    opened = page.get_by_role("dialog") if javascript else page.get_by_role("main")
    expect(opened).to_contain_text('"event": "webhook.test"')
    opened.get_by_role("button", name="Redeliver").click()
    expect(page.locator("#toasts")).to_contain_text("is sent again")
    assert sending.send_due() == 1
    if not javascript:
        page.reload()
    expect(row).to_contain_text("Delivered")


def test_webhook_is_added_in_the_dialog_and_its_secret_rotated(visit, developer, storefront):
    page = visit(developer, path=WEBHOOKS)
    page.on("dialog", lambda question: question.accept())
    page.get_by_role("link", name="Add webhook").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("URL").fill("http://hooks.example.com/")
    dialog.get_by_label("Headers").fill("X-Token: hush")
    dialog.get_by_role("button", name="Add webhook").click()
    expect(dialog.get_by_role("alert")).to_contain_text("https://")
    expect(dialog.get_by_label("Headers")).to_have_value("X-Token: hush")
    dialog.get_by_label("URL").fill("https://hooks.example.com/")
    dialog.get_by_role("button", name="Add webhook").click()
    first = dialog.locator("#secret").inner_text()
    expect(page.locator("#webhooks table")).to_contain_text("hooks.example.com")
    dialog.get_by_role("link", name="Done").click()
    page.get_by_role("button", name="More for hooks.example.com").click()
    page.get_by_role("link", name="New signing secret…").click()
    dialog.get_by_role("button", name="Make new secret").click()
    secret = dialog.locator("#secret")
    expect(secret).not_to_have_text(first)
    expect(secret).to_have_text(re.compile("^whsec_"))
    expect(page.locator("#webhooks")).to_contain_text("the one before signs too")
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="More for hooks.example.com").click()
    page.get_by_role("link", name="Remove webhook…").click()
    dialog.get_by_role("button", name="Remove webhook").click()
    expect(page.locator("#toasts")).to_contain_text("Webhook removed.")
    assert not Webhook.objects.exists()


def test_log_is_narrowed_without_script(visit, developer, receiver, storefront):
    Delivery.objects.test(storefront.webhook, at=Webhook.objects.get().created_at)
    page = visit(developer, path=WEBHOOKS, javascript=False)
    page.get_by_label("State").select_option("failed")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_role("heading", name="No delivery matches")).to_be_visible()
    page.get_by_role("link", name="Clear filters").click()
    expect(page.locator("#deliveries tbody tr")).to_have_count(1)
