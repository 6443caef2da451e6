"""Applications: the programs of an organization, and where each wants to hear of its numbers."""

from datetime import timedelta
from urllib.parse import urlsplit

from django.db import IntegrityError, models, transaction
from django.db.models import OuterRef, Q, Subquery
from django.utils import timezone

from chirp_dashboard.organizations.public_ids import PublicIdField, public_id
from chirp_dashboard.organizations.refusals import Refused

from .activity import Activity
from .rules import validate_slug

COUNTED_TO = 10_000  # exact counts end here where no counter is kept
WEBHOOKS_AT_MOST = 10
TWICE_WITHIN = timedelta(seconds=10)
"""A form that comes again this soon was sent twice, and the browser shows the last answer only."""


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


class WebhookGone(Refused):
    """The webhook was removed since it was read."""

    def __init__(self):
        super().__init__("This webhook was removed, so nothing was changed.")


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
        "organizations.Organization", on_delete=models.PROTECT, related_name="applications"
    )
    name = models.CharField(max_length=120)
    slug = models.CharField(
        max_length=50,
        validators=[validate_slug],
        help_text="Stands in addresses and never changes.",
    )
    kind = models.CharField(max_length=4, choices=Kind, default=Kind.LIVE)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    renamed_at = models.DateTimeField(null=True, editable=False)
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

    @property
    def is_paused(self):
        """Is it suspended, because rent is unpaid?"""
        return self.billing_paused_at is not None

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
        self.name, self.renamed_at = name, at
        self.save(update_fields=["name", "renamed_at"])
        Activity.objects.record(
            self.organization, "renamed", subject=self, by=by, at=at,
            before={"name": before}, after={"name": name},
        )  # fmt: skip

    @transaction.atomic
    def set_webhook(self, *, url, events, headers, by, at):
        """Save where this application hears of its numbers, in place of what was set before."""
        self._lock_open()
        webhook = self.webhook or Webhook(application=self, created_at=at)
        return self._write_webhook(webhook, url=url, events=events, headers=headers, by=by, at=at)

    @transaction.atomic
    def add_webhook(self, *, url, events, headers, by, at, once=False):
        """Let this application hear of its numbers at one more address; raises Refused at the limit.

        With `once`, the same asked for twice in a row is there once.
        """
        self._lock_open()
        facts = {"url": url, "events": events, "headers": headers}
        made = self.webhooks.filter(**facts, created_at__gt=at - TWICE_WITHIN)
        if once and (webhook := made.first()):
            return webhook
        if self.webhooks.count() >= WEBHOOKS_AT_MOST:
            raise Refused(f"An application has at most {WEBHOOKS_AT_MOST} webhooks.")
        webhook = Webhook(application=self, created_at=at)
        return self._write_webhook(webhook, url=url, events=events, headers=headers, by=by, at=at)

    @transaction.atomic
    def change_webhook(self, webhook, *, url, events, headers, by, at):
        self._lock_open()
        return self._write_webhook(webhook, url=url, events=events, headers=headers, by=by, at=at)

    def _write_webhook(self, webhook, *, url, events, headers, by, at):
        """Saving switches a webhook on again that was switched off."""
        if webhook.pk:
            webhook.lock()
        before = webhook.facts() if webhook.pk else None
        same = (webhook.url, webhook.events, webhook.headers) == (url, events, headers)
        if same and webhook.disabled_at is None:
            return webhook
        webhook.url, webhook.events, webhook.headers = url, events, headers
        webhook.failing_since = webhook.disabled_at = None
        webhook.save()
        Activity.objects.record(
            self.organization, "webhook_saved", subject=self, by=by, at=at,
            before=before, after=webhook.facts(),
        )  # fmt: skip
        return webhook

    @transaction.atomic
    def switch_webhook_on(self, webhook, *, by, at):
        """Send events again to a webhook that was switched off because it failed for days."""
        self._lock_open()
        webhook.lock()
        facts = {"url": webhook.url, "events": webhook.events, "headers": webhook.headers}
        return self._write_webhook(webhook, **facts, by=by, at=at)

    @transaction.atomic
    def remove_webhook(self, webhook=None, *, by, at):
        """Send no events there any more, else to the first one; do nothing where none are sent."""
        self._lock_open()
        webhook = webhook or self.webhook
        if webhook is None:
            return
        try:
            webhook.lock(no_key=False)
        except WebhookGone:
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
    secret_version = models.PositiveIntegerField(default=1, editable=False)
    rotated_at = models.DateTimeField(null=True, editable=False)
    failing_since = models.DateTimeField(null=True, editable=False)
    disabled_at = models.DateTimeField(
        null=True, editable=False, help_text="Switched off, because it failed for days."
    )
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

    def lock(self, *, no_key=True):
        """Hold and read this row: its secret is rotated without the application. Raises WebhookGone.

        Comes before its deliveries. With `no_key` False nobody writes an event for it meanwhile.
        """
        application = self.application
        try:
            self.refresh_from_db(from_queryset=Webhook.objects.select_for_update(no_key=no_key))
        except Webhook.DoesNotExist:
            raise WebhookGone from None
        self.application = application

    @property
    def host(self):
        """Where it points, without the path, which may carry a secret."""
        return urlsplit(self.url).netloc

    @property
    def address(self):
        """Where it points, for those who may see all of it."""
        return self.url.removeprefix("https://")

    def facts(self):
        """What activity remembers of it: nothing that could be a secret."""
        return {"host": self.host, "events": self.events, "headers": sorted(self.headers)}
