"""Signing in and out, and the pages about one's own account, drawn by django-allauth in our dress."""

import re
import time

import pytest
from allauth.mfa.totp.internal import auth
from axe_playwright_python.sync_playwright import Axe
from django.core import mail
from django.urls import reverse

SIGNED_OUT = ["account_login", "account_reset_password", "account_reset_password_done"]
SIGNED_IN = ["account_logout", "account_change_password", "account_email", "mfa_index"]
PASSWORD = "a password of our own"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


@pytest.fixture
def owner(owner):
    owner.set_password(PASSWORD)
    owner.save(update_fields=["password"])
    return owner


@pytest.fixture
def signed_in_client(client, owner):
    """Signed in through the form, as people are, so that the proof is fresh."""
    client.post(reverse("account_login"), {"login": owner.email, "password": PASSWORD})
    return client


def headings(response):
    return re.findall(r"<h1>(.*?)</h1>", response.content.decode())


@pytest.mark.django_db
@pytest.mark.parametrize("page", SIGNED_OUT)
def test_signed_out_page_has_one_heading_that_is_its_title(client, page):
    response = client.get(reverse(page))
    assert response.status_code == 200
    assert [
        f"<title>{heading} ·" in response.content.decode() for heading in headings(response)
    ] == [True]


@pytest.mark.parametrize("page", SIGNED_IN)
def test_signed_in_page_has_one_heading_that_is_its_title(signed_in_client, page):
    response = signed_in_client.get(reverse(page))
    assert response.status_code == 200
    assert [
        f"<title>{heading} ·" in response.content.decode() for heading in headings(response)
    ] == [True]


def test_signing_in_says_nothing_and_leads_home(client, owner):
    response = client.post(reverse("account_login"), {"login": owner.email, "password": PASSWORD})
    assert response.url == reverse("organizations:home")
    assert list(response.wsgi_request._messages) == []


def test_wrong_password_keeps_the_address_and_says_so_on_top(client, owner):
    response = client.post(reverse("account_login"), {"login": owner.email, "password": "wrong"})
    page = response.content.decode()
    assert 'class="error-summary"' in page
    assert f'value="{owner.email}"' in page
    assert "wrong" not in re.findall(r'value="([^"]*)"', page)


def test_signing_out_is_a_form(signed_in_client):
    assert 'method="post"' in signed_in_client.get(reverse("account_logout")).content.decode()
    signed_in_client.post(reverse("account_logout"))
    assert "_auth_user_id" not in signed_in_client.session


def test_password_is_changed(signed_in_client, owner):
    answers = {
        "oldpassword": PASSWORD,
        "password1": "a much longer one",
        "password2": "a much longer one",
    }
    signed_in_client.post(reverse("account_change_password"), answers)
    owner.refresh_from_db()
    assert owner.check_password("a much longer one")


def test_forgotten_password_is_replaced_through_the_mailed_link(client, owner):
    client.post(reverse("account_reset_password"), {"email": owner.email})
    link = re.search(r"https?://[^/\s]+(/accounts/password/reset/key/\S+)", mail.outbox[0].body)[1]
    page = client.get(link, follow=True)
    assert headings(page) == ["Choose a new password"]
    answers = {"password1": "a much longer one", "password2": "a much longer one"}
    done = client.post(page.wsgi_request.path, answers, follow=True)
    assert headings(done) == ["Your password is changed"]
    assert headings(client.get(link, follow=True)) == ["This link no longer works"]


def test_nobody_signs_up(client, db):
    assert headings(client.get(reverse("account_signup"))) == ["Nobody signs up here"]


def test_second_step_asks_for_the_password_again_and_then_for_a_code(signed_in_client):
    activate = reverse("mfa_activate_totp")
    question = signed_in_client.get(activate, follow=True)
    assert headings(question) == ["Confirm that it is you"]
    page = signed_in_client.post(
        reverse("account_reauthenticate"), {"password": PASSWORD, "next": activate}, follow=True
    )
    assert headings(page) == ["Set up an authenticator app"]
    refused = signed_in_client.post(activate, {"code": "000000"})
    assert 'class="error-summary"' in refused.content.decode()


def test_second_step_once_set_up_is_asked_for_at_sign_in(signed_in_client, owner, time_machine):
    time_machine.move_to("2026-11-23 12:00Z", tick=False)
    activate = reverse("mfa_activate_totp")
    signed_in_client.post(
        reverse("account_reauthenticate"), {"password": PASSWORD, "next": activate}
    )
    secret = signed_in_client.get(activate).context["form"].secret
    codes = signed_in_client.post(activate, {"code": code(secret)}, follow=True)
    assert headings(codes) == ["Recovery codes"]
    assert codes.content.decode().count("</pre>") == 1
    signed_in_client.post(reverse("account_logout"))
    answers = {"login": owner.email, "password": PASSWORD}
    time_machine.shift(30)  # a code is taken once
    question = signed_in_client.post(reverse("account_login"), answers, follow=True)
    assert headings(question) == ["Enter your code"]
    signed_in_client.post(question.wsgi_request.path, {"code": code(secret)})
    assert signed_in_client.session["_auth_user_id"] == str(owner.pk)


def code(secret):
    """What the authenticator app shows now."""
    return auth.format_hotp_value(auth.hotp_value(secret, int(time.time()) // 30))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_on_account_pages(visit, owner, scheme):
    axe = Axe()
    for user, names in ((None, SIGNED_OUT), (owner, ["account_change_password", "account_email"])):
        page = visit(user, scheme=scheme)
        for name in names:
            page.goto(reverse(name))
            found = axe.run(page, options={"runOnly": RULES}).response["violations"]
            assert [(name, violation["id"]) for violation in found] == []
