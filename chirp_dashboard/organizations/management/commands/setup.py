from allauth.account.forms import default_token_generator
from allauth.account.utils import user_pk_to_url_str
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction
from django.urls import reverse
from django.utils.text import slugify

from chirp_dashboard.organizations.models import Membership, Organization, User
from chirp_dashboard.organizations.permissions import Role

CHOSEN = ("currency", "time_zone", "billing_day")


class Command(BaseCommand):
    help = (
        "Make this deployment's organization and its first owner, and print the link with which the "
        "owner chooses a password. Run again, it changes nothing."
    )

    def add_arguments(self, parser):
        parser.add_argument("--organization", required=True, metavar="NAME")
        parser.add_argument("--owner", required=True, metavar="EMAIL")
        parser.add_argument(
            "--slug", help="As it stands in addresses; made of the name by default."
        )
        parser.add_argument("--currency", help="ISO 4217 code; USD by default.")
        parser.add_argument("--time-zone", help="America/New_York by default.")
        parser.add_argument("--billing-day", type=int, metavar="1-31", help="1 by default.")
        parser.add_argument(
            "--operator", action="store_true", help="Let the owner into the Django admin, too."
        )

    @transaction.atomic
    def handle(self, *, organization, owner, slug, operator, **options):
        chosen = {name: options[name] for name in CHOSEN if options[name] is not None}
        try:
            organization = self.set_up_organization(
                organization, slug or slugify(organization), chosen
            )
            owner = self.set_up_owner(organization, owner, operator)
        except ValidationError as error:
            raise CommandError(" ".join(explain(error))) from None
        if owner.has_usable_password():
            self.stdout.write(f"{owner.email} has chosen a password already.")
        else:
            self.stdout.write(f"{owner.email} chooses a password here, once, within three days:")
            self.stdout.write(password_address(owner))

    def set_up_organization(self, name, slug, chosen):
        organization = Organization.objects.filter(slug=slug).first()
        if organization is None:
            organization = Organization(name=name, slug=slug, **chosen)
            organization.full_clean()
            organization.save()
            self.stdout.write(f"Made the organization {name} at {settings.BASE_URL}/o/{slug}/")
            return organization
        self.stdout.write(f"The organization {slug} is there already.")
        for setting, value in {"name": name, **chosen}.items():
            if (now := getattr(organization, setting)) != value:
                raise CommandError(
                    f"Its {setting.replace('_', ' ')} is {now}, not {value}: setup does not change "
                    "an organization; the Django admin does."
                )
        return organization

    def set_up_owner(self, organization, email, operator):
        owner = User.objects.filter(email__iexact=email.strip()).first()
        if owner is None:
            owner = User(email=email.strip().lower(), is_staff=operator, is_superuser=operator)
            owner.set_unusable_password()
            owner.full_clean()
            owner.save()
        elif operator and not owner.is_superuser:
            raise CommandError(f"{owner.email} exists and is no operator: use createsuperuser.")
        membership, made = Membership.objects.get_or_create(
            organization=organization, user=owner, defaults={"role": Role.OWNER}
        )
        if membership.role != Role.OWNER:
            raise CommandError(
                f"{owner.email} is {membership.get_role_display()} of {organization} already: "
                "another owner, or the Django admin, changes that."
            )
        if made:
            self.stdout.write(f"{owner.email} is its owner.")
        return owner


def explain(error):
    for field, messages in error.message_dict.items():
        label = "" if field == "__all__" else f"{field.replace('_', ' ').capitalize()}: "
        yield label + " ".join(messages)


def password_address(user):
    path = reverse(
        "account_reset_password_from_key",
        kwargs={
            "uidb36": user_pk_to_url_str(user),
            "key": default_token_generator.make_token(user),
        },
    )
    return settings.BASE_URL + path
