"""The nightly check of the books: written down row by row, told to the operators, shown in the admin."""

from datetime import timedelta

import pytest
from django.contrib.auth.models import Permission
from django.test import Client
from django.utils import timezone
from procrastinate.contrib.django.models import ProcrastinateJob

from chirp_dashboard.billing.models import BooksBroken, BooksCheck, Standing
from chirp_dashboard.numbers import tasks
from chirp_dashboard.organizations.models import Mail, User

PAGE = "/admin/billing/bookscheck/"


@pytest.fixture
def broken(number, settings):
    settings.OPERATOR_EMAILS = ["operator@chirp.example"]
    Standing.objects.update(balance=5)
    with pytest.raises(BooksBroken, match="do not balance: 1 row"):
        tasks.check_books(timestamp=0)
    return BooksCheck.objects.get()


@pytest.fixture
def clerk(db):
    """Staff who may look at the books and do nothing else."""
    person = User.objects.create_user("clerk@chirp.example", "correct horse", is_staff=True)
    person.user_permissions.set(Permission.objects.filter(codename="view_bookscheck"))
    client = Client()
    client.force_login(person)
    return client


def page(client, check=None):
    response = client.get(f"{PAGE}{check.pk}/change/" if check else PAGE)
    assert response.status_code == 200
    return response.content.decode()


def test_books_that_balance_are_written_down(number):
    tasks.check_books(timestamp=0)
    check = BooksCheck.objects.get()
    assert check.state(timezone.now()) == "clean"
    assert check.rules > 20
    assert not Mail.objects.exists()


def test_every_row_that_breaks_a_rule_is_kept_and_alarms(broken):
    assert broken.violations == 1
    [(invariant, [(_, [row])])] = broken.by_invariant
    assert (invariant, row) == ("I3", "northwind: balance 5, posted 127")
    mail = Mail.objects.get(kind="books_broken")
    assert mail.organization is None
    assert mail.subject == "The books do not balance: 1 row breaks a rule"
    assert row in mail.text
    assert f"{PAGE}{broken.pk}/change/" in mail.text


def test_of_very_many_rows_the_first_are_kept(db):
    class Row:
        invariant, rule, what = "I3", "Sums to zero", "entry 1"

    check = BooksCheck.objects.create(started_at=timezone.now())
    check.finish([Row] * 1500, at=timezone.now())
    assert (len(check.findings), check.violations, check.not_kept) == (1000, 1500, 500)


# The page -------------------------------------------------------------------------------------


def test_page_says_that_the_books_were_never_checked(operator_client):
    assert "The books were never checked here." in page(operator_client)


def test_page_says_that_a_check_is_running(operator_client):
    check = BooksCheck.objects.create(started_at=timezone.now())
    assert "A check is running since" in page(operator_client)
    BooksCheck.objects.filter(pk=check.pk).update(started_at=timezone.now() - timedelta(hours=2))
    assert "was interrupted" in page(operator_client)


def test_page_says_that_the_books_balance(operator_client, number):
    tasks.check_books(timestamp=0)
    assert "The books balance:" in page(operator_client)


def test_page_names_every_row_of_the_latest_check_and_of_each(operator_client, broken):
    for shown in (page(operator_client), page(operator_client, broken)):
        assert "The books do not balance: 1 row broke a rule" in shown
        assert "<h2>I3</h2>" in shown
        assert "northwind: balance 5, posted 127" in shown


def test_history_is_searched_by_what_was_found(operator_client, broken):
    BooksCheck.objects.create(started_at=timezone.now(), finished_at=timezone.now())
    found = operator_client.get(PAGE, {"q": "northwind"})
    assert found.context["cl"].result_count == 1


def test_check_now_asks_a_worker_once(operator_client, db):
    first = operator_client.post(f"{PAGE}now/", follow=True).content.decode()
    assert "A worker checks the books now." in first
    assert "A check waits for a worker." in first
    again = operator_client.post(f"{PAGE}now/", follow=True).content.decode()
    assert "A check waits for a worker already." in again
    assert ProcrastinateJob.objects.get().task_name == f"{tasks.__name__}.check_books"


def test_check_now_is_a_post_of_somebody_who_may(operator_client, clerk):
    assert operator_client.get(f"{PAGE}now/").status_code == 405
    button = 'value="Check now"'
    assert button in page(operator_client)
    assert button not in page(clerk)
    assert clerk.post(f"{PAGE}now/").status_code == 403
    assert not ProcrastinateJob.objects.exists()
