"""Who: people, organizations, their memberships and applications, and the record of what they did."""

import zoneinfo

import pgtrigger
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models, transaction
from django.db.models import OuterRef, Q
from django.db.models.functions import JSONObject, Lower
from django.utils import timezone

from .permissions import GRANTS, PERMISSIONS, Role
from .public_ids import PublicIdField

FRAMED_APPLICATIONS = 13  # the side bar shows twelve, then a link to all of them


def refuse(name, operation):
    """A trigger that refuses `operation` on the whole table, bulk statements and TRUNCATE included."""
    return pgtrigger.Trigger(
        name=name,
        level=pgtrigger.Statement,
        when=pgtrigger.Before,
        operation=operation,
        func="""
            RAISE EXCEPTION '% on % is refused: its rows are kept as written', TG_OP, TG_TABLE_NAME
                USING ERRCODE = 'insufficient_privilege';
        """,
    )


INSERT_ONLY = refuse("insert_only", pgtrigger.Update | pgtrigger.Delete | pgtrigger.Truncate)

validate_slug = RegexValidator(
    r"^[a-z0-9](?:[a-z0-9-]*[a-z0-9])?\Z",
    "Use lower-case letters, digits and hyphens; begin and end with a letter or digit.",
)


def validate_time_zone(name):
    if name not in zoneinfo.available_timezones():
        raise ValidationError(f"{name} is not a time zone; write one such as America/New_York.")


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


class Organization(models.Model):
    """The customer: owns numbers and pays for them.

    Its row is the lock for everything that counts the organization's money: `locked()`.
    """

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


class MembershipQuerySet(models.QuerySet):
    def framed(self, user):
        """`user`'s memberships with what the frame of every page shows, in one query."""
        applications = Application.objects.open().filter(organization=OuterRef("organization"))
        organizations = Organization.objects.filter(memberships__user=user).order_by("name")
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
            )
        )

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


class ApplicationQuerySet(models.QuerySet):
    def open(self):
        return self.filter(archived_at=None)


class Application(models.Model):
    """One program of the organization, with its own keys, webhooks and numbers."""

    class Kind(models.TextChoices):
        LIVE = "live", "Live"
        TEST = "test", "Test"

    public_id = PublicIdField("app")
    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="applications"
    )
    name = models.CharField(max_length=120)
    slug = models.CharField(
        max_length=50,
        validators=[validate_slug],
        help_text="Stands in addresses and never changes.",
    )
    kind = models.CharField(max_length=4, choices=Kind, default=Kind.LIVE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    archived_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = ApplicationQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "slug"],
                name="application_slug_unique",
                violation_error_message="This organization has an application with this slug "
                "already; archived applications keep theirs.",
            ),
            models.CheckConstraint(condition=Q(kind__in=["live", "test"]), name="application_kind"),
        ]
        ordering = ["name", "id"]

    def __str__(self):
        return self.name

    @property
    def is_archived(self):
        return self.archived_at is not None

    def lock(self):
        self.refresh_from_db(from_queryset=Application.objects.select_for_update(no_key=True))

    @transaction.atomic
    def rename(self, name, *, by, at):
        self.lock()
        before = self.name
        if name == before:
            return
        self.name = name
        self.save(update_fields=["name"])
        Activity.objects.record(
            self.organization, "renamed", subject=self, by=by, at=at,
            before={"name": before}, after={"name": name},
        )  # fmt: skip


class Webhook(models.Model):
    """Where an application wants to hear of its numbers; each application keeps its own settings."""

    public_id = PublicIdField("whk")
    application = models.ForeignKey(Application, on_delete=models.PROTECT, related_name="webhooks")
    url = models.URLField(max_length=500)
    events = models.JSONField(default=list, blank=True)
    headers = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(url__startswith="https://"), name="webhook_https_only"
            )
        ]

    def __str__(self):
        return self.url


class Actor:
    """Who does something: a person, or the system in the name of a job."""

    def __init__(self, *, kind, name, user=None):
        self.kind, self.name, self.user = kind, name, user

    @classmethod
    def person(cls, user):
        return cls(kind=Activity.ActorKind.PERSON, name=str(user), user=user)

    @classmethod
    def system(cls, job):
        return cls(kind=Activity.ActorKind.SYSTEM, name=job)


class ActivityManager(models.Manager):
    def record(self, organization, verb, *, subject, by, at, before=None, after=None):
        """Write that `by` (a User or an Actor) did `verb` to `subject`, in the caller's transaction."""
        return self.bulk_record(organization, verb, [(subject, before, after)], by=by, at=at)[0]

    def bulk_record(self, organization, verb, changes, *, by, at):
        """One row for each `(subject, before, after)`, in one statement."""
        actor = by if isinstance(by, Actor) else Actor.person(by)
        return self.bulk_create(
            Activity(
                organization=organization,
                verb=verb,
                subject=subject if isinstance(subject, str) else subject.public_id,
                subject_name=str(subject),
                actor_kind=actor.kind,
                actor_name=actor.name,
                actor=actor.user,
                before=before or {},
                after=after or {},
                at=at,
            )
            for subject, before, after in changes
        )


class Activity(models.Model):
    """One change of state: who, what, from what, to what, when. Insert-only, kept for ever."""

    class ActorKind(models.TextChoices):
        PERSON = "person", "Person"
        KEY = "key", "API key"
        SYSTEM = "system", "System"

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="activity"
    )
    at = models.DateTimeField()
    verb = models.CharField(max_length=40)
    subject = models.CharField(max_length=64, help_text="Public id of what changed.")
    subject_name = models.CharField(max_length=200)
    actor_kind = models.CharField(max_length=6, choices=ActorKind)
    actor_name = models.CharField(max_length=200)
    actor = models.ForeignKey(User, on_delete=models.PROTECT, null=True, related_name="+")
    before = models.JSONField(default=dict)
    after = models.JSONField(default=dict)

    objects = ActivityManager()

    class Meta:
        indexes = [
            models.Index(fields=["organization", "subject", "-id"], name="activity_timeline"),
            models.Index(fields=["organization", "-id"], name="activity_newest"),
        ]
        triggers = [INSERT_ONLY]
        verbose_name_plural = "activity"

    def __str__(self):
        return f"{self.actor_name} {self.verb} {self.subject_name}"
