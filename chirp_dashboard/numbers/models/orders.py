"""Orders: the durable intent to purchase 1 to 20 numbers, each line with its own outcome.

`Order.objects.place()` writes the intent; `Order.advance()` (in `advancing.py`) takes the next step and
may be called by the request, by a worker, or after a crash, with the same result. With the default
parts, stock and account, there is no outside call and `place()` completes the order itself, in the
one transaction that also made the claim.
"""

from django.conf import settings
from django.db import models, transaction
from django.db.models import Exists, OuterRef, Q

from chirp_dashboard.billing.gateways import gateway_for
from chirp_dashboard.billing.models import Payment, Standing
from chirp_dashboard.billing.tax import tax_on
from chirp_dashboard.numbers.carriers import carrier_named
from chirp_dashboard.organizations.models import (
    Activity,
    Actor,
    ApiKey,
    Application,
    Organization,
)
from chirp_dashboard.organizations.public_ids import PublicIdField
from chirp_dashboard.organizations.refusals import Refused
from chirp_dashboard.postgres.prepared import columns_of, fetch
from chirp_dashboard.sweeps import for_each

from .advancing import Advances
from .delivery import deliver
from .holds import Hold
from .inventory import NumberFacts
from .quotes import Quote, QuoteChanged
from .refunding import Refunds
from .writing import write

LINES_PER_ORDER = 20


class IdempotencyConflict(Refused):
    """The same idempotency key came with another order."""


class CardNeeded(Refused):
    """The order would be paid by card, and none is saved."""

    needs_card = True

    def __init__(self):
        super().__init__(
            "Nothing was purchased. Purchases are paid by card, and your organization has saved none. "
            "Save a card, then complete the purchase."
        )


class OrderQuerySet(models.QuerySet):
    def open(self):
        return self.filter(state__in=Order.OPEN)

    @transaction.atomic
    def _place(
        self,
        organization,
        *,
        person,
        key,
        numbers,
        expected_total,
        idempotency_key,
        at,
        application,
    ):
        standing = Standing.lock(organization)
        organization = standing.organization  # as it is now that it is locked
        if earlier := self._with_key(organization, idempotency_key):
            return earlier.replayed(
                numbers=numbers, expected_total=expected_total, application=application
            )
        self._check_application(organization, application)
        on = organization.local_date(at)
        quote = self._claim(organization, person, numbers, on=on, at=at, expected=expected_total)
        standing.check_purchase(quote.total, on=on)
        self._check_card(organization, quote.total)
        order = Order(
            organization=organization,
            placed_by=person,
            placed_by_key=key,
            placed_at=at,
            placed_on=on,
            application=application,
            gateway=organization.gateway,
            total=quote.total,
            tax_rate=quote.tax_rate,
            currency=quote.currency,
            idempotency_key=idempotency_key,
        )
        if order.completes_at_once(quote):
            order.complete_at_once(quote, standing=standing, at=at)
        else:
            order.begin(quote, standing=standing, at=at)
        return order

    def place(
        self,
        organization,
        *,
        person=None,
        numbers,
        expected_total,
        idempotency_key,
        at,
        application=None,
        key=None,
    ):
        """Place an order for `numbers` (`(country, number)` pairs) at the total the person saw.

        Placed by `person`, or by a program that shows the API key `key`; a key has no holds of its own.

        All or nothing: raises QuoteChanged when a number is gone or the total (minor unit) no longer
        holds, CreditLimitReached, or Refused. With `expected_total` None it costs what it costs now.
        The same `idempotency_key` again returns the same order, or raises IdempotencyConflict when
        what it asks for differs.
        """
        numbers = sorted(set(numbers))
        if not 1 <= len(numbers) <= LINES_PER_ORDER:
            raise Refused(f"An order takes 1 to {LINES_PER_ORDER} numbers.")
        order = self._place(
            organization,
            person=person,
            key=key,
            numbers=numbers,
            expected_total=expected_total,
            idempotency_key=idempotency_key,
            at=at,
            application=application,
        )
        order.advance(at=at)
        return order

    def _check_application(self, organization, application):
        if application is None:
            return
        if application.organization_id != organization.pk:
            raise Refused("That application belongs to another organization.")
        application.lock()
        if application.is_archived or application.kind != Application.Kind.LIVE:
            raise Refused(f"{application} takes no live numbers. Choose another application.")

    def _check_card(self, organization, total):
        gateway = gateway_for(organization)
        if total and gateway.collects_orders and not gateway.can_collect(organization):
            raise CardNeeded

    def _with_key(self, organization, idempotency_key):
        """The order that was placed with this key already, if any."""
        statement = f"""
            SELECT {columns_of(Order, "placed")} FROM numbers_order placed
            WHERE organization_id = %(organization)s::bigint
              AND idempotency_key = %(idempotency_key)s::text
        """  # noqa: S608 - the column names are our own
        asked = {"organization": organization.pk, "idempotency_key": idempotency_key}
        return next((order for (order,) in fetch([Order], statement, asked)), None)

    def _claim(self, organization, person, numbers, *, on, at, expected):
        """Lock the numbers and quote them; held ones at the prices they were held at."""
        carrier = carrier_named("stock")
        free, lost = carrier.claim(numbers, at=at)
        holds = {hold.key: hold for hold in Hold.objects.live_on(numbers, at=at)}
        offers = {}
        for key, hold in holds.items():
            if hold.organization_id != organization.pk:
                lost.setdefault(key, "just taken by somebody else")
            elif person is None or hold.person_id != person.pk:
                lost.setdefault(key, f"held by {hold.person}")
            else:
                offers[key] = hold
        if unheld := [row for key, row in free.items() if key not in holds]:
            offers |= {row.key: row for row in carrier.priced(organization, unheld, on=on)}
        lost |= {key: "no longer for sale" for key in numbers if key not in offers | lost}
        remaining = [offers[key] for key in numbers if key not in lost]
        quote = Quote.of(organization, remaining, on=on) if remaining else None
        if lost or expected not in {None, quote.total}:
            raise QuoteChanged(quote, lost)
        return quote

    def advance_due(self, *, at, limit=100):
        """Advance every open order whose time for another look has come; returns how many.

        One that fails keeps no other waiting.
        """

        def advance(order):
            order.wake(at=at) if order.state == Order.State.STUCK else order.advance(at=at)
            return 1

        due = self.open().filter(next_look_at__lte=at).order_by("next_look_at")[:limit]
        return for_each([*self._ending(at=at), *due], advance, failure="could not be advanced")

    def _ending(self, *, at):
        """Stuck ones whose authorisation is about to end: they are tried once more while it holds."""
        ending = Payment.objects.ending(at=at).filter(order=OuterRef("pk"))
        return self.filter(Exists(ending), state=Order.State.STUCK)


