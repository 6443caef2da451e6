"""The admin for people, organizations and applications: through the verbs, never round them."""

from datetime import UTC, datetime

import pytest
from django.contrib import admin
from django.db import connection
from django.test.utils import CaptureQueriesContext

from chirp_dashboard.organizations.models import (
    Activity,
    ApiKey,
    Application,
    Delivery,
    Membership,
    Organization,
    User,
)
from chirp_dashboard.organizations.operating import COUNTED_TO, CappedPaginator

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
HOME = "/admin/organizations/"
SECRET = "a long enough secret"


def no_inline(prefix, *, total=0):
    return {f"{prefix}-TOTAL_FORMS": str(total), f"{prefix}-INITIAL_FORMS": "0"}


def membership_rows(*rows, existing=0):
    """What the browser sends for the membership rows below an organization or a person."""
    sent = {
        "memberships-TOTAL_FORMS": str(len(rows)),
        "memberships-INITIAL_FORMS": str(existing),
    }
    for index, row in enumerate(rows):
        sent |= {f"memberships-{index}-{name}": str(value) for name, value in row.items()}
    return sent


def organization_fields(organization, **changes):
    return {
        "name": organization.name,
        "currency": organization.currency,
        "time_zone": organization.time_zone,
        "billing_day": organization.billing_day,
        "gateway": organization.gateway,
        "tax_rate": "0",
        "credit_limit": "",
        "daily_spend_cap": "",
    } | changes


# Signing in


def test_operator_signs_in_where_everybody_does(client, db):
    response = client.get("/admin/", follow=True)
    assert response.redirect_chain[-1][0].startswith("/accounts/login/?next=")


def test_no_member_reaches_the_admin(owner_client):
    response = owner_client.get("/admin/organizations/user/", follow=True)
    assert response.status_code == 403


# People


def test_operator_adds_a_person_and_sets_the_password(operator_client, client):
    response = operator_client.post(
        HOME + "user/add/",
        {
            "email": " Ada@Northwind.Example ",
            "name": "Ada",
            "usable_password": "true",
            "password1": SECRET,
            "password2": SECRET,
        },
    )
    user = User.objects.get(email="ada@northwind.example")
    assert response.status_code == 302
    assert user.check_password(SECRET)
    assert client.login(email="ada@northwind.example", password=SECRET)


def test_the_same_address_in_capitals_is_somebody_there_already(operator_client, owner):
    response = operator_client.post(
        HOME + "user/add/",
        {
            "email": owner.email.upper(),
            "usable_password": "true",
            "password1": SECRET,
            "password2": SECRET,
        },
    )
    assert "exists already" in response.content.decode()
    assert User.objects.filter(email__iexact=owner.email).count() == 1


def test_person_is_edited_with_their_organizations(operator_client, owner, rival, operator):
    page = HOME + f"user/{owner.pk}/change/"
    assert operator_client.get(page).status_code == 200
    membership = owner.memberships.get()
    operator_client.post(
        page,
        {"email": owner.email, "name": "Ada Owner", "is_active": "on"}
        | membership_rows(
            {"id": membership.pk, "user": owner.pk, "role": "admin"},
            {"user": owner.pk, "organization": rival.pk, "role": "viewer"},
            existing=1,
        ),
    )
    owner.refresh_from_db()
    assert owner.name == "Ada Owner"
    assert set(owner.memberships.values_list("organization__slug", "role")) == {
        ("northwind", "admin"),
        ("rival", "viewer"),
    }
    changed = Activity.objects.get(verb="role_changed")
    assert (changed.before, changed.after) == ({"role": "owner"}, {"role": "admin"})
    assert changed.actor == operator
    assert Activity.objects.get(verb="member_added").organization == rival


def test_person_is_never_deleted(operator_client, owner):
    assert operator_client.post(HOME + f"user/{owner.pk}/delete/").status_code == 403


# Organizations and memberships


