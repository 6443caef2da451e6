import pytest

from chirp_dashboard.billing.models import Invoice
from chirp_dashboard.organizations.models import Activity

from .conftest import DECEMBER, run

DETAILS = "/o/northwind/billing/details/"
SENT = {
    "billing_address": "7 Long Street\r\n\r\n  Springfield ",
    "tax_id": " PL  123-456 ",
    "billing_email": "accounts@northwind.example",
}


def test_details_are_saved_and_recorded(billing_client, billing_person, organization):
    response = billing_client.post(DETAILS, SENT)
    assert response.headers["Location"] == "/o/northwind/billing/"
    organization.refresh_from_db()
    assert organization.billing_address == "7 Long Street\nSpringfield"
    assert organization.tax_id == "PL 123-456"
    assert organization.billing_recipients() == ["accounts@northwind.example"]
    row = Activity.objects.get(verb="settings_changed")
    assert row.actor == billing_person
    assert row.after["tax_id"] == "PL 123-456"


def test_next_invoice_carries_them(billing_client, rental):
    billing_client.post(DETAILS, SENT)
    run(DECEMBER)
    assert Invoice.objects.get().buyer == {
        "name": "Northwind",
        "address": "7 Long Street\nSpringfield",
        "tax_id": "PL 123-456",
    }


def test_form_shows_what_is_there_and_who_hears(billing_client, organization):
    billing_client.post(DETAILS, SENT)
    page = billing_client.get(DETAILS).content.decode()
    assert "7 Long Street\nSpringfield</textarea>" in page
    assert "go to accounts@northwind.example." in page


def test_form_says_when_nobody_hears(admin_client):
    assert "go to nobody yet." in admin_client.get(DETAILS).content.decode()


def test_dialog_is_the_form_alone_and_ends_on_the_billing_page(billing_client):
    headers = {"HX-Request": "true"}
    shown = billing_client.get(DETAILS, headers=headers)
    assert next(t.name for t in shown.templates) == "billing/_details.html"
    saved = billing_client.post(DETAILS, SENT, headers=headers)
    assert saved.headers["HX-Redirect"] == "/o/northwind/billing/"


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("billing_email", "nobody", "Write one address, such as accounts@example.com."),
        ("billing_email", "a@b.example, c@d.example", "Write one address"),
        ("billing_email", "a@b.example\nBcc: c@d.example", "Write one address"),
        ("billing_address", "a\n" * 9, "An address has at most 8 lines."),
        ("billing_address", "x" * 501, "An address has at most 500 characters."),
        ("billing_address", "turned \u202e round", "Leave out invisible control characters."),
        ("tax_id", "x" * 41, "A tax number has at most 40 characters."),
        (
            "tax_id",
            "DE;123",
            "A tax number has letters, digits, spaces, dots, hyphens and slashes.",
        ),
    ],
)
def test_nonsense_is_refused_in_words_and_kept(billing_client, organization, field, value, said):
    response = billing_client.post(DETAILS, SENT | {field: value})
    assert response.status_code == 422
    assert said in response.content.decode()
    assert response.context["form"][field].value() == value
    organization.refresh_from_db()
    assert (organization.billing_address, organization.tax_id) == ("", "")
    assert not Activity.objects.exists()


def test_nothing_changed_leaves_no_trace(billing_client, organization):
    assert billing_client.post(DETAILS, {}).status_code == 302
    assert not Activity.objects.exists()


@pytest.mark.parametrize("role", ["developer", "viewer"])
def test_other_roles_are_refused(request, organization, role):
    client = request.getfixturevalue(f"{role}_client")
    assert client.get(DETAILS).status_code == client.post(DETAILS, SENT).status_code == 403


def test_strangers_find_nothing(organization, rival_client):
    assert (
        rival_client.get(DETAILS).status_code == rival_client.post(DETAILS, SENT).status_code == 404
    )
