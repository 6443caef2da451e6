"""Key pages: shown once, revoked at once, asked for with a fresh proof, one key from a form sent twice."""

import re
import threading
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import pytest
from django.db import connection
from django.test import Client

from chirp_dashboard.organizations.models import Activity, ApiKey
from chirp_dashboard.organizations.models.keys import KEYS_AT_MOST, TWICE_WITHIN, MadeAlready

pytestmark = pytest.mark.django_db

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
KEYS = "/o/northwind/apps/storefront/keys/"
ADMIN_KEYS = "/o/northwind/settings/keys/"
HTMX = {"HX-Request": "true"}
PASSWORD = "correct horse battery"


@pytest.fixture
def issue(organization, storefront, owner):
    def issue(name="Till", *, application=storefront, at=NOON, **given):
        return ApiKey.objects.issue(
            organization, name=name, application=application, by=owner, at=at, **given
        )

    return issue


def text(response):
    return response.content.decode()


def use(client, secret):
    headers = {"Authorization": f"Bearer {secret}"}
    path = "/v1/organization/apps" if secret.startswith("sk_admin_") else "/v1/phone-numbers"
    return client.get(path, headers=headers).status_code


# Creating -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("page", "prefix"), [(KEYS, "sk_live_app_"), (ADMIN_KEYS, "sk_admin_")], ids=["app", "admin"]
)
def test_key_is_shown_once_and_works_until_revoked(owner_client, storefront, page, prefix):
    answer = owner_client.post(page + "create/", {"name": "Till"})
    secret = answer.context["secret"]
    assert secret.startswith(prefix)
    assert answer.headers["Cache-Control"] == "no-store"
    assert secret not in text(owner_client.get(page))
    assert use(Client(), secret) == 200
    key = ApiKey.objects.get()
    owner_client.post(f"{page}{key.public_id}/revoke/")
    assert use(Client(), secret) == 401
    assert key.preview in text(owner_client.get(page)), "among the revoked ones"


def test_form_sent_twice_makes_one_key_that_both_answers_show(
    owner_client, storefront, time_machine
):
    time_machine.move_to(NOON, tick=False)
    form = owner_client.get(KEYS + "create/").context["form"]
    sent = {"name": "Till", "once": form["once"].value()}
    first, second = (owner_client.post(KEYS + "create/", sent) for _ in range(2))
    assert first.context["secret"] == second.context["secret"]
    assert ApiKey.objects.count() == Activity.objects.filter(verb="key_created").count() == 1
    assert use(Client(), second.context["secret"]) == 200


def test_two_forms_make_two_keys(owner_client, storefront):
    forms = [owner_client.get(KEYS + "create/").context["form"] for _ in range(2)]
    for form in forms:
        owner_client.post(KEYS + "create/", {"name": "Till", "once": form["once"].value()})
    assert ApiKey.objects.count() == 2


def test_form_sent_again_later_shows_nothing(issue, owner_client):
    key, _ = issue(once="form")
    with pytest.raises(MadeAlready, match=re.escape(key.preview)):
        issue(once="form", at=NOON + TWICE_WITHIN)
    assert ApiKey.objects.count() == 1


def test_form_sent_again_after_a_revocation_makes_nothing(issue, owner):
    key, _ = issue(once="form")
    key.revoke(by=owner, at=NOON)
    with pytest.raises(MadeAlready):
        issue(once="form", at=NOON + timedelta(seconds=1))


