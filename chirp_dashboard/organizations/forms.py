"""What people type about organizations and applications, cleaned for the verbs of the models."""

import ipaddress
import re
import secrets
import unicodedata
import zoneinfo
from datetime import timedelta
from urllib.parse import urlsplit

from django import forms
from django.utils.text import slugify

from .models import Application, Organization, SlugTaken, WebhookEvent, validate_slug

BIDI_OVERRIDES = frozenset("\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069")
RESERVED_SLUGS = frozenset({"create"})
KEPT = "••••••••"
"""Stands in the form for a header value that is kept: secrets are never shown again."""
THREE_LETTERS = "Write the three letters of a currency, such as USD."
HEADERS_AT_MOST = 20
HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}\Z")
HEADER_VALUE = re.compile(r"[\x20-\x7e\xa0-\xff]{1,1000}\Z")
OUR_HEADERS = frozenset(
    [
        "connection",
        "content-length",
        "content-type",
        "expect",
        "host",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "webhook-id",
        "webhook-signature",
        "webhook-timestamp",
    ]
)


def visible(text):
    """Whether nothing in `text` hides or turns the text around it."""
    return not any(unicodedata.category(c) == "Cc" or c in BIDI_OVERRIDES for c in text)


class NameField(forms.CharField):
    """A name people read: any script and emoji, nothing that hides or turns the text around it."""

    def __init__(self, **options):
        messages = {
            "required": "Write a name.",
            "max_length": "A name has at most %(limit_value)d characters.",
        }
        super().__init__(
            **{"max_length": 120, "label": "Name", "error_messages": messages} | options
        )

    def clean(self, value):
        name = super().clean(value)
        if not visible(name):
            raise forms.ValidationError("Leave out line breaks and invisible control characters.")
        if name and not any(c.isprintable() and not c.isspace() for c in name):
            raise forms.ValidationError("Write a name that can be seen.")
        return name


class RenameForm(forms.Form):
    name = NameField()


class KeyForm(forms.Form):
    """What a key is called; `once` names the form, so that sent twice it makes one key."""

    name = NameField(
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="What will use it, such as “Till in Hamburg”. Only people read it.",
    )
    once = forms.CharField(required=False, max_length=64, widget=forms.HiddenInput)

    @classmethod
    def blank(cls, *, name):
        return cls(
            initial={"name": name.replace("\0", "")[:120], "once": secrets.token_urlsafe(16)}
        )


class ApplicationForm(forms.Form):
    name = NameField(
        widget=forms.TextInput(attrs={"autocomplete": "off"}),
        help_text="For people; you can change it later.",
    )
    slug = forms.CharField(
        required=False,
        max_length=50,
        validators=[validate_slug],
        help_text="Stands in addresses and never changes. Left empty, it is made from the name.",
        widget=forms.TextInput(
            attrs={"autocomplete": "off", "autocapitalize": "none", "spellcheck": "false"}
        ),
    )
    kind = forms.ChoiceField(choices=Application.Kind, initial=Application.Kind.LIVE)

    def __init__(self, *args, organization, **options):
        self.organization = organization
        super().__init__(*args, **options)

    def clean_slug(self):
        slug = self.cleaned_data["slug"]
        if slug in RESERVED_SLUGS:
            raise forms.ValidationError(f"“{slug}” is an address of this site. Choose another.")
        if slug and self.organization.applications.filter(slug=slug).exists():
            raise forms.ValidationError(str(SlugTaken(slug)))
        return slug

    def clean(self):
        if not self.cleaned_data.get("slug") and "slug" not in self.errors:
            name = self.cleaned_data.get("name", "")
            self.cleaned_data["slug"] = suggest_slug(self.organization, name)


def suggest_slug(organization, name):
    """A slug for `name` that is free: `storefront`, else `storefront-2` and so on."""
    base = slugify(name).replace("_", "-").strip("-")[:44].strip("-") or "app"
    taken = RESERVED_SLUGS | set(
        organization.applications.filter(slug__startswith=base).values_list("slug", flat=True)
    )
    candidates = (f"{base}-{number}" if number > 1 else base for number in range(1, len(taken) + 2))
    return next(slug for slug in candidates if slug not in taken)


