"""People, the organizations they belong to, and in which role."""

import zoneinfo
from decimal import Decimal

from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.expressions import ArraySubquery
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import Case, OuterRef, Q, Subquery, When
from django.db.models.functions import JSONObject, Lower
from django.utils import timezone

from chirp_dashboard.organizations.permissions import GRANTS, PERMISSIONS, Role
from chirp_dashboard.organizations.public_ids import PublicIdField
from chirp_dashboard.organizations.refusals import Refused

from .activity import Activity
from .applications import Application
from .rules import validate_slug, validate_time_zone

FRAMED_APPLICATIONS = 13  # the side bar shows twelve, then a link to all of them


class UserManager(BaseUserManager):
    def create_user(self, email, password=None, **fields):
        user = self.model(email=email.strip().lower(), **fields)
        user.set_password(password)
        user.save(using=self._db)
        return user

    def create_superuser(self, email, password=None, **fields):
        return self.create_user(email, password, is_staff=True, is_superuser=True, **fields)

    def get_by_natural_key(self, email):
        return self.get(email__iexact=email)


class User(AbstractUser):
    """A person. The e-mail address is the name they sign in with."""

    username = None
    first_name = None
    last_name = None
    email = models.EmailField(
        "e-mail address",
        unique=True,
        error_messages={"unique": "Somebody with this e-mail address exists already."},
    )
    name = models.CharField(max_length=120, blank=True)

    USERNAME_FIELD = "email"
    REQUIRED_FIELDS = []
    objects = UserManager()

    class Meta:
        constraints = [
            models.CheckConstraint(condition=Q(email=Lower("email")), name="user_email_lower_case")
        ]

    def __str__(self):
        return self.name or self.email

    def clean(self):
        self.email = self.email.strip().lower()

    def get_full_name(self):
        return str(self)

    get_short_name = get_full_name


def plain(values):
    """`values` as JSON can hold them: decimals in words."""
    return {
        name: str(value.normalize()) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }


class TermsFixed(Refused):
    """Currency, time zone or billing day of an organization that is being billed already."""


class PaymentsUnderWay(Refused):
    """The gateway of an organization that is paying through it at this moment."""

    def __init__(self):
        super().__init__(
            "An order or a payment is under way through the gateway as it is. Nothing was changed: "
            "wait until it is settled."
        )


class Organization(models.Model):
    """The customer: owns numbers and pays for them.

    Its row is the lock for everything that counts the organization's money: `lock()`.
    """

    TERMS = ("currency", "time_zone", "billing_day")

    public_id = PublicIdField("org")
    name = models.CharField(max_length=120)
    slug = models.CharField(max_length=50, unique=True, validators=[validate_slug])
    currency = models.CharField(
        max_length=3,
        default="USD",
        validators=[RegexValidator(r"^[A-Z]{3}\Z", "Use an ISO 4217 code such as USD.")],
    )
    time_zone = models.CharField(
        max_length=64, default="America/New_York", validators=[validate_time_zone]
    )
    billing_day = models.PositiveSmallIntegerField(
        default=1, validators=[MinValueValidator(1), MaxValueValidator(31)]
    )
    credit_limit = models.BigIntegerField(
        null=True, blank=True, help_text="In the minor unit (cents). Empty: unlimited."
    )
    daily_spend_cap = models.BigIntegerField(
        null=True,
        blank=True,
        help_text="In the minor unit (cents), per local day. Empty: none.",
    )
    gateway = models.CharField(max_length=20, default="account")
    tax_rate = models.DecimalField(
        max_digits=6,
        decimal_places=3,
        default=0,
        validators=[MinValueValidator(0), MaxValueValidator(100)],
        help_text="Per cent, added to what is billed. Zero: no tax line.",
    )
    billing_email = models.EmailField(
        blank=True, help_text="Who hears of invoices. Empty: owners and people of billing."
    )
    billing_address = models.TextField(blank=True, max_length=500)
    tax_id = models.CharField("tax number", blank=True, max_length=40)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(billing_day__range=(1, 31)), name="organization_billing_day"
            ),
            models.CheckConstraint(
                condition=Q(credit_limit=None) | Q(credit_limit__gte=0),
                name="organization_credit_limit",
            ),
            models.CheckConstraint(
                condition=Q(daily_spend_cap=None) | Q(daily_spend_cap__gte=0),
                name="organization_daily_spend_cap",
            ),
            models.CheckConstraint(
                condition=Q(tax_rate__range=(0, 100)), name="organization_tax_rate"
            ),
        ]
        ordering = ["name"]

    def __str__(self):
        return self.name

    @property
    def zone(self):
        return zoneinfo.ZoneInfo(self.time_zone)

    def local_date(self, at):
        """The date on the organization's wall at the moment `at`."""
        return at.astimezone(self.zone).date()

    def lock(self):
        """Hold this organization's row until the transaction ends; every verb that spends takes it first."""
        self.refresh_from_db(from_queryset=Organization.objects.select_for_update(no_key=True))

    def billing_recipients(self):
        """The addresses that hear of invoices and payments."""
        if self.billing_email:
            return [self.billing_email]
        people = self.memberships.filter(role__in=[Role.OWNER, Role.BILLING], user__is_active=True)
        return sorted(people.values_list("user__email", flat=True))

    def terms_are_fixed(self):
        """Whether anything was ever ordered, rented or charged in its terms."""
        return self.orders.exists() or self.rentals.exists() or self.charges.exists()

    def is_paying(self):
        """Whether an order or a payment is under way through its gateway."""
        under_way = self.payments.model.IN_FLIGHT
        return (
            self.orders.filter(settled_at=None).exists()
            or self.payments.filter(state__in=under_way).exists()
        )

    @transaction.atomic
    def change_settings(self, changes, *, by, at):
        """Write the fields in `changes` that differ; its terms only before anything was billed, its
        gateway only while nothing is under way.
        """
        self.lock()
        before = {
            name: getattr(self, name) for name in changes if getattr(self, name) != changes[name]
        }
        if not before:
            return
        if any(name in before for name in self.TERMS) and self.terms_are_fixed():
            raise TermsFixed(
                "Currency, time zone and billing day are fixed since the first purchase, because "
                "charges and invoices are counted in them. Nothing was changed."
            )
        if "gateway" in before and self.is_paying():
            raise PaymentsUnderWay
        for name in before:
            setattr(self, name, changes[name])
        self.save(update_fields=list(before))
        if "currency" in before:
            self.holds.all().delete()  # at prices of the currency before
        Activity.objects.record(
            self, "settings_changed", subject=self.slug, by=by, at=at,
            before=plain(before), after=plain({name: changes[name] for name in before}),
        )  # fmt: skip

    @transaction.atomic
    def admit(self, user, role, *, by, at):
        """Make `user` a member; a second time changes nothing but the role."""
        membership, is_new = self.memberships.get_or_create(
            user=user, defaults={"role": role, "created_at": at}
        )
        if is_new:
            self._note_member("member_added", user, by=by, at=at, after={"role": role})
        else:
            membership.change_role(role, by=by, at=at)
        return membership

    def _note_member(self, verb, user, *, by, at, before=None, after=None):
        Activity.objects.record(
            self, verb, subject=user.email, by=by, at=at, before=before, after=after
        )


