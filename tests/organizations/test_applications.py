"""Applications: created, listed, renamed; their slug and kind never change."""

from datetime import UTC, datetime

import pytest
from django.contrib.messages import get_messages

from chirp_dashboard.organizations.models import (
    Activity,
    Application,
    ApplicationArchived,
    SlugTaken,
)

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
LIST = "/o/northwind/apps/"
CREATE = "/o/northwind/apps/create/"
SETTINGS = "/o/northwind/apps/storefront/settings/"
RENAME = "/o/northwind/apps/storefront/settings/name/"
HTMX = {"HX-Request": "true"}
NEW = {"name": "Order mail", "slug": "order-mail", "kind": "live"}

EXTREMES = {
    "emoji": "Shop 🏪👩‍👩‍👧",
    "right to left": "متجر الهواتف",
    "marked up": "<script>alert(1)</script>",
    "quoted": 'O\'Brien "& sons"',
    "longest": "x" * 120,
}
REFUSED_NAMES = {
    "empty": "",
    "only spaces": "   ",
    "nothing visible": "\u200b\u200b",
    "NUL": "a\0b",
    "line break": "two\nlines",
    "turned round": "abc\u202edcb",
    "huge": "x" * 100_000,
}


def names(response):
    return [template.name for template in response.templates]


@pytest.fixture
def archived(organization):
    return Application.objects.create(
        organization=organization, name="Old shop", slug="old-shop", archived_at=NOON
    )


# The verbs


def test_created_application_leaves_an_activity_row(organization, owner):
    application = Application.objects.add(
        organization, name="Order mail", slug="order-mail", kind="live", by=owner, at=NOON
    )
    assert application.public_id.startswith("app_")
    row = Activity.objects.get()
    assert (row.verb, row.subject, row.actor) == ("created", application.public_id, owner)
    assert row.after == {"name": "Order mail", "slug": "order-mail", "kind": "live"}


def test_test_application_has_a_test_id(organization, owner):
    application = Application.objects.add(
        organization, name="Sandbox", slug="sandbox", kind="test", by=owner, at=NOON
    )
    assert application.public_id.startswith("app_test_")


def test_slug_is_taken_once_in_an_organization(organization, rival, owner, rival_owner, archived):
    facts = {"name": "Shop", "slug": "old-shop", "kind": "live", "at": NOON}
    with pytest.raises(SlugTaken, match="archived applications keep theirs"):
        Application.objects.add(organization, **facts, by=owner)
    assert Application.objects.add(rival, **facts, by=rival_owner).slug == "old-shop"
    assert Activity.objects.filter(organization=organization).count() == 0


def test_renaming_to_the_same_name_is_no_change(storefront, owner):
    storefront.rename("Storefront", by=owner, at=NOON)
    assert Activity.objects.count() == 0


def test_archived_application_cannot_be_renamed(archived, owner):
    with pytest.raises(ApplicationArchived, match="Old shop is archived"):
        archived.rename("New shop", by=owner, at=NOON)
    archived.refresh_from_db()
    assert archived.name == "Old shop"


# Creating


def test_application_is_created_from_the_page(owner_client, organization):
    response = owner_client.post(CREATE, NEW)
    application = Application.objects.get()
    assert response.headers["Location"] == "/o/northwind/apps/order-mail/numbers/"
    assert (application.name, application.kind) == ("Order mail", "live")
    assert [str(message) for message in get_messages(response.wsgi_request)] == [
        "Created Order mail."
    ]


def test_dialog_that_created_leads_to_the_application(owner_client):
    response = owner_client.post(CREATE, NEW, headers=HTMX)
    assert response.headers["HX-Redirect"] == "/o/northwind/apps/order-mail/numbers/"


def test_dialog_is_the_fragment_alone(owner_client):
    assert names(owner_client.get(CREATE, headers=HTMX))[0] == (
        "organizations/_application_create.html"
    )
    assert "organizations/application_create.html" in names(owner_client.get(CREATE))


@pytest.mark.parametrize("name", EXTREMES.values(), ids=EXTREMES)
def test_any_name_that_can_be_read_is_accepted(owner_client, name):
    owner_client.post(CREATE, {"name": name, "slug": "", "kind": "live"})
    assert Application.objects.get().name == name
    assert name in owner_client.get(LIST).context["page"].applications[0].name
    assert b"<script>alert" not in owner_client.get(LIST).content


