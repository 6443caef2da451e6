import pytest
from django.db import IntegrityError

from chirp_dashboard.numbers.models import Assignment
from chirp_dashboard.numbers.models.assigning import AssignmentRefused, NotAssigned
from chirp_dashboard.organizations.models import Activity, Application
from chirp_dashboard.organizations.refusals import Refused

from .conftest import NOON


def timeline(number):
    return list(
        Activity.objects.filter(subject=number.public_id)
        .order_by("id")
        .values_list("verb", flat=True)
    )


def test_number_is_shared_by_two_applications(number, storefront, alerts, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    number.refresh_from_db()
    assert number.assignment_count == 2
    assert timeline(number) == ["purchased", "assigned", "assigned"]


def test_number_is_assigned_once_per_application(number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    with pytest.raises(AssignmentRefused, match="already assigned to Storefront"):
        number.assign(storefront, by=owner, at=NOON)
    number.refresh_from_db()
    assert number.assignment_count == 1


def test_removed_number_stays_in_the_organization_and_is_billed(number, storefront, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.remove(storefront, by=owner, at=NOON)
    number.refresh_from_db()
    assert (number.state, number.assignment_count) == ("active", 0)
    assert number.open_rental().ends_on is None
    ended = Assignment.objects.get()
    assert (ended.ended_at, ended.ended_because) == (NOON, "removed")


def test_number_that_is_not_assigned_cannot_be_removed(number, storefront, owner):
    with pytest.raises(NotAssigned):
        number.remove(storefront, by=owner, at=NOON)


def test_removed_number_can_be_assigned_again(number, storefront, owner):
    for _ in range(2):
        number.assign(storefront, by=owner, at=NOON)
        number.remove(storefront, by=owner, at=NOON)
    assert Assignment.objects.count() == 2


def test_move_leaves_the_one_and_joins_the_other(number, storefront, alerts, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.move(storefront, alerts, by=owner, at=NOON)
    assert [a.application for a in number.assignments.open()] == [alerts]
    assert number.assignments.get(application=storefront).ended_because == "moved"
    assert timeline(number)[-1] == "moved"
    number.refresh_from_db()
    assert number.assignment_count == 1


def test_move_to_where_it_is_already_changes_nothing(number, storefront, alerts, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    with pytest.raises(AssignmentRefused):
        number.move(storefront, alerts, by=owner, at=NOON)
    with pytest.raises(AssignmentRefused):
        number.move(storefront, storefront, by=owner, at=NOON)
    assert number.assignments.open().count() == 2


def test_number_goes_to_no_application_of_another_organization(number, rival_application, owner):
    with pytest.raises(AssignmentRefused):
        number.assign(rival_application, by=owner, at=NOON)


def test_live_number_goes_to_no_test_application(number, organization, owner):
    sandbox = Application.objects.create(
        organization=organization, name="Sandbox", slug="sandbox", kind="test"
    )
    with pytest.raises(AssignmentRefused, match="live applications"):
        number.assign(sandbox, by=owner, at=NOON)


@pytest.mark.parametrize("kind", ["live", "test"])
def test_the_database_itself_refuses_a_wrong_pair(number, rival_application, organization, kind):
    application = rival_application
    if kind == "test":
        application = Application.objects.create(
            organization=organization, name="Sandbox", slug="sandbox", kind="test"
        )
    with pytest.raises(IntegrityError, match="within its organization"):
        Assignment.objects.create(
            organization=organization,
            phone_number=number,
            application=application,
            number=number.number,
            assigned_at=NOON,
        )


def test_archived_application_takes_no_number(number, storefront, owner):
    Assignment.objects.archive(storefront, by=owner, at=NOON)
    with pytest.raises(AssignmentRefused, match="archived"):
        number.assign(storefront, by=owner, at=NOON)


def test_suspended_number_is_not_assigned(number, storefront, owner):
    number.state = "suspended"
    number.save()
    with pytest.raises(AssignmentRefused, match="suspended"):
        number.assign(storefront, by=owner, at=NOON)


def test_archiving_ends_assignments_each_with_a_row(number, storefront, alerts, owner):
    number.assign(storefront, by=owner, at=NOON)
    number.assign(alerts, by=owner, at=NOON)
    assert Assignment.objects.archive(storefront, by=owner, at=NOON) == 1
    number.refresh_from_db()
    assert number.assignment_count == 1
    assert timeline(number)[-1] == "removed"
    assert Activity.objects.filter(subject=storefront.public_id, verb="archived").exists()
    with pytest.raises(Refused, match="archived already"):
        Assignment.objects.archive(storefront, by=owner, at=NOON)


def test_label_is_tidied_and_kept_in_the_timeline(number, owner):
    number.rename("  Sales   NY ", by=owner, at=NOON)
    assert number.label == "Sales NY"
    number.rename("Sales NY", by=owner, at=NOON)
    assert timeline(number) == ["purchased", "labelled"]
    with pytest.raises(Refused, match="at most 80"):
        number.rename("x" * 81, by=owner, at=NOON)
