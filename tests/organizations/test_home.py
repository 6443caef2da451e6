"""The first page after signing in: straight to the only organization, a choice of several, or why none."""

from chirp_dashboard.organizations.models import Membership


def test_a_person_of_one_organization_goes_straight_there(viewer_client):
    assert viewer_client.get("/").headers["Location"] == "/o/northwind/"


def test_a_person_of_several_chooses(owner_client, owner, rival):
    Membership.objects.create(organization=rival, user=owner, role="billing")
    content = owner_client.get("/").content.decode()
    assert 'href="/o/northwind/"' in content
    assert 'href="/o/rival/"' in content
    assert "Billing" in content


def test_the_only_organization_can_be_shown_as_a_choice(viewer_client):
    response = viewer_client.get("/?choose")
    assert response.status_code == 200
    assert 'href="/o/northwind/"' in response.content.decode()


def test_a_person_of_none_is_told_what_to_do(stranger_client, organization):
    content = stranger_client.get("/").content.decode()
    assert "You are not in an organization yet" in content
    assert "Northwind" not in content


def test_post_is_refused(owner_client):
    assert owner_client.post("/").status_code == 405


def test_nobody_sees_it_without_signing_in(client, db):
    assert client.get("/").status_code == 302


def test_choice_takes_three_queries(owner_client, owner, rival, django_assert_max_num_queries):
    Membership.objects.create(organization=rival, user=owner, role="billing")
    with django_assert_max_num_queries(3):
        owner_client.get("/")


def test_an_operator_of_no_organization_is_led_to_the_admin(operator_client, stranger_client):
    assert 'href="/admin/"' in operator_client.get("/").content.decode()
    assert 'href="/admin/"' not in stranger_client.get("/").content.decode()
