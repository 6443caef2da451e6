from django.core.management.base import BaseCommand, CommandError
from django.utils import timezone

from chirp_dashboard.organizations.models import Actor, ApiKey, Organization
from chirp_dashboard.organizations.refusals import Refused


class Command(BaseCommand):
    help = "Print a new API key, and nothing else. It is shown this once."

    def add_arguments(self, parser):
        parser.add_argument("--organization", required=True, metavar="SLUG")
        parser.add_argument("--kind", required=True, choices=["admin", "app"])
        parser.add_argument("--app", metavar="SLUG", help="The application of an app key.")
        parser.add_argument("--name", default="Made by create_api_key")

    def handle(self, *, organization, kind, app, name, **options):
        if (kind == "app") != bool(app):
            raise CommandError("An app key needs --app SLUG; an admin key has none.")
        organization = self.find(Organization.objects, organization, "organization")
        application = (
            self.find(organization.applications.open(), app, "application") if app else None
        )
        try:
            _, secret = ApiKey.objects.issue(
                organization, name=name, application=application,
                by=Actor.system("create_api_key"), at=timezone.now(),
            )  # fmt: skip
        except Refused as refusal:
            raise CommandError(str(refusal)) from None
        self.stdout.write(secret)

    def find(self, rows, slug, what):
        found = rows.filter(slug=slug).first()
        if found is None:
            raise CommandError(f"There is no {what} with the slug {slug}.")
        return found
