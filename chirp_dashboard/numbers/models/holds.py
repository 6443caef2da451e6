"""Holds: time-limited claims on offers while someone decides."""

from dataclasses import dataclass, field
from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.db.models import Q

from chirp_dashboard.numbers.carriers import carrier_named
from chirp_dashboard.organizations.models import Organization
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.postgres.prepared import columns_of, fetch

from .inventory import NumberFacts, NumberQuerySet

HOLD_FOR = timedelta(minutes=15)
REMEMBERED_FOR = timedelta(days=1)
HOLDS_PER_PERSON = 20
HOLDS_PER_ORGANIZATION = 50


class TooManyHolds(Refused):
    """The person or the organization holds as many numbers as one may."""


@dataclass
class HoldResult:
    """What became of each number asked for: the holds, and `{(country, number): why not}`."""

    held: list = field(default_factory=list)
    refused: dict = field(default_factory=dict)


class HoldQuerySet(NumberQuerySet):
    def live(self, *, at):
        return self.filter(held_until__gt=at)

    def live_on(self, numbers, *, at):
        """Whoever's live holds on `(country, number)` pairs that the caller has claimed."""
        statement = f"""
            SELECT {columns_of(Hold, "hold")} FROM numbers_hold hold
            WHERE (country, number) IN (
                SELECT * FROM unnest(%(countries)s::text[], %(numbers)s::text[])
            ) AND held_until > %(at)s::timestamptz
        """  # noqa: S608 - the column names are our own
        asked = {"countries": [c for c, _ in numbers], "numbers": [n for _, n in numbers]}
        return [hold for (hold,) in fetch([Hold], statement, asked | {"at": at})]

    def of(self, person, organization):
        """What `person` chose in `organization`, lapsed holds included, oldest first."""
        return self.filter(person=person, organization=organization).order_by("id")

    @transaction.atomic
    def hold(self, organization, person, numbers, *, at, carrier="stock"):
        """Hold `numbers` (`(country, number)` pairs) for `person` at today's prices.

        What is sold or held by somebody else is refused line by line; raises TooManyHolds when the
        limits leave no room for all of them.
        """
        organization.lock()
        wanted = sorted(set(numbers))
        self._check_room(organization, person, wanted, at=at)
        source = carrier_named(carrier)
        free, gone = source.claim(wanted, at=at)
        on = organization.local_date(at)
        offers = {offer.key: offer for offer in source.priced(organization, free.values(), on=on)}
        result = HoldResult(refused=gone)
        for key in wanted:
            if key in gone:
                continue
            if key not in offers:
                result.refused[key] = "no longer for sale"
            elif hold := self._take(organization, person, offers[key], at=at):
                result.held.append(hold)
            else:
                result.refused[key] = self._held_by(organization, key)
        return result

    @transaction.atomic
    def let_go(self, organization, person, numbers):
        """End `person`'s holds on `numbers`; returns how many there were."""
        organization.lock()
        return self.of(person, organization).among(numbers).delete()[0]

    @transaction.atomic
    def extend(self, organization, person, *, at):
        """Give `person`'s live holds another full time, once each; returns how many were extended."""
        organization.lock()
        return (
            self.of(person, organization)
            .live(at=at)
            .filter(extended=False)
            .order_by()
            .update(held_until=at + HOLD_FOR, extended=True)
        )

    def forget_lapsed(self, *, at):
        """Drop holds that lapsed a day ago; until then a person sees what they had chosen.

        Those that somebody is taking over at this moment are left to them.
        """
        lapsed = self.filter(held_until__lte=at - REMEMBERED_FOR).order_by()
        free = lapsed.select_for_update(skip_locked=True).values("pk")
        return self.filter(pk__in=free).order_by().delete()[0]

    def _check_room(self, organization, person, wanted, *, at):
        others = self.live(at=at).filter(organization=organization)
        held = [(h.person_id, h.key) for h in others if h.key not in wanted or h.person != person]
        own = sum(1 for person_id, _ in held if person_id == person.pk)
        if own + len(wanted) > HOLDS_PER_PERSON:
            raise TooManyHolds(
                f"You can hold {HOLDS_PER_PERSON} numbers at a time. Purchase or let go of some first."
            )
        if len(held) + len(wanted) > HOLDS_PER_ORGANIZATION:
            raise TooManyHolds(
                f"Your organization can hold {HOLDS_PER_ORGANIZATION} numbers at a time. "
                "Wait until some are purchased or let go."
            )

    def _take(self, organization, person, offer, *, at):
        """Write the hold, or take over a lapsed one; None when somebody else's is live.

        `claim` has locked the number's row, so two people cannot both find it free.
        """
        terms = {
            "organization": organization,
            "person": person,
            "carrier": offer.carrier,
            "held_at": at,
            "held_until": at + HOLD_FOR,
            "extended": False,
            "purchase_fee": offer.purchase_fee,
            "rental": offer.rental,
            "interval_months": offer.interval_months,
            "currency": offer.currency,
        }
        hold = self.select_for_update().among([offer.key]).order_by().first()
        if hold is None:
            return self.create(**offer.facts, **terms)
        if hold.is_live(at=at):
            return hold if (hold.person, hold.organization) == (person, organization) else None
        for name, value in terms.items():
            setattr(hold, name, value)
        hold.save(update_fields=terms)
        return hold

    def _held_by(self, organization, key):
        hold = self.filter(country=key[0], number=key[1]).select_related("person").first()
        if hold and hold.organization_id == organization.pk:
            return f"held by {hold.person}"
        return "just taken by somebody else"


class Hold(NumberFacts):
    """One person's claim on one number until `held_until`, with the prices it was offered at.

    One row per number: a lapsed hold is taken over, never doubled. Whoever writes one has locked the
    carrier's row of the number first (`claim`), so two people never judge the same hold at once.
    """

    organization = models.ForeignKey(Organization, on_delete=models.CASCADE, related_name="holds")
    person = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="holds"
    )
    carrier = models.CharField(max_length=20, default="stock")
    held_at = models.DateTimeField()
    held_until = models.DateTimeField()
    extended = models.BooleanField(default=False)
    purchase_fee = models.BigIntegerField()
    rental = models.BigIntegerField()
    interval_months = models.PositiveSmallIntegerField(default=1)
    currency = models.CharField(max_length=3)

    objects = HoldQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["country", "number"], name="hold_once"),
            models.CheckConstraint(
                condition=Q(purchase_fee__gte=0) & Q(rental__gte=0), name="hold_price"
            ),
        ]
        indexes = [models.Index(fields=["organization", "person"], name="hold_of_person")]
        ordering = ["id"]

    def is_live(self, *, at):
        return self.held_until > at
