"""Organizations that own any count of numbers; made once in a database and found again."""

import os
from io import StringIO

LARGE = int(os.environ.get("BENCH_RENTALS", "1_000_000"))
"""Numbers, and so rentals, of all large organizations together."""

APPLICATIONS = ("storefront", "alerts", "support", "sales", "orders")


def owner_of(count, *, part=0):
    """The organization that owns `count` numbers; `part` tells several of the same size apart."""
    from django.core.management import call_command

    from chirp_dashboard.organizations.models import Organization

    slug = f"owner-of-{count}" + (f"-{part}" if part else "")
    organization, is_new = Organization.objects.get_or_create(slug=slug, defaults={"name": slug})
    if is_new or not organization.phone_numbers.exists():
        add_applications(organization)
        call_command("load_numbers", count=count, organization=slug, stdout=StringIO())
    return organization


def add_applications(organization):
    """As many in every organization, so that their pages differ in nothing but how many numbers."""
    from django.utils import timezone

    from chirp_dashboard.organizations.models import Actor, Application

    for slug in APPLICATIONS:
        if not organization.applications.filter(slug=slug).exists():
            Application.objects.add(
                organization, name=slug.capitalize(), slug=slug, kind=Application.Kind.LIVE,
                by=Actor.system("benchmark"), at=timezone.now(),
            )  # fmt: skip