def test_what_one_form_makes_no_other_can_make(issue, alerts, admin, organization):
    """The name, the application and the person are part of what the secret is computed from."""
    secrets = {
        issue(once="form")[1],
        issue("Other", once="form")[1],
        issue(application=alerts, once="form")[1],
        issue(application=None, once="form")[1],
        ApiKey.objects.issue(organization, name="Till", by=admin, at=NOON, once="form")[1],
        issue()[1],
        issue()[1],
    }
    assert len(secrets) == 7


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("once", ["form", ""], ids=["guarded", "negative control"])
def test_form_sent_twice_at_once_makes_one_key(issue, once):
    secrets, gate = [], threading.Barrier(4)

    def send():
        try:
            gate.wait()
            secrets.append(issue(once=once)[1])
        finally:
            connection.close()

    threads = [threading.Thread(target=send) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    expected = 1 if once else 4
    assert len(set(secrets)) == ApiKey.objects.count() == expected
    assert len(secrets) == 4


@pytest.mark.parametrize(
    ("name", "why"),
    [("", "Write a name."), ("x" * 121, "at most 120"), ("a\x07b", "control characters"),
     ("a\nb", "control characters"), ("\u202eevil", "control characters"),
     ("\u200b", "can be seen"), ("a\0b", "Null characters")],
)  # fmt: skip
def test_name_that_makes_no_sense_is_said_beside_it(owner_client, storefront, name, why):
    answer = owner_client.post(KEYS + "create/", {"name": name}, headers=HTMX)
    assert answer.status_code == 422
    assert why in str(answer.context["form"].errors["name"])
    assert not ApiKey.objects.exists()


@pytest.mark.parametrize("name", ["<script>alert(1)</script>", "مفتاح المتجر", "🔑" * 100])
def test_any_name_people_read_is_shown_as_text(owner_client, storefront, name):
    owner_client.post(KEYS + "create/", {"name": name})
    page = text(owner_client.get(KEYS))
    assert "<script>alert" not in page
    assert f"<bdi>{name.replace('<', '&lt;').replace('>', '&gt;')}</bdi>" in page


def test_too_many_keys_are_refused_with_the_list_as_it_is(owner_client, issue):
    for _ in range(KEYS_AT_MOST):
        issue()
    answer = owner_client.post(KEYS + "create/", {"name": "One more"}, headers=HTMX)
    assert answer.status_code == 409
    assert "50 keys are in use" in text(answer)
    assert 'id="keys" hx-swap-oob="true"' in text(answer)


# Revoking -------------------------------------------------------------------------------------


def test_second_revocation_is_409_with_the_row_as_it_is(owner_client, issue):
    key, _ = issue()
    path = f"{KEYS}{key.public_id}/revoke/"
    assert "close-dialog" in owner_client.post(path, headers=HTMX).headers["HX-Trigger"]
    again = owner_client.post(path, headers=HTMX)
    assert again.status_code == 409
    assert "is revoked" in text(again)
    assert 'id="keys" hx-swap-oob="true"' in text(again)
    assert owner_client.post(path).status_code == 409
    assert Activity.objects.filter(verb="key_revoked").count() == 1


def test_key_of_another_application_is_not_found(owner_client, issue, alerts):
    key, _ = issue(application=alerts)
    for path in (KEYS, ADMIN_KEYS):
        assert owner_client.post(f"{path}{key.public_id}/revoke/").status_code == 404


# Who may --------------------------------------------------------------------------------------

MAY = [
    ("owner_client", 200, 200),
    ("admin_client", 200, 200),
    ("developer_client", 200, 403),
    ("billing_client", 403, 403),
    ("viewer_client", 403, 403),
    ("rival_client", 404, 404),
]


@pytest.mark.parametrize(("client", "of_app", "of_organization"), MAY)
def test_roles(request, storefront, client, of_app, of_organization):
    client = request.getfixturevalue(client)
    for page, status in ((KEYS, of_app), (ADMIN_KEYS, of_organization)):
        assert client.get(page).status_code == status
        assert client.post(page + "create/", {"name": "Till"}).status_code == status
    assert ApiKey.objects.count() == [of_app, of_organization].count(200)


def test_tabs_offer_what_a_role_may(developer_client, viewer_client, storefront):
    page = "/o/northwind/apps/storefront/numbers/"
    assert KEYS in text(developer_client.get(page))
    assert KEYS not in text(viewer_client.get(page))


# Fresh proof ----------------------------------------------------------------------------------


@pytest.mark.parametrize("page", [KEYS, ADMIN_KEYS])
def test_stale_session_proves_itself_before_a_key(stale_client, storefront, page):
    create = page + "create/"
    asked = stale_client.get(create)
    assert asked.headers["Location"].startswith("/accounts/reauthenticate/?next=")
    dialog = stale_client.get(create, headers=HTMX)
    assert dialog.headers["HX-Redirect"] == asked.headers["Location"]
    posted = stale_client.post(create, {"name": "Till & co"})
    assert posted.status_code == 302
    assert not ApiKey.objects.exists()
    assert stale_client.get(page).status_code == 200, "looking needs no proof"
    proof = {"password": PASSWORD, "next": create + "?name=Till+%26+co"}
    assert quote(proof["next"], safe="") in posted["Location"]
    form = stale_client.post("/accounts/reauthenticate/", proof, follow=True).context["form"]
    assert form["name"].value() == "Till & co", "what was typed is kept"
    assert stale_client.post(create, {"name": "Till"}).context["secret"]


def test_wrong_password_proves_nothing(stale_client, storefront):
    stale_client.post("/accounts/reauthenticate/", {"password": "guessed"})
    assert stale_client.post(KEYS + "create/", {"name": "Till"}).status_code == 302
    assert not ApiKey.objects.exists()


def test_proof_goes_stale(stale_client, storefront, time_machine):
    time_machine.move_to(NOON, tick=False)
    stale_client.post("/accounts/reauthenticate/", {"password": PASSWORD})
    time_machine.shift(15 * 60 - 1)
    assert stale_client.get(KEYS + "create/").status_code == 200
    time_machine.shift(1)
    assert stale_client.get(KEYS + "create/").status_code == 302


# The list -------------------------------------------------------------------------------------


def test_list_says_who_made_a_key_and_when_it_was_used(owner_client, issue, owner):
    key, _ = issue()
    ApiKey.objects.filter(pk=key.pk).update(used_at=NOON)
    by_program, _ = issue("Sync")
    ApiKey.objects.filter(pk=by_program.pk).update(created_by=None)
    page = text(owner_client.get(KEYS))
    assert key.preview in page
    assert str(owner) in page
    assert "by a program" in page
    assert "Never" in page


def test_pages_take_five_queries(owner_client, issue, django_assert_max_num_queries):
    for number in range(30):
        issue(f"Key {number}")[0]
    for page in (KEYS, ADMIN_KEYS):
        with django_assert_max_num_queries(5):  # session, user, membership, application, keys
            owner_client.get(page)
