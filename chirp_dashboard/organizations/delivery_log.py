"""One page of what an application's webhooks were told: by state, event and webhook, by keyset."""

from datetime import timedelta
from urllib.parse import urlencode

from django.db.models import OuterRef, Subquery

from .models import Delivery, DeliveryAttempt, WebhookEvent

PAGE = 50
TEST_EVENT = "webhook.test"
EVENTS = [*WebhookEvent.values, TEST_EVENT]
FILTERS = ("state", "event", "webhook")
SOON = timedelta(seconds=30)


class DeliveryLog:
    """Newest first; `before` and `after` name the message the page begins beside."""

    def __init__(self, webhooks, query, *, at):
        self.webhooks = {webhook.public_id: webhook for webhook in webhooks}
        self.at = at
        self.state = one_of(Delivery.State.values, query.get("state"))
        self.event = one_of(EVENTS, query.get("event"))
        self.webhook = one_of(self.webhooks, query.get("webhook"))
        self.before, self.after = (
            query.get(side, "").replace("\0", "")[:64] for side in ("before", "after")
        )
        self.rows = self._read() if webhooks else []

    def _read(self):
        """The rows of the page; `newer` and `older` say whether there is another."""
        rows = self._wanted()
        if self.after:
            rows = rows.filter(pk__gt=place_of(self.after)).order_by("id")
        elif self.before:
            rows = rows.filter(pk__lt=place_of(self.before))
        found = list(rows[: PAGE + 1])
        self.more, found = len(found) > PAGE, found[:PAGE]
        by_key = {webhook.pk: webhook for webhook in self.webhooks.values()}
        for delivery in found:
            delivery.webhook = by_key[delivery.webhook_id]
        return found[::-1] if self.after else found

    def _wanted(self):
        chosen = [self.webhooks[self.webhook]] if self.webhook else list(self.webhooks.values())
        rows = Delivery.objects.filter(webhook__in=chosen)
        if self.state:
            rows = rows.filter(state=self.state)
        if self.event:
            rows = rows.filter(event=self.event)
        last = DeliveryAttempt.objects.filter(delivery=OuterRef("pk")).order_by("-id")
        return rows.annotate(
            answered=Subquery(last.values("status")[:1]), trouble=Subquery(last.values("error")[:1])
        ).order_by("-id")

    @property
    def narrowed(self):
        """The filters that are set, as they stand in an address."""
        return {name: value for name in FILTERS if (value := getattr(self, name))}

    @property
    def shows_any(self):
        """Whether there is anything to narrow, as far as this page knows."""
        return bool(self.rows or self.narrowed or self.before or self.after)

    @property
    def query(self):
        return self._address()

    @property
    def newer(self):
        if not self.rows or not (self.more if self.after else self.before):
            return ""
        return self._address(after=self.rows[0].message_id)

    @property
    def older(self):
        if not self.rows or not (self.after or self.more):
            return ""
        return self._address(before=self.rows[-1].message_id)

    def _address(self, **beside):
        return "?" + urlencode(self.narrowed | beside)

    @property
    def is_moving(self):
        """Whether an answer is expected so soon that the page is worth asking again."""
        return not (self.before or self.after) and any(
            each.next_try_at and abs(each.next_try_at - self.at) < SOON for each in self.rows
        )

    @property
    def choices(self):
        """What can be chosen in the filters: `(value, words)` each."""
        return {
            "state": [(state.value, state.label) for state in Delivery.State],
            "event": [(event, event) for event in EVENTS],
            "webhook": [(key, webhook.address[:60]) for key, webhook in self.webhooks.items()],
        }

    @property
    def announcement(self):
        if not self.rows:
            return "No delivery matches."
        return f"{len(self.rows)} deliveries" if len(self.rows) > 1 else "1 delivery"


def one_of(known, value):
    return value if value in known else ""


def place_of(message):
    return Subquery(Delivery.objects.filter(message_id=message).values("pk"))