class WebhookForm(forms.Form):
    url = forms.URLField(
        label="URL",
        max_length=500,
        assume_scheme="https",
        widget=forms.URLInput(attrs={"autocomplete": "off", "placeholder": "https://"}),
        help_text="Where events are sent, by POST. It begins with https:// and is reachable from "
        "the internet.",
        error_messages={
            "required": "Write the address that events are sent to.",
            "invalid": "Write an address such as https://example.com/hooks.",
            "max_length": "An address has at most %(limit_value)d characters.",
        },
    )
    events = forms.MultipleChoiceField(
        choices=WebhookEvent,
        widget=forms.CheckboxSelectMultiple,
        error_messages={"required": "Choose at least one event."},
    )
    headers = forms.CharField(
        required=False,
        max_length=10_000,
        strip=True,
        widget=forms.Textarea(
            attrs={"rows": 3, "spellcheck": "false", "placeholder": "X-Token: something secret"}
        ),
        help_text="Sent with every event, one to a line. Saved values are not shown again.",
    )

    def __init__(self, *args, webhook=None, **options):
        self.kept = webhook.headers if webhook else {}
        initial = {"events": WebhookEvent.values}
        if webhook:
            initial = {
                "url": webhook.url,
                "events": webhook.events,
                "headers": "\n".join(f"{name}: {KEPT}" for name in webhook.headers),
            }
        super().__init__(*args, initial=initial, **options)

    def clean_url(self):
        url = self.cleaned_data["url"]
        parts = urlsplit(url)
        if parts.scheme != "https":
            raise forms.ValidationError("Use an address that begins with https://.")
        if parts.username or parts.password:
            raise forms.ValidationError("Put the user name and password into a header instead.")
        if parts.fragment:
            raise forms.ValidationError("Leave out what follows #; it is never sent.")
        if not is_public(parts.hostname):
            raise forms.ValidationError("This host is not reachable from the internet.")
        return url

    def clean_events(self):
        chosen = set(self.cleaned_data["events"])
        return [event for event in WebhookEvent.values if event in chosen]

    def clean_headers(self):
        headers = {}
        for number, line in enumerate(self.cleaned_data["headers"].splitlines(), start=1):
            if not line.strip():
                continue
            name, colon, value = line.partition(":")
            name, value = name.strip(), value.strip()
            self._check_header(number, name, colon, value)
            if name.lower() in {known.lower() for known in headers}:
                raise forms.ValidationError(f"Line {number}: {name} is there already.")
            headers[name] = self.kept[name] if value == KEPT else value
        if len(headers) > HEADERS_AT_MOST:
            raise forms.ValidationError(f"Set at most {HEADERS_AT_MOST} headers.")
        return headers

    def _check_header(self, number, name, colon, value):
        if not colon or not value:
            raise forms.ValidationError(f"Line {number}: write a name, a colon and a value.")
        if not HEADER_NAME.match(name):
            raise forms.ValidationError(f"Line {number}: a header's name has no spaces or accents.")
        if name.lower() in OUR_HEADERS:
            raise forms.ValidationError(f"Line {number}: {name} is set by this dashboard.")
        if value == KEPT:
            if name not in self.kept:
                raise forms.ValidationError(f"Line {number}: type the value of {name}.")
        elif not HEADER_VALUE.match(value):
            raise forms.ValidationError(
                f"Line {number}: the value of {name} is at most 1,000 plain characters."
            )


class RedeliverForm(forms.Form):
    """Since when what failed is sent again; each choice says how many events that is."""

    SINCE = {
        "hour": (timedelta(hours=1), "In the last hour"),
        "day": (timedelta(days=1), "In the last 24 hours"),
        "week": (timedelta(days=7), "In the last 7 days"),
        "all": (timedelta(days=31), "All that are kept, 30 days"),
    }
    since = forms.ChoiceField(
        label="Failed",
        widget=forms.RadioSelect,
        error_messages={"required": "Choose since when.", "invalid_choice": "Choose since when."},
    )

    def __init__(self, *args, counts, at, **options):
        self.counts, self.at = counts, at
        super().__init__(*args, initial={"since": "day"}, **options)
        self.fields["since"].choices = [(name, words) for name, (_, words) in self.SINCE.items()]

    @property
    def options(self):
        """`(value, words, count, whether chosen)` of each."""
        chosen = self["since"].value()
        return [
            (name, words, self.counts[name], name == chosen)
            for name, words in self.fields["since"].choices
        ]

    def clean_since(self):
        return self.at - self.SINCE[self.cleaned_data["since"]][0]


def is_public(host):
    """Whether `host` could be on the internet; what it resolves to is checked when events are sent."""
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        return "." in host and not host.endswith(
            (".localhost", ".local", ".internal", ".home.arpa")
        )


class OrganizationForm(forms.Form):
    """The settings people may change; the terms only as long as nothing was billed in them."""

    name = NameField()
    currency = forms.CharField(
        max_length=3,
        widget=forms.TextInput(attrs={"autocapitalize": "characters", "spellcheck": "false"}),
        help_text="A code such as USD. Prices, charges and invoices are in it.",
        error_messages=dict.fromkeys(("required", "max_length"), THREE_LETTERS),
    )
    time_zone = forms.ChoiceField(help_text="Days begin at midnight of this zone.")
    billing_day = forms.IntegerField(
        min_value=1,
        max_value=31,
        help_text="Day of the month, 1–31. In a shorter month it is the last day.",
        error_messages=dict.fromkeys(
            ("required", "invalid", "min_value", "max_value"), "Write a day from 1 to 31."
        ),
    )

    def __init__(self, *args, organization, terms_are_fixed, **options):
        names = ["name"] if terms_are_fixed else ["name", *Organization.TERMS]
        initial = {name: getattr(organization, name) for name in names}
        super().__init__(*args, initial=initial, **options)
        for name in set(self.fields) - set(names):
            del self.fields[name]
        if "time_zone" in self.fields:
            self.fields["time_zone"].choices = time_zones(organization.time_zone)

    def clean_currency(self):
        currency = self.cleaned_data["currency"].upper()
        if not re.fullmatch("[A-Z]{3}", currency):
            raise forms.ValidationError(THREE_LETTERS)
        return currency


def time_zones(chosen):
    """Choices by continent: the places people know, without the aliases kept for old computers."""
    groups = {}
    for name in sorted(zoneinfo.available_timezones()):
        area, _, place = name.partition("/")
        if place and area not in {"Etc", "SystemV", "US"}:
            groups.setdefault(area, []).append((name, place.replace("_", " ")))
    listed = {name for names in groups.values() for name, _ in names}
    others = sorted({"UTC", chosen} - listed)
    return [*groups.items(), ("Other", [(name, name) for name in others])]