def test_operator_adds_an_organization(operator_client):
    fields = {
        "name": "Contoso",
        "slug": "contoso",
        "currency": "EUR",
        "time_zone": "Europe/Berlin",
        "billing_day": "31",
        "gateway": "account",
        "tax_rate": "0",
        "credit_limit": "100000",
        "daily_spend_cap": "",
    }
    operator_client.post(HOME + "organization/add/", fields)
    assert Organization.objects.get(slug="contoso").credit_limit == 100_000


def test_people_are_added_below_their_organization(operator_client, organization, stranger):
    operator_client.post(
        HOME + f"organization/{organization.pk}/change/",
        organization_fields(organization, credit_limit="500000")
        | membership_rows({"organization": organization.pk, "user": stranger.pk, "role": "billing"})
        | no_inline("applications"),
    )
    assert Membership.objects.get().role == "billing"
    assert set(Activity.objects.values_list("verb", flat=True)) == {
        "member_added",
        "settings_changed",
    }


def test_a_row_cannot_be_turned_into_another_person(operator_client, owner, stranger, organization):
    membership = owner.memberships.get()
    operator_client.post(
        HOME + f"organization/{organization.pk}/change/",
        organization_fields(organization)
        | membership_rows(
            {
                "id": membership.pk,
                "organization": organization.pk,
                "user": stranger.pk,
                "role": "owner",
            },
            existing=1,
        )
        | no_inline("applications"),
    )
    assert [m.user for m in Membership.objects.all()] == [owner]


def test_a_member_is_taken_out_with_a_trace(operator_client, viewer, organization):
    membership = viewer.memberships.get()
    operator_client.post(
        HOME + f"organization/{organization.pk}/change/",
        organization_fields(organization)
        | membership_rows(
            {
                "id": membership.pk,
                "organization": organization.pk,
                "user": viewer.pk,
                "role": "viewer",
                "DELETE": "on",
            },
            existing=1,
        )
        | no_inline("applications"),
    )
    assert Membership.objects.count() == 0
    assert Activity.objects.get(verb="member_removed").subject == viewer.email


def test_membership_pages_go_through_the_verbs(operator_client, organization, stranger):
    page = HOME + "membership/"
    fields = {"organization": organization.pk, "user": stranger.pk, "role": "viewer"}
    operator_client.post(page + "add/", fields)
    membership = Membership.objects.get()
    operator_client.post(page + f"{membership.pk}/change/", fields | {"role": "developer"})
    membership.refresh_from_db()
    assert membership.role == "developer"
    operator_client.post(page + f"{membership.pk}/delete/", {"post": "yes"})
    assert Membership.objects.count() == 0
    assert list(Activity.objects.order_by("id").values_list("verb", flat=True)) == [
        "member_added",
        "role_changed",
        "member_removed",
    ]


def test_terms_of_a_billed_organization_are_read_only(operator_client, organization, owner):
    organization.orders.create(
        placed_by=owner, placed_at=NOON, placed_on=NOON.date(), total=0, currency="USD"
    )
    page = HOME + f"organization/{organization.pk}/change/"
    assert 'name="currency"' not in operator_client.get(page).content.decode()
    operator_client.post(
        page,
        organization_fields(organization, currency="EUR", name="Renamed")
        | membership_rows()
        | no_inline("applications"),
    )
    organization.refresh_from_db()
    assert (organization.name, organization.currency) == ("Renamed", "USD")


def test_organization_is_never_deleted(operator_client, organization):
    page = HOME + f"organization/{organization.pk}/delete/"
    assert operator_client.post(page, {"post": "yes"}).status_code == 403


# Applications, webhooks, activity


def test_operator_adds_and_renames_an_application(operator_client, organization, operator):
    fields = {"name": "Shop", "slug": "shop", "organization": organization.pk, "kind": "test"}
    operator_client.post(HOME + "application/add/", fields)
    application = Application.objects.get()
    assert application.public_id.startswith("app_test_")
    operator_client.post(
        HOME + f"application/{application.pk}/change/",
        fields | {"name": "Store", "slug": "x"} | no_inline("webhooks"),
    )
    application.refresh_from_db()
    assert (application.name, application.slug) == ("Store", "shop")
    assert [row.verb for row in Activity.objects.order_by("id")] == ["created", "renamed"]


