"""Who: people, organizations, their memberships and applications, and the record of what they did."""

import zoneinfo
from decimal import Decimal
from urllib.parse import urlsplit

import pgtrigger
from django.conf import settings
from django.contrib.auth.base_user import BaseUserManager
from django.contrib.auth.models import AbstractUser
from django.contrib.postgres.expressions import ArraySubquery
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import IntegrityError, models, transaction
from django.db.models import Case, OuterRef, Q, Subquery, When
from django.db.models.functions import JSONObject, Lower
from django.template.loader import render_to_string
from django.utils import timezone

from .permissions import GRANTS, PERMISSIONS, Role
from .public_ids import PublicIdField, public_id
from .refusals import Refused

FRAMED_APPLICATIONS = 13  # the side bar shows twelve, then a link to all of them
COUNTED_TO = 10_000  # exact counts end here where no counter is kept


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


def plain(values):
    """`values` as JSON can hold them: decimals in words."""
    return {
        name: str(value.normalize()) if isinstance(value, Decimal) else value
        for name, value in values.items()
    }


class TermsFixed(Refused):
    """Currency, time zone or billing day of an organization that is being billed already."""


class Organization(models.Model):
    """The customer: owns numbers and pays for them.

    Its row is the lock for everything that counts the organization's money: `lock()`.
    """

    TERMS = ("currency", "time_zone", "billing_day")

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

    @transaction.atomic
    def change_settings(self, changes, *, by, at):
        """Write the fields in `changes` that differ; its terms only before anything was billed."""
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


class SlugTaken(Refused):
    """An application of the organization, perhaps an archived one, has the slug already."""

    def __init__(self, slug):
        super().__init__(
            f"An application of this organization has the slug “{slug}” already; archived "
            "applications keep theirs. Choose another."
        )


class ApplicationArchived(Refused):
    """The application was archived; its settings are kept as they were."""

    def __init__(self, application):
        super().__init__(f"{application} is archived, so nothing was changed.")


class CountUpTo(Subquery):
    """The number of rows of a sliced query."""

    template = "(SELECT count(*) FROM (%(subquery)s) AS counted)"
    output_field = models.IntegerField()


class ApplicationQuerySet(models.QuerySet):
    def open(self):
        return self.filter(archived_at=None)

    def archived(self):
        return self.exclude(archived_at=None)

    def matching(self, text):
        return self.filter(Q(name__icontains=text) | Q(slug__icontains=text)) if text else self

    def with_numbers(self):
        """Each with `numbers`: how many are assigned to it, counted no further than needed to say "many"."""
        assignments = self.model._meta.get_field("assignments").related_model
        held = assignments.objects.open().filter(application=OuterRef("pk"))
        return self.annotate(numbers=CountUpTo(held.order_by().values("pk")[: COUNTED_TO + 1]))

    def with_webhook(self):
        """Each with `webhook_url`, or None."""
        webhooks = Webhook.objects.filter(application=OuterRef("pk")).order_by("id")
        return self.annotate(webhook_url=Subquery(webhooks.values("url")[:1]))

    @transaction.atomic
    def add(self, organization, *, name, slug, kind, by, at):
        """Create an application; its slug and kind never change."""
        application = self.model(
            organization=organization, name=name, slug=slug, kind=kind, created_at=at,
            public_id=public_id("app", test=kind == Application.Kind.TEST),
        )  # fmt: skip
        try:
            with transaction.atomic():
                application.save(force_insert=True)
        except IntegrityError:
            if not self.filter(organization=organization, slug=slug).exists():
                raise
            raise SlugTaken(slug) from None
        Activity.objects.record(
            organization, "created", subject=application, by=by, at=at,
            after={"name": name, "slug": slug, "kind": str(kind)},
        )  # fmt: skip
        return application


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
    billing_paused_at = models.DateTimeField(
        null=True, blank=True, editable=False, help_text="Suspended since, because rent is unpaid."
    )

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

    @property
    def is_test(self):
        return self.kind == self.Kind.TEST

    @property
    def webhook(self):
        """Where it hears of its numbers, or None."""
        return self.webhooks.order_by("id").first()

    @property
    def webhook_host(self):
        """Of an application read `with_webhook()`."""
        return urlsplit(self.webhook_url or "").netloc

    def _lock_open(self):
        self.lock()
        if self.is_archived:
            raise ApplicationArchived(self)

    @transaction.atomic
    def rename(self, name, *, by, at):
        self._lock_open()
        before = self.name
        if name == before:
            return
        self.name = name
        self.save(update_fields=["name"])
        Activity.objects.record(
            self.organization, "renamed", subject=self, by=by, at=at,
            before={"name": before}, after={"name": name},
        )  # fmt: skip

    @transaction.atomic
    def set_webhook(self, *, url, events, headers, by, at):
        """Save where this application hears of its numbers, in place of what was set before."""
        self._lock_open()
        webhook = self.webhook or Webhook(application=self, created_at=at)
        before = webhook.facts() if webhook.pk else None
        if (webhook.url, webhook.events, webhook.headers) == (url, events, headers):
            return webhook
        webhook.url, webhook.events, webhook.headers = url, events, headers
        webhook.save()
        Activity.objects.record(
            self.organization, "webhook_saved", subject=self, by=by, at=at,
            before=before, after=webhook.facts(),
        )  # fmt: skip
        return webhook

    @transaction.atomic
    def remove_webhook(self, *, by, at):
        """Stop sending events to this application; do nothing where none are sent."""
        self._lock_open()
        webhook = self.webhook
        if webhook is None:
            return
        before = webhook.facts()
        webhook.delete()
        Activity.objects.record(
            self.organization, "webhook_removed", subject=self, by=by, at=at, before=before
        )