@pytest.mark.parametrize("name", REFUSED_NAMES.values(), ids=REFUSED_NAMES)
def test_a_name_nobody_can_read_is_refused(owner_client, name):
    response = owner_client.post(CREATE, {"name": name, "slug": "fine", "kind": "test"})
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"name"}
    assert Application.objects.count() == 0
    assert b'value="fine"' in response.content
    assert b'value="test" checked' in response.content


@pytest.mark.parametrize(
    "slug", ["Shop", "shop_one", "-shop", "shop-", "shop one", "магазин", "create", "s" * 51, "a\0"]
)
def test_a_slug_that_cannot_stand_in_an_address_is_refused(owner_client, slug):
    response = owner_client.post(CREATE, NEW | {"slug": slug}, headers=HTMX)
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"slug"}
    assert b'value="Order mail"' in response.content


def test_a_taken_slug_is_refused_where_it_was_typed(owner_client, archived):
    response = owner_client.post(CREATE, NEW | {"slug": "old-shop"})
    assert response.status_code == 422
    assert "archived applications keep theirs" in response.content.decode()


def test_a_slug_taken_since_the_form_was_checked_is_refused(owner_client, storefront, monkeypatch):
    monkeypatch.setattr(
        "chirp_dashboard.organizations.forms.ApplicationForm.clean_slug",
        lambda form: form.cleaned_data["slug"],
    )
    response = owner_client.post(CREATE, NEW | {"slug": "storefront"})
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {"slug"}


@pytest.mark.parametrize(
    ("name", "slug"),
    [
        ("Order Mail", "order-mail"),
        ("Storefront", "storefront-2"),
        ("create", "create-2"),
        ("متجر", "app"),
        ("Zażółć & Söhne", "zazoc-sohne"),
        ("x" * 120, "x" * 44),
    ],
)
def test_empty_slug_is_made_from_the_name(owner_client, storefront, name, slug):
    owner_client.post(CREATE, {"name": name, "slug": "", "kind": "live"})
    assert Application.objects.exclude(pk=storefront.pk).get().slug == slug


def test_slug_follows_the_name_until_somebody_writes_their_own(owner_client, storefront):
    def suggest(**typed):
        return owner_client.get(CREATE + "slug/", typed, headers=HTMX).content.decode()

    assert 'value="storefront-2"' in suggest(name="Storefront", slug="", suggested="")
    assert 'value="shop"' in suggest(name="Shop", slug="sho", suggested="sho")
    assert 'value="mine"' in suggest(name="Shop", slug="mine", suggested="sho")


# Listing


def test_list_shows_numbers_and_where_the_webhook_points(viewer_client, storefront, alerts):
    storefront.webhooks.create(url="https://hooks.example.com/secret")
    page = viewer_client.get(LIST)
    content = page.content.decode()
    assert [row.name for row in page.context["page"].applications] == ["Alerts", "Storefront"]
    assert "hooks.example.com" in content
    assert "secret" not in content


def test_archived_applications_stand_apart(viewer_client, storefront, archived):
    assert "Old shop" not in viewer_client.get(LIST).content.decode()
    content = viewer_client.get(LIST, {"state": "archived"}).content.decode()
    assert "Old shop" in content
    assert "23 Nov 2026" in content


def test_list_is_searched(viewer_client, storefront, alerts):
    response = viewer_client.get(LIST, {"q": "STORE"}, headers=HTMX)
    assert names(response)[0] == "organizations/_application_table.html"
    assert [row.slug for row in response.context["page"].applications] == ["storefront"]
    assert "1 application" in response.headers["HX-Trigger"]


@pytest.mark.parametrize("q", ["nothing", "%", "_", "a\0", "🏪", "'; --", "x" * 5000])
def test_a_search_without_result_says_so(viewer_client, storefront, q):
    response = viewer_client.get(LIST, {"q": q})
    assert response.status_code == 200
    assert "Nothing matches" in response.content.decode()


