import re

import pytest
from django.core.management import CommandError, call_command
from django.test import Client

from chirp_dashboard.organizations.models import Membership, Organization, User
from chirp_dashboard.organizations.permissions import Role

pytestmark = pytest.mark.django_db


def setup(capsys, organization="Acme Inc.", owner="joe@acme.example", **options):
    call_command("setup", organization=organization, owner=owner, **options)
    return capsys.readouterr().out


def test_it_makes_the_organization_and_its_owner(capsys):
    setup(capsys, currency="CAD", time_zone="America/Toronto", billing_day=15)
    organization = Organization.objects.get()
    assert (organization.name, organization.slug) == ("Acme Inc.", "acme-inc")
    assert (organization.currency, organization.time_zone) == ("CAD", "America/Toronto")
    assert organization.billing_day == 15
    membership = Membership.objects.get()
    assert (membership.organization, membership.role) == (organization, Role.OWNER)
    assert not membership.user.is_staff
    assert not membership.user.has_usable_password()


def test_the_owner_chooses_a_password_with_the_printed_link_once(capsys):
    address = re.search(r"http\S+/accounts/\S+", setup(capsys))[0]
    path = address.partition("127.0.0.1:8000")[2]
    client = Client()
    form = client.get(path, follow=True)
    assert form.status_code == 200
    chosen = {"password1": "violet cupboard 9", "password2": "violet cupboard 9"}
    client.post(form.request["PATH_INFO"], chosen)
    assert User.objects.get().check_password("violet cupboard 9")
    again = Client().get(path, follow=True)
    Client().post(
        again.request["PATH_INFO"], {"password1": "other word 77", "password2": "other word 77"}
    )
    assert User.objects.get().check_password("violet cupboard 9")
    assert "has chosen a password already" in setup(capsys)


def test_run_again_it_changes_nothing(capsys):
    setup(capsys, billing_day=15)
    before = list(Organization.objects.values()), list(User.objects.values())
    assert "is there already" in setup(capsys, billing_day=15)
    assert (list(Organization.objects.values()), list(User.objects.values())) == before
    assert Membership.objects.count() == 1


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"currency": "EUR"}, "currency is USD, not EUR"),
        ({"time_zone": "Europe/Paris"}, "time zone is America/New_York, not Europe/Paris"),
        ({"billing_day": 2}, "billing day is 1, not 2"),
        ({"organization": "ACME inc"}, "name is Acme Inc., not ACME inc"),
    ],
)
def test_it_refuses_to_change_an_organization(options, complaint, capsys):
    setup(capsys)
    with pytest.raises(CommandError, match=complaint):
        setup(capsys, **options)


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"owner": "joe"}, "Email: Enter a valid email address"),
        ({"billing_day": 32}, "Billing day: .*less than or equal to 31"),
        ({"currency": "dollars"}, "Currency: "),
        ({"time_zone": "Mars/Olympus"}, "Time zone: Mars/Olympus is not a time zone"),
        ({"slug": "Not A Slug"}, "Slug: "),
        ({"organization": "!!!"}, "Slug: "),
    ],
)
def test_what_is_not_valid_is_named_and_nothing_is_made(options, complaint, capsys):
    with pytest.raises(CommandError, match=complaint):
        setup(capsys, **options)
    assert not Organization.objects.exists()
    assert not User.objects.exists()


def test_a_member_with_another_role_is_not_made_owner_by_the_way(capsys, organization, viewer):
    with pytest.raises(CommandError, match="is Viewer of Northwind already"):
        setup(capsys, organization="Northwind", owner=viewer.email)


def test_the_owner_may_be_the_operator_too(capsys):
    setup(capsys, operator=True)
    assert User.objects.get().is_superuser


def test_an_existing_person_is_not_made_operator_by_the_way(capsys, stranger):
    with pytest.raises(CommandError, match="is no operator"):
        setup(capsys, owner=stranger.email, operator=True)
    assert not User.objects.get().is_staff
