"""The pages of an organization whose rent is unpaid, looked at by axe, wide and narrow."""

from datetime import timedelta

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.utils import timezone
from playwright.sync_api import expect

from chirp_dashboard.billing.models import Dunning, Invoice, Standing
from chirp_dashboard.billing.models import dunning as dunning_module
from chirp_dashboard.numbers.models import PhoneNumber
from chirp_dashboard.organizations.models import Mail

from .owned import own_many, put

OPTIONS = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]}
PAGES = ("", "numbers/?state=unpaid", "apps/storefront/numbers/", "apps/", "billing/")

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def suspended(organization, storefront, owner, monkeypatch):
    """Three numbers, suspended two days ago because of an invoice that was due 16 days ago."""
    monkeypatch.setattr(dunning_module, "ASLEEP", timedelta(days=1))
    put(own_many(organization, 3), storefront)
    now = timezone.now()
    today = organization.local_date(now)
    Standing.objects.create(organization=organization, balance=1200, closed_through=today)
    Invoice.objects.create(
        number=1, organization=organization, billing_date=today - timedelta(days=46),
        issued_on=today - timedelta(days=46), due_on=today - timedelta(days=16), currency="USD",
        total=1200, line_count=1, created_at=now,
    )  # fmt: skip
    for days in range(16, -1, -1):
        at = now - timedelta(days=days)
        Dunning.objects.walk(at=at)
        Mail.objects.filter(sent_at=None).update(sent_at=at)
        PhoneNumber.objects.follow_standing(at=at)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (360, "dark")])
def test_pages_of_unpaid_rent_are_for_everyone(suspended, owner, visit, width, scheme):
    page = visit(owner, width=width, scheme=scheme)
    for path in PAGES:
        page.goto(f"/o/northwind/{path}")
        expect(page.get_by_text("Numbers and applications are suspended")).to_have_count(1)
        found = Axe().run(page, options=OPTIONS).response["violations"]
        assert [each["id"] for each in found] == [], path
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
