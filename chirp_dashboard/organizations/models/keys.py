"""API keys: what a program shows instead of a password. Shown once, stored as a keyed hash."""

import hashlib
import hmac
import secrets
import zlib
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import F, Q

from chirp_dashboard.organizations.public_ids import ALPHABET, PublicIdField, public_id
from chirp_dashboard.organizations.refusals import Refused

from .activity import Activity, Actor, person_of
from .applications import TWICE_WITHIN, Application, ApplicationArchived

RANDOM, CHECKSUM = 30, 6
KEYS_AT_MOST = 50
"""Keys in use of one application, or of the organization; more are a leak waiting to be found."""
REVOKED_SHOWN = 20
SEEN_EVERY = timedelta(minutes=1)


class TooManyKeys(Refused):
    """As many keys are in use as there may be; one is to be revoked first."""


class MadeAlready(Refused):
    """The form that asks for a key made one before; what that answer showed is not shown again."""

    def __init__(self, key):
        super().__init__(
            f"This form created a key already, {key.preview}. If you did not copy it, revoke it and "
            "create another."
        )


def base62(number, *, length):
    characters = []
    for _ in range(length):
        number, digit = divmod(number, 62)
        characters.append(ALPHABET[digit])
    return "".join(reversed(characters))


def checksum(text):
    """Six characters by which a mistyped or made-up key is told from a real one without a query."""
    return base62(zlib.crc32(text.encode()), length=CHECKSUM)


def make_secret(prefix, *, told=""):
    """A new secret; where something is `told`, the same one whenever the same is told."""
    body = "".join(secrets.choice(ALPHABET) for _ in range(RANDOM))
    if told:
        mac = hmac.new(settings.API_KEY_PEPPER.encode(), f"key:{told}".encode(), hashlib.sha256)
        body = base62(int.from_bytes(mac.digest()), length=RANDOM)
    return prefix + body + checksum(prefix + body)


def is_well_formed(secret):
    """Does `secret` look like a key of ours, checksum included?"""
    prefix = next((each for each in ApiKey.PREFIXES if secret.startswith(each)), None)
    if prefix is None or not secret.isascii() or len(secret) != len(prefix) + RANDOM + CHECKSUM:
        return False
    return hmac.compare_digest(secret[-CHECKSUM:], checksum(secret[:-CHECKSUM]))


def digest(secret):
    return hmac.new(settings.API_KEY_PEPPER.encode(), secret.encode(), hashlib.sha256).hexdigest()


class ApiKeyQuerySet(models.QuerySet):
    def in_use(self):
        return self.filter(revoked_at=None)

    @transaction.atomic
    def issue(self, organization, *, name, by, at, application=None, once=""):
        """A new key of `application`, or of the whole organization; `(key, secret)`, told this once.

        `once` is random and names the form that asks: sent twice it makes one key, and both answers
        show it. Raises ApplicationArchived, TooManyKeys or MadeAlready.
        """
        organization.lock()
        if application:
            application.lock()
            if application.is_archived:
                raise ApplicationArchived(application)
        kind = ApiKey.Kind.APP if application else ApiKey.Kind.ADMIN
        is_test = bool(application and application.is_test)
        told = once and f"{organization.pk}:{application and application.pk}:{by.pk}:{name}:{once}"
        secret = make_secret(ApiKey.prefix_of(kind, is_test=is_test), told=told)
        if once and (made := self.filter(digest=digest(secret)).first()):
            if made.revoked_at or at >= made.created_at + TWICE_WITHIN:
                raise MadeAlready(made)
            return made, secret
        if (
            self.filter(organization=organization, application=application).in_use().count()
            >= KEYS_AT_MOST
        ):
            raise TooManyKeys(
                f"{KEYS_AT_MOST} keys are in use. Revoke one that is not needed first."
            )
        key = self.create(
            public_id=public_id(f"key_{kind}", test=is_test),
            organization=organization, application=application, kind=kind, name=name,
            digest=digest(secret), ending=secret[-4:], is_test=is_test, created_at=at,
            created_by=person_of(by),
        )  # fmt: skip
        key._note("key_created", by=by, at=at)
        return key, secret

    def listed(self):
        """All in use, newest first, then those that were revoked last."""
        in_use_first = F("revoked_at").desc(nulls_first=True)
        rows = self.select_related("created_by").order_by(in_use_first, "-id")
        return rows[: KEYS_AT_MOST + REVOKED_SHOWN]

    def with_secret(self, secret):
        """The key in use that `secret` is, with its organization and application, or None."""
        if not is_well_formed(secret):
            return None
        found = self.in_use().filter(digest=digest(secret), application__archived_at=None)
        return found.select_related("organization", "application").first()


class ApiKey(models.Model):
    """One key of one application, or an admin key of the organization. Revoked, never deleted."""

    class Kind(models.TextChoices):
        APP = "app", "App key"
        ADMIN = "admin", "Admin key"

    PREFIXES = ("sk_live_app_", "sk_test_app_", "sk_admin_")

    public_id = PublicIdField("key")
    organization = models.ForeignKey(
        "organizations.Organization", on_delete=models.PROTECT, related_name="api_keys"
    )
    application = models.ForeignKey(
        Application, on_delete=models.PROTECT, null=True, related_name="api_keys"
    )
    kind = models.CharField(max_length=5, choices=Kind)
    is_test = models.BooleanField(default=False)
    name = models.CharField(max_length=120)
    digest = models.CharField(max_length=64, unique=True)
    ending = models.CharField(max_length=4, help_text="Its last characters, to recognise it by.")
    created_at = models.DateTimeField()
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    used_at = models.DateTimeField(null=True)
    revoked_at = models.DateTimeField(null=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        constraints = [
            models.CheckConstraint(
                condition=Q(kind="app", application__isnull=False)
                | Q(kind="admin", application=None),
                name="api_key_kind",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="api_key_of_organization"),
        ]
        verbose_name = "API key"

    def __str__(self):
        return self.name

    @staticmethod
    def prefix_of(kind, *, is_test):
        if kind == ApiKey.Kind.ADMIN:
            return "sk_admin_"
        return "sk_test_app_" if is_test else "sk_live_app_"

    @property
    def preview(self):
        return f"{self.prefix_of(self.kind, is_test=self.is_test)}****{self.ending}"

    @property
    def actor(self):
        """Who acts when this key is shown."""
        return Actor(kind=Activity.ActorKind.KEY, name=f"{self.name} ({self.preview})")

    @transaction.atomic
    def revoke(self, *, by, at):
        """End this key at once, and say whether it was this call that did."""
        if not ApiKey.objects.in_use().filter(pk=self.pk).update(revoked_at=at):
            self.refresh_from_db(fields=["revoked_at"])
            return False
        self.revoked_at = at
        self._note("key_revoked", by=by, at=at)
        return True

    def seen(self, *, at):
        """Remember that it was used, at most once a minute."""
        if self.used_at is None or self.used_at <= at - SEEN_EVERY:
            stale = Q(used_at=None) | Q(used_at__lte=at - SEEN_EVERY)
            ApiKey.objects.filter(stale, pk=self.pk).update(used_at=at)

    def _note(self, verb, *, by, at):
        facts = {"name": self.name, "kind": str(self.kind), "preview": self.preview}
        if self.application:
            facts["application"] = self.application.name
        Activity.objects.record(self.organization, verb, subject=self, by=by, at=at, after=facts)