def test_pages_follow_each_other_there_and_back(viewer_client, organization):
    Application.objects.bulk_create(
        Application(organization=organization, name=f"App {n % 7}", slug=f"app-{n:03}")
        for n in range(120)
    )
    seen, address = [], LIST
    while address:
        page = viewer_client.get(LIST + address.removeprefix(LIST)).context["page"]
        seen.append([row.slug for row in page.applications])
        address = page.older
    assert [len(slugs) for slugs in seen] == [50, 50, 20]
    assert len({slug for slugs in seen for slug in slugs}) == 120
    back = viewer_client.get(LIST + page.newer).context["page"]
    assert [row.slug for row in back.applications] == seen[1]
    assert viewer_client.get(LIST + back.newer).context["page"].newer == ""


@pytest.mark.parametrize("count", [3, 30])
def test_list_takes_five_queries(viewer_client, organization, count, django_assert_max_num_queries):
    Application.objects.bulk_create(
        Application(organization=organization, name=f"App {n}", slug=f"app-{n}")
        for n in range(count)
    )
    with django_assert_max_num_queries(5):
        viewer_client.get(LIST)


def test_empty_list_teaches_the_next_step(owner_client, viewer_client):
    assert "Create application" in owner_client.get(LIST).content.decode()
    content = viewer_client.get(LIST).content.decode()
    assert "Create application" not in content
    assert "An owner or admin" in content


# Renaming


def test_application_is_renamed(admin_client, storefront):
    response = admin_client.post(RENAME, {"name": "Shop window"})
    assert response.headers["Location"] == SETTINGS
    storefront.refresh_from_db()
    assert (storefront.name, storefront.slug) == ("Shop window", "storefront")
    assert Activity.objects.get().before == {"name": "Storefront"}


def test_refused_name_comes_back_in_its_section(admin_client, storefront):
    response = admin_client.post(RENAME, {"name": "a\0"}, headers=HTMX)
    assert response.status_code == 422
    assert names(response)[0] == "organizations/_application_name.html"
    page = admin_client.post(RENAME, {"name": ""})
    assert page.status_code == 422
    assert "organizations/application_settings.html" in names(page)


def test_renaming_what_was_archived_meanwhile_says_why(admin_client, archived):
    response = admin_client.post("/o/northwind/apps/old-shop/settings/name/", {"name": "New"})
    assert response.status_code == 409
    assert "Old shop is archived" in response.content.decode()


def test_settings_of_an_archived_application_are_read_only(owner_client, archived):
    content = owner_client.get("/o/northwind/apps/old-shop/settings/").content.decode()
    assert "Archived on 23 Nov 2026" in content
    assert "Save name" not in content
    assert "Save webhook" not in content


# Who may


@pytest.mark.parametrize("path", [RENAME, "/o/northwind/apps/storefront/webhooks/any/test/"])
def test_get_of_a_change_is_refused(owner_client, storefront, path):
    assert owner_client.get(path).status_code == 405


@pytest.mark.parametrize("client", ["developer_client", "billing_client", "viewer_client"])
def test_lesser_role_neither_creates_nor_renames(request, client, storefront):
    client = request.getfixturevalue(client)
    assert client.post(CREATE, NEW).status_code == 403
    assert client.get(CREATE).status_code == 403
    assert client.post(RENAME, {"name": "Taken over"}).status_code == 403
    storefront.refresh_from_db()
    assert storefront.name == "Storefront"
    assert client.get(LIST).status_code == 200
    assert "Save name" not in client.get(SETTINGS).content.decode()


@pytest.mark.parametrize("client", ["rival_client", "stranger_client"])
@pytest.mark.parametrize("path", [LIST, CREATE, CREATE + "slug/", SETTINGS, RENAME])
def test_applications_of_others_are_not_found(request, client, storefront, path):
    client = request.getfixturevalue(client)
    assert client.get(path).status_code == 404
    assert client.post(path, NEW).status_code == 404


def test_application_of_another_organization_is_not_found(owner_client, rival_application):
    assert owner_client.get("/o/northwind/apps/rival-app/settings/").status_code == 404


def test_nobody_sees_applications_without_signing_in(client, storefront):
    assert client.get(LIST).status_code == 302
