"""The demo: loaded once, in development, into an empty database, with books that balance."""

import stat
from datetime import UTC, datetime

import pytest
import time_machine
from django.core.management import CommandError, call_command

from chirp_dashboard.billing.models import Dunning, Invoice, Price
from chirp_dashboard.numbers.management.commands.load_demo import Demo
from chirp_dashboard.numbers.models import InventoryNumber, Order, PhoneNumber
from chirp_dashboard.organizations.models import Organization, User
from chirp_dashboard.organizations.permissions import Role

from .conftest import in_stock

DAY = datetime(2026, 11, 23, 17, tzinfo=UTC)
NUMBERS = [
    *(f"+1212555018{n}" for n in range(1, 6)),
    *("+14155550131", "+14155550132", "+12065550177", "+13055550150"),
    *("+18005550150", "+18335550160"),
]


@pytest.fixture(autouse=True)
def data_dir(settings, tmp_path):
    settings.DATA_DIR = tmp_path
    settings.DEMO_PASSWORD = ""
    return tmp_path


@pytest.fixture
def needed(db):
    """The numbers the demo purchases, in place of the whole stock."""
    for number in NUMBERS:
        in_stock(number, number_type="tollfree" if number[2:5] in {"800", "833"} else "local")
    for number in ("+14165550120", "+14165550121"):
        in_stock(number, country="CA")


@pytest.mark.django_db
def test_demo_is_loaded_whole_and_its_books_balance(data_dir, capsys):
    call_command("load_demo")
    call_command("check_books")
    assert InventoryNumber.objects.count() > 40_000
    demo = Organization.objects.get(slug="demo")
    assert demo.credit_limit == 500_000
    assert set(demo.applications.values_list("slug", "kind")) == {
        ("storefront", "live"),
        ("alerts", "live"),
        ("sandbox", "test"),
    }
    assert set(demo.memberships.values_list("user__email", "role")) == {
        (f"{role}@demo.example", role) for role in Role.values
    }
    assert User.objects.get(email="operator@demo.example").is_superuser
    rival = Organization.objects.get(slug="rival")
    assert rival.memberships.get().user.email == "owner@rival.example"
    assert set(Price.objects.values_list("country", "number_type", "purchase_fee", "rental")) >= {
        ("US", "local", 100, 100),
        ("CA", "local", 100, 100),
        ("US", "tollfree", 100, 200),
        ("US", "shortcode", 65_000, 50_000),
    }
    password = (data_dir / "demo_password").read_text().strip()
    assert stat.S_IMODE((data_dir / "demo_password").stat().st_mode) == 0o600
    assert User.objects.get(email="viewer@demo.example").check_password(password)
    assert password in capsys.readouterr().out


@pytest.mark.parametrize(
    "at",
    [
        datetime(2026, 11, 23, 17, tzinfo=UTC),
        datetime(2026, 3, 1, 5, 1, tzinfo=UTC),  # one minute into a billing date in New York
        datetime(2026, 3, 1, 4, 59, tzinfo=UTC),  # one minute before it
        datetime(2027, 1, 31, 23, tzinfo=UTC),
        datetime(2028, 2, 29, 12, tzinfo=UTC),
        datetime(2026, 11, 2, 12, tzinfo=UTC),  # the day after clocks were set back
    ],
    ids=str,
)
def test_whenever_it_is_loaded_there_is_something_of_everything(needed, at):
    Demo(password="irrelevant", at=at).load()
    demo = Organization.objects.get(slug="demo")
    call_command("check_books", on=demo.local_date(at))
    numbers = PhoneNumber.objects.filter(organization=demo)
    assert numbers.live().filter(is_test=False).count() == 11
    assert numbers.tests_of(demo).filter(assignments__application__slug="sandbox").count() == 2
    assert numbers.get(state="released").undo_until > at
    assert numbers.get(releases_on__isnull=False, state="active").releases_on > demo.local_date(at)
    assert numbers.live().filter(assignment_count=0).count() == 2
    assert numbers.filter(assignment_count=2).count() == 1
    invoices = Invoice.objects.filter(organization=demo)
    assert invoices.unpaid().count() == 1
    assert invoices.count() >= 2
    assert all(invoice.due_on >= demo.local_date(at) for invoice in invoices.unpaid())
    moments = list(demo.activity.order_by("id").values_list("at", flat=True))
    assert max(moments) <= at


@pytest.mark.parametrize("at", [DAY, datetime(2028, 2, 29, 12, tzinfo=UTC)], ids=str)
def test_unpaid_rent_can_be_added_to_it(needed, data_dir, at, capsys):
    for digit in (1, 2):
        in_stock(f"+1201555010{digit}", area_code="201")
    Demo(password="irrelevant", at=at).load()
    (data_dir / "demo_password").write_text("correct horse\n")
    with time_machine.travel(at, tick=False):
        for _ in range(2):
            call_command("load_demo", "--unpaid")
    late = Organization.objects.get(slug="late")
    assert "is there already" in capsys.readouterr().out
    assert User.objects.get(email="owner@late.example").check_password("correct horse")
    assert PhoneNumber.objects.filter(organization=late, state="active").count() == 2
    assert late.invoices.unpaid().first().due_on < late.local_date(at)
    dunning = Dunning.objects.get(organization=late)
    assert [step.rung for step in dunning.steps.all()] == [0]
    assert dunning.next_on > late.local_date(at)
    call_command("check_books", on=late.local_date(at))


def test_loading_it_again_changes_nothing(needed, capsys):
    Demo(password="irrelevant", at=datetime(2026, 11, 23, 17, tzinfo=UTC)).load()
    orders = Order.objects.count()
    call_command("load_demo")
    assert "loaded already" in capsys.readouterr().out
    assert Order.objects.count() == orders


def test_it_is_refused_in_production(db, settings):
    settings.PRODUCTION = True
    with pytest.raises(CommandError, match="development only"):
        call_command("load_demo")
    assert Organization.objects.count() == 0


@pytest.mark.parametrize("there", ["organization", "operator", "stock", "prices"])
def test_it_is_refused_where_something_is(request, db, there):
    request.getfixturevalue(there)
    with pytest.raises(CommandError, match="not empty"):
        call_command("load_demo")
    assert not Organization.objects.filter(slug="demo").exists()


def test_password_of_the_environment_is_taken(monkeypatch, settings, data_dir, needed):
    InventoryNumber.objects.all().delete()
    settings.DEMO_PASSWORD = "chosen by hand"
    monkeypatch.setattr(
        "chirp_dashboard.numbers.management.commands.load_demo.load_demo_stock",
        lambda: (
            [
                in_stock(n, number_type="tollfree" if n[2:5] in {"800", "833"} else "local")
                for n in NUMBERS
            ]
            + [in_stock(n, country="CA") for n in ("+14165550120", "+14165550121")]
        ),
    )
    (data_dir / "demo_password").write_text("left over from another database")
    call_command("load_demo")
    assert User.objects.get(email="owner@demo.example").check_password("chosen by hand")
    assert (data_dir / "demo_password").read_text() == "chosen by hand\n"