class MembershipQuerySet(models.QuerySet):
    def framed(self, user):
        """`user`'s memberships with what the frame of every page shows, in one query."""
        applications = Application.objects.open().filter(organization=OuterRef("organization"))
        organizations = Organization.objects.filter(memberships__user=user).order_by("name")
        dunnings = Organization._meta.get_field("dunnings").related_model.objects.open()
        unpaid = dunnings.filter(organization=OuterRef("organization"))
        return (
            self.filter(user=user)
            .select_related("organization")
            .annotate(
                applications=ArraySubquery(
                    applications.order_by("name", "id").values(
                        data=JSONObject(name="name", slug="slug", kind="kind")
                    )[:FRAMED_APPLICATIONS]
                ),
                organizations=ArraySubquery(
                    organizations.values(data=JSONObject(name="name", slug="slug"))
                ),
                dunning=Subquery(unpaid.framed()),
            )
        )

    def by_strength(self):
        """Owners first, viewers last, by name within a role."""
        roles = Case(*(When(role=role, then=place) for place, role in enumerate(Role)))
        return self.order_by(roles, Lower("user__name"), "user__email")

    def allowed_to(self, permission):
        return self.filter(role__in=[role.value for role in PERMISSIONS[permission]])


class Membership(models.Model):
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="memberships"
    )
    user = models.ForeignKey(User, on_delete=models.PROTECT, related_name="memberships")
    role = models.CharField(max_length=12, choices=Role, default=Role.VIEWER)
    created_at = models.DateTimeField(default=timezone.now, editable=False)

    objects = MembershipQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "user"], name="membership_once"),
            models.CheckConstraint(
                condition=Q(role__in=[role.value for role in Role]),
                name="membership_role",
            ),
        ]

    def __str__(self):
        return f"{self.user} · {self.get_role_display()} of {self.organization}"

    @property
    def can(self):
        return GRANTS[self.role]

    @transaction.atomic
    def change_role(self, role, *, by, at):
        self.refresh_from_db(from_queryset=Membership.objects.select_for_update(of=["self"]))
        before, self.role = self.role, role
        if role == before:
            return
        self.save(update_fields=["role"])
        self.organization._note_member(
            "role_changed", self.user, by=by, at=at, before={"role": before}, after={"role": role}
        )

    @transaction.atomic
    def end(self, *, by, at):
        """Take `user` out of the organization; what they did stays in the activity."""
        before = {"role": self.role}
        self.organization._note_member("member_removed", self.user, by=by, at=at, before=before)
        self.delete()