def test_taken_slug_is_said_in_the_form(operator_client, storefront, organization):
    response = operator_client.post(
        HOME + "application/add/",
        {"name": "Shop", "slug": "storefront", "organization": organization.pk, "kind": "live"},
    )
    assert response.status_code == 200
    assert "archived applications keep theirs" in response.content.decode()


def test_header_values_are_not_shown(operator_client, storefront, owner):
    webhook = storefront.set_webhook(
        url="https://hooks.example.com/a",
        events=[],
        headers={"X-Token": "hush"},
        by=owner,
        at=NOON,
    )
    for page in (
        "webhook/",
        f"webhook/{webhook.pk}/change/",
        f"application/{storefront.pk}/change/",
    ):
        content = operator_client.get(HOME + page).content.decode()
        assert "hush" not in content
        assert "hooks.example.com" in content


def test_activity_is_only_read(operator_client, storefront, owner):
    storefront.rename("Shop", by=owner, at=NOON)
    row = Activity.objects.get()
    page = HOME + f"activity/{row.pk}/change/"
    assert "Shop" in operator_client.get(page).content.decode()
    assert operator_client.post(page, {"verb": "forged"}).status_code == 403
    assert operator_client.get(HOME + "activity/add/").status_code == 403
    assert operator_client.post(HOME + f"activity/{row.pk}/delete/").status_code == 403


# Lists


def people(organization, which):
    for n in which:
        user = User.objects.create(email=f"{n}@northwind.example", name=f"Person {n}")
        organization.admit(user, "viewer", by=user, at=NOON)
        application = Application.objects.add(
            organization, name=f"App {n}", slug=f"app-{n}", kind="live", by=user, at=NOON
        )
        application.set_webhook(
            url="https://hooks.example.com/", events=[], headers={}, by=user, at=NOON
        )
        ApiKey.objects.issue(organization, name="a", application=application, by=user, at=NOON)
        Delivery.objects.test(application.webhook, at=NOON)
        Organization.objects.create(name=f"Other {n}", slug=f"other-{n}")


MODELS = [
    model._meta.model_name
    for model in admin.site._registry
    if model._meta.app_label == "organizations"
]


@pytest.mark.parametrize("model", MODELS)
def test_a_longer_list_takes_no_more_queries(operator_client, organization, model):
    def queries():
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert operator_client.get(HOME + f"{model}/", {"q": "a"}).status_code == 200
        return len(captured)

    people(organization, range(3))
    few = queries()
    people(organization, range(3, 30))
    assert queries() == few
    assert few <= 8


def test_every_model_of_people_is_registered():
    assert set(MODELS) == {
        "user",
        "organization",
        "membership",
        "application",
        "webhook",
        "activity",
        "apikey",
        "delivery",
        "mail",
    }


def test_a_count_ends_at_its_cap(db):
    Organization.objects.bulk_create(Organization(name="x", slug=f"x-{n}") for n in range(3))
    assert CappedPaginator(Organization.objects.all(), 50).count == 3
    assert f"LIMIT {COUNTED_TO}" in str(Organization.objects.all().order_by()[:COUNTED_TO].query)


def test_operator_sets_a_tax_rate_with_a_trace(operator_client, organization):
    fields = (
        organization_fields(organization, tax_rate="8.875")
        | membership_rows()
        | no_inline("applications")
    )
    operator_client.post(f"{HOME}organization/{organization.pk}/change/", fields)
    organization.refresh_from_db()
    assert str(organization.tax_rate) == "8.875"
    assert organization.activity.get(verb="settings_changed").after["tax_rate"] == "8.875"


def test_an_operator_ends_a_key_that_leaked(operator_client, organization, operator):
    key, secret = ApiKey.objects.issue(organization, name="Till", by=operator, at=NOON)
    page = operator_client.get(HOME + f"apikey/{key.pk}/change/").content.decode()
    assert secret not in page
    assert key.digest not in page
    operator_client.post(HOME + "apikey/", {"action": "revoke", "_selected_action": [key.pk]})
    assert ApiKey.objects.with_secret(secret) is None
    assert organization.activity.filter(verb="key_revoked").exists()