class Order(Advances, models.Model):
    """Immutable facts and a guarded state; see design §7 for the steps."""

    class State(models.TextChoices):
        PLACED = "placed", "Placed"
        AUTHORISED = "authorised", "Payment authorised"
        ORDERED = "ordered", "Ordered"
        COMPLETED = "completed", "Completed"
        PARTLY_COMPLETED = "partly_completed", "Partly completed"
        FAILED = "failed", "Failed"
        DECLINED = "declined", "Payment declined"
        STUCK = "stuck", "Being looked at"

    OPEN = (State.PLACED, State.AUTHORISED, State.ORDERED)

    public_id = PublicIdField("ord")
    organization = models.ForeignKey(Organization, on_delete=models.PROTECT, related_name="orders")
    placed_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, related_name="+"
    )
    placed_by_key = models.ForeignKey(
        ApiKey, on_delete=models.PROTECT, null=True, related_name="+", db_index=False
    )
    placed_at = models.DateTimeField()
    placed_on = models.DateField(help_text="Local date; the rentals start on it.")
    application = models.ForeignKey(
        Application,
        on_delete=models.PROTECT,
        null=True,
        related_name="orders",
        help_text="Delivered numbers are assigned to it.",
    )
    gateway = models.CharField(max_length=20)
    total = models.BigIntegerField()
    tax_rate = models.DecimalField(
        max_digits=6, decimal_places=3, default=0, db_default=0,
        help_text="Per cent, as it was quoted; the tax is part of the total.",
    )  # fmt: skip
    currency = models.CharField(max_length=3)
    idempotency_key = models.CharField(max_length=80)
    state = models.CharField(max_length=16, choices=State, default=State.PLACED)
    reason = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_look_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    objects = OrderQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"], name="order_idempotency_key"
            ),
            models.CheckConstraint(condition=Q(total__gte=0), name="order_total"),
            models.CheckConstraint(
                condition=Q(placed_by__isnull=False) ^ Q(placed_by_key__isnull=False),
                name="order_placed_by_somebody",
            ),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="order_of_organization"),
            models.Index(
                fields=["next_look_at"],
                condition=Q(state__in=["placed", "authorised", "ordered", "stuck"]),
                name="order_not_settled",
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return self.public_id

    @property
    def is_open(self):
        return self.state in self.OPEN

    @property
    def is_settled(self):
        """Is its outcome final? That of a stuck one is still with the operator."""
        return not self.is_open and self.state != self.State.STUCK

    @property
    def placer(self):
        """The person, or the API key, that placed it."""
        return self.placed_by or self.placed_by_key

    def told_to(self):
        """Who hears that it waits for them; None means the organization's people of billing."""
        return [self.placed_by.email] if self.placed_by else None

    @property
    def actor(self):
        return Actor.person(self.placed_by) if self.placed_by else self.placed_by_key.actor

    @property
    def is_prepaid(self):
        """Is it collected by a payment of its own, rather than by the next invoice?

        Decided when it was placed, by the payment written then.
        """
        return gateway_for(self).collects_orders and self.payments.exists()

    def own_payment(self):
        """The payment of its own, where its gateway collects orders and this one was not too small."""
        if not gateway_for(self).collects_orders:
            return None
        return self.payments.order_by("-id").first()

    def with_tax(self, net):
        """What `net` of its lines comes to at the rate it was quoted with."""
        return net + tax_on(net, self.tax_rate)

    def delivery_application(self):
        """The application to assign to, if one was chosen and has not been archived meanwhile."""
        if self.application_id is None:
            return None
        self.application.lock()
        return None if self.application.is_archived else self.application

    def replayed(self, *, numbers, expected_total, application):
        """This order again, for a repeated request; refuses one that asks for something else."""
        total = self.total if expected_total is None else expected_total
        asked = numbers, total, application and application.pk
        placed = sorted(line.key for line in self.lines.all()), self.total, self.application_id
        if asked != placed:
            raise IdempotencyConflict(
                "This form was already used for another order. Go back to the numbers you chose "
                "and review them again."
            )
        return self

    def completes_at_once(self, quote):
        """Does nothing outside our database have a say in this order?"""
        local = all(carrier_named(line.carrier).is_local for line in quote.lines)
        return local and not self.needs_payment()

    def needs_payment(self):
        """Is it to have a payment of its own? Too small a sum joins the next invoice."""
        return gateway_for(self).collects_order_of(self.total, self.currency)

    def complete_at_once(self, quote, *, standing, at):
        """Write the order already completed: claim, delivery and charges are one transaction."""
        self.state, self.settled_at = Order.State.COMPLETED, at
        lines = write(self, quote)
        deliver(self, lines, standing=standing, at=at)

    def begin(self, quote, *, standing, at):
        """Write the intent; `advance()` does the rest, outside this transaction."""
        self.next_look_at = at
        lines = write(self, quote, unsettled=self.total)
        for name in {line.carrier for line in lines}:
            carrier_named(name).set_aside([line for line in lines if line.carrier == name])
        if self.needs_payment():
            Payment.objects.create(
                organization=self.organization,
                order=self,
                gateway=self.gateway,
                reference=f"{self.public_id}-1",
                amount=self.total,
                currency=self.currency,
                created_at=at,
            )

    def note(self, before, *, at, by=None):
        """Write the step from state `before` to the present one into the activity."""
        after = {"state": self.state} | ({"reason": self.reason} if self.reason else {})
        Activity.objects.record(
            self.organization,
            "order",
            subject=self,
            by=by or self.actor,
            at=at,
            before={"state": before},
            after=after,
        )


class OrderLine(Refunds, NumberFacts):
    """One number of an order: Chirp's purchase record."""

    class State(models.TextChoices):
        PLACED = "placed", "Placed"
        ORDERED = "ordered", "Ordered"
        UNKNOWN = "unknown", "Being checked"
        DELIVERED = "delivered", "Delivered"
        UNAVAILABLE = "unavailable", "No longer available"
        FAILED = "failed", "Failed"

    LIVE = (State.PLACED, State.ORDERED, State.UNKNOWN)

    public_id = PublicIdField("ph_purch")
    order = models.ForeignKey(Order, on_delete=models.PROTECT, related_name="lines")
    carrier = models.CharField(max_length=20, default="stock")
    purchase_fee = models.BigIntegerField()
    rental = models.BigIntegerField()
    interval_months = models.PositiveSmallIntegerField(default=1)
    first_period_end = models.DateField()
    first_rental = models.BigIntegerField(help_text="For the first period, prorated.")
    state = models.CharField(max_length=11, choices=State, default=State.PLACED)
    reason = models.CharField(max_length=200, blank=True)
    phone_number = models.OneToOneField(
        "numbers.PhoneNumber", on_delete=models.PROTECT, null=True, related_name="order_line"
    )
    refunded_at = models.DateTimeField(
        null=True, help_text="When an operator took it back because it never worked."
    )

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["order", "country", "number"], name="line_once"),
            models.UniqueConstraint(
                fields=["country", "number"],
                condition=Q(state__in=["placed", "ordered", "unknown"]),
                name="line_live_once",
            ),
            models.CheckConstraint(
                condition=Q(state="delivered", phone_number__isnull=False)
                | (~Q(state="delivered") & Q(phone_number=None)),
                name="line_delivered_has_number",
            ),
            models.CheckConstraint(
                condition=Q(purchase_fee__gte=0) & Q(rental__gte=0) & Q(first_rental__gte=0),
                name="line_price",
            ),
        ]
        ordering = ["id"]

    @property
    def due(self):
        """What this line costs at purchase, in the minor unit."""
        return self.purchase_fee + self.first_rental

    @property
    def is_live(self):
        return self.state in self.LIVE

    @property
    def is_delivered(self):
        return self.state == self.State.DELIVERED
