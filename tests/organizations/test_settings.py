"""Settings of the organization: its name always, its terms only before anything was billed in them."""

from datetime import UTC, datetime

import pytest

from chirp_dashboard.billing.models import Entry
from chirp_dashboard.organizations.models import Activity, TermsFixed, User

NOON = datetime(2026, 11, 23, 12, tzinfo=UTC)
PAGE = "/o/northwind/settings/"
CHANGE = "/o/northwind/settings/change/"
HTMX = {"HX-Request": "true"}
TERMS = {"currency": "CAD", "time_zone": "America/Toronto", "billing_day": "31"}
WANTED = {"name": "Northwind Traders", **TERMS}


def names(response):
    return [template.name for template in response.templates]


@pytest.fixture
def billed(organization):
    """The organization with something charged in its terms."""
    entry = Entry.objects.create(organization=organization, kind="credit", at=NOON)
    organization.charges.create(
        entry=entry, kind="adjustment", on=NOON.date(), amount=1, currency="USD"
    )
    return organization


def test_everything_can_be_changed_before_the_first_purchase(owner_client, organization, owner):
    response = owner_client.post(CHANGE, WANTED)
    assert response.headers["Location"] == PAGE
    organization.refresh_from_db()
    assert organization.name == "Northwind Traders"
    assert (organization.currency, organization.time_zone, organization.billing_day) == (
        "CAD",
        "America/Toronto",
        31,
    )
    row = Activity.objects.get()
    assert (row.verb, row.actor) == ("settings_changed", owner)
    assert row.before["billing_day"] == 1


@pytest.mark.parametrize("changed", [{"currency": "CAD"}, {"time_zone": "UTC"}, {"billing_day": 2}])
def test_terms_are_fixed_once_something_was_billed(billed, owner, changed):
    with pytest.raises(TermsFixed, match="fixed since the first purchase"):
        billed.change_settings({"name": "Other"} | changed, by=owner, at=NOON)
    billed.refresh_from_db()
    assert (billed.name, billed.currency, billed.billing_day) == ("Northwind", "USD", 1)
    assert Activity.objects.count() == 0


def test_name_can_still_be_changed_then(owner_client, billed):
    owner_client.post(CHANGE, WANTED)
    billed.refresh_from_db()
    assert (billed.name, billed.currency) == ("Northwind Traders", "USD")


def test_page_says_why_terms_are_fixed(owner_client, billed):
    content = owner_client.get(PAGE).content.decode()
    assert "are fixed since the first purchase" in content
    assert 'name="currency"' not in content


def test_first_purchase_while_the_form_was_open_is_told(owner_client, billed, monkeypatch):
    fixed = iter([False])
    real = type(billed).terms_are_fixed
    monkeypatch.setattr(type(billed), "terms_are_fixed", lambda self: next(fixed, real(self)))
    response = owner_client.post(CHANGE, WANTED)
    assert response.status_code == 409
    assert "Nothing was changed." in response.content.decode()


def test_saving_without_a_change_leaves_no_trace(organization, owner):
    organization.change_settings({"name": "Northwind", "billing_day": 1}, by=owner, at=NOON)
    assert Activity.objects.count() == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", ""),
        ("name", "a\0"),
        ("name", "x" * 121),
        ("currency", "dollars"),
        ("currency", "U5D"),
        ("currency", ""),
        ("time_zone", "Mars/Olympus"),
        ("time_zone", "../../etc/passwd"),
        ("billing_day", "0"),
        ("billing_day", "32"),
        ("billing_day", "first"),
        ("billing_day", "9" * 500),
    ],
)
def test_refused_input_comes_back_as_typed(owner_client, organization, field, value):
    response = owner_client.post(CHANGE, WANTED | {field: value})
    assert response.status_code == 422
    assert response.context["form"].errors.keys() == {field}
    assert response.context["form"][field].value() == value
    organization.refresh_from_db()
    assert organization.currency == "USD"


def test_refused_input_comes_back_alone_to_htmx(owner_client, organization):
    response = owner_client.post(CHANGE, WANTED | {"name": ""}, headers=HTMX)
    assert response.status_code == 422
    assert names(response)[0] == "organizations/_settings_form.html"
    assert owner_client.post(CHANGE, WANTED, headers=HTMX).headers["HX-Redirect"] == PAGE


def test_currency_is_written_in_capitals(owner_client, organization):
    owner_client.post(CHANGE, WANTED | {"currency": "eur"})
    organization.refresh_from_db()
    assert organization.currency == "EUR"


def test_a_zone_the_list_leaves_out_stays_as_it_is(owner_client, organization):
    organization.time_zone = "US/Pacific"
    organization.save()
    owner_client.post(CHANGE, WANTED | {"time_zone": "US/Pacific"})
    organization.refresh_from_db()
    assert organization.time_zone == "US/Pacific"


def test_members_are_listed_with_their_roles_strongest_first(
    viewer_client, viewer, owner, admin, developer, billing_person
):
    response = viewer_client.get(PAGE)
    roles = [member.role for member in response.context["members"]]
    assert roles == ["owner", "admin", "developer", "billing", "viewer"]
    assert "developer@northwind.example" in response.content.decode()


@pytest.mark.parametrize("client", ["developer_client", "billing_client", "viewer_client"])
def test_lesser_role_sees_and_changes_nothing(request, client, organization):
    client = request.getfixturevalue(client)
    assert "Save settings" not in client.get(PAGE).content.decode()
    assert client.post(CHANGE, WANTED).status_code == 403
    organization.refresh_from_db()
    assert organization.name == "Northwind"


def test_credit_limit_is_for_those_who_see_billing(billing_client, viewer_client, organization):
    organization.credit_limit = 500_000
    organization.save()
    assert "$5,000.00" in billing_client.get(PAGE).content.decode()
    assert "$5,000.00" not in viewer_client.get(PAGE).content.decode()


@pytest.mark.parametrize("client", ["rival_client", "stranger_client"])
def test_settings_of_others_are_not_found(request, client, organization):
    client = request.getfixturevalue(client)
    assert client.get(PAGE).status_code == 404
    assert client.post(CHANGE, WANTED).status_code == 404


def test_get_of_the_change_is_refused(owner_client):
    assert owner_client.get(CHANGE).status_code == 405


@pytest.mark.parametrize("count", [3, 30])
def test_page_takes_the_same_queries_for_any_number_of_members(
    owner_client, organization, count, django_assert_max_num_queries
):
    for n in range(count):
        user = User.objects.create(email=f"{n}@northwind.example")
        organization.memberships.create(user=user, role="viewer")
    with django_assert_max_num_queries(7):  # frame 3, members 1, are the terms fixed 3
        owner_client.get(PAGE)
