import re
from html import unescape

import pytest

from chirp_dashboard.numbers.models import Assignment

from .conftest import NOON

pytestmark = pytest.mark.usefixtures("an_hour_later")

APP = "/o/northwind/apps/storefront/numbers/"
HTMX = {"HX-Request": "true", "HX-Current-URL": f"http://testserver{APP}"}


@pytest.fixture
def move(number, storefront, alerts, owner):
    """The address that moves a number of the storefront."""
    number.assign(storefront, by=owner, at=NOON)
    return f"/o/northwind/numbers/{number.public_id}/move/"


def text_of(response):
    words = re.sub(r"<[^>]+>", " ", response.content.decode())
    return " ".join(unescape(words).split())


def where():
    return list(Assignment.objects.open().values_list("application__slug", flat=True))


def test_question_names_where_from_and_where_to(developer_client, move):
    response = developer_client.get(move)
    assert "From Storefront" in text_of(response)
    assert [each.slug for each in response.context["targets"]] == ["alerts"]


def test_number_moves_in_one_step(developer_client, number, move):
    response = developer_client.post(move, {"from": "storefront", "to": "alerts"}, follow=True)
    assert where() == ["alerts"]
    number.refresh_from_db()
    assert number.assignment_count == 1
    assert "Moved from Storefront to Alerts." in text_of(response)


def test_undo_button_of_the_toast_moves_it_back(developer_client, move):
    developer_client.post(move, {"from": "storefront", "to": "alerts"})
    developer_client.post(f"{move}?from=alerts&to=storefront")
    assert where() == ["storefront"]


def test_row_leaves_the_list_it_moved_from(developer_client, number, move):
    response = developer_client.post(move, {"from": "storefront", "to": "alerts"}, headers=HTMX)
    assert response.templates[0].name == "numbers/_changed.html"
    assert f'<tr id="{number.public_id}" hx-swap-oob="delete">' in response.content.decode()


@pytest.mark.parametrize(
    ("source", "target", "reason"),
    [
        ("alerts", "storefront", "is not assigned to Alerts."),
        ("storefront", "storefront", "is in Storefront already."),
        ("storefront", "old", "Old is archived."),
        ("storefront", "sandbox", "Live numbers go to live applications"),
    ],
)
def test_refused_move_changes_nothing(developer_client, organization, move, source, target, reason):
    organization.applications.create(name="Sandbox", slug="sandbox", kind="test")
    organization.applications.create(name="Old", slug="old", archived_at=NOON)
    for headers in ({}, HTMX):
        response = developer_client.post(move, {"from": source, "to": target}, headers=headers)
        assert response.status_code == 409
        assert reason in text_of(response)
    assert where() == ["storefront"]


def test_incomplete_move_is_a_mistake_in_the_form(developer_client, move, rival_application):
    for fields in ({}, {"from": "storefront"}, {"from": "storefront", "to": "rival-app"}):
        assert developer_client.post(move, fields).status_code == 422
    assert where() == ["storefront"]


def test_without_an_application_there_is_nothing_to_move(
    developer_client, number, move, storefront, owner
):
    number.remove(storefront, by=owner, at=NOON)
    assert "is in no application" in text_of(developer_client.get(move))


def test_with_every_application_there_is_nowhere_to_move(
    developer_client, number, move, alerts, owner
):
    number.assign(alerts, by=owner, at=NOON)
    assert "nowhere to move" in text_of(developer_client.get(move))


def test_moving_is_for_developers_and_stronger(viewer_client, billing_client, rival_client, move):
    for client in (viewer_client, billing_client):
        assert client.get(move).status_code == 403
        assert client.post(move, {"from": "storefront", "to": "alerts"}).status_code == 403
    assert rival_client.post(move, {"from": "storefront", "to": "alerts"}).status_code == 404
    assert where() == ["storefront"]