class WebhookEvent(models.TextChoices):
    """What an application can be told about its numbers; the label says when it is."""

    PURCHASED = "phone_numbers.purchased", "A number was purchased for this application."
    ASSIGNED = "phone_numbers.assigned", "A number was assigned to this application."
    REMOVED = (
        "phone_numbers.removed",
        "A number was removed from this application; the organization keeps it.",
    )
    RELEASING = "phone_numbers.releasing", "A release was scheduled; the number works until then."
    RELEASED = (
        "phone_numbers.released",
        "The organization gave a number of this application back.",
    )
    SUSPENDED = "phone_numbers.suspended", "A number stopped working because rent is unpaid."
    RESTORED = (
        "phone_numbers.restored",
        "A suspended number works again, or a release was undone.",
    )


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
        return self.host

    @property
    def host(self):
        """Where it points, without the path, which may carry a secret."""
        return urlsplit(self.url).netloc

    def facts(self):
        """What activity remembers of it: nothing that could be a secret."""
        return {"host": self.host, "events": self.events, "headers": sorted(self.headers)}


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
    subject = models.CharField(
        max_length=254, help_text="Public id of what changed, or e-mail address of a person."
    )
    subject_name = models.CharField(max_length=254)
    actor_kind = models.CharField(max_length=6, choices=ActorKind)
    actor_name = models.CharField(max_length=254)
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


class MailQuerySet(models.QuerySet):
    def write(self, organization, kind, *, key, at, to=None, **context):
        """Write the mail `templates/mail/<kind>.txt` in the caller's transaction; None if told before.

        Its first line is the subject. `to` is who gets it, else the organization's people of billing.
        """
        context |= {"organization": organization, "base_url": settings.BASE_URL}
        subject, _, text = render_to_string(f"mail/{kind}.txt", context).partition("\n")
        mail = self.model(
            organization=organization, key=key, kind=kind, subject=subject[:200], text=text.strip() + "\n",
            to=organization.billing_recipients() if to is None else to,
            created_at=at, next_try_at=at,
        )  # fmt: skip
        written = self.bulk_create([mail], ignore_conflicts=True)
        return self.filter(key=key, created_at=at).first() if written else None

    def alarm(self, kind, *, key, at, **context):
        """Write a mail to whoever operates this deployment."""
        return self.write(None, kind, key=key, at=at, to=settings.OPERATOR_EMAILS, **context)


class Mail(models.Model):
    """One mail, written in the transaction of what it tells about and sent by the worker.

    `key` says what it tells, so that the same thing is told once. At operators' when `organization`
    is empty.
    """

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, null=True, related_name="mails"
    )
    key = models.CharField(max_length=200, unique=True)
    kind = models.CharField(max_length=40)
    to = models.JSONField(default=list)
    subject = models.CharField(max_length=200)
    text = models.TextField()
    created_at = models.DateTimeField()
    sent_at = models.DateTimeField(null=True)
    tries = models.PositiveSmallIntegerField(default=0)
    next_try_at = models.DateTimeField(null=True)
    error = models.CharField(max_length=200, blank=True)

    objects = MailQuerySet.as_manager()

    class Meta:
        indexes = [
            models.Index(fields=["next_try_at"], condition=Q(sent_at=None), name="mail_to_send"),
            models.Index(fields=["organization", "-id"], name="mail_of_organization"),
        ]
        triggers = [
            pgtrigger.ReadOnly(
                name="written", exclude=["sent_at", "tries", "next_try_at", "error"]
            ),
            refuse("kept", pgtrigger.Delete | pgtrigger.Truncate),
        ]

    def __str__(self):
        return self.subject
