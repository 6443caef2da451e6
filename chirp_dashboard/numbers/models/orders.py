"""Orders: the durable intent to purchase 1 to 20 numbers, each line with its own outcome."""

from django.conf import settings
from django.db import models
from django.db.models import Q

from chirp_dashboard.organizations.models import Application, Organization
from chirp_dashboard.organizations.public_ids import PublicIdField

from .inventory import NumberFacts

LINES_PER_ORDER = 20


class Order(models.Model):
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
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, related_name="+"
    )
    placed_at = models.DateTimeField()
    placed_on = models.DateField(help_text="Local date; the rentals start on it.")
    application = models.ForeignKey(
        Application, on_delete=models.PROTECT, null=True, related_name="orders",
        help_text="Delivered numbers are assigned to it.",
    )  # fmt: skip
    gateway = models.CharField(max_length=20)
    total = models.BigIntegerField()
    currency = models.CharField(max_length=3)
    idempotency_key = models.CharField(max_length=80)
    state = models.CharField(max_length=16, choices=State, default=State.PLACED)
    reason = models.CharField(max_length=200, blank=True)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_look_at = models.DateTimeField(null=True)
    settled_at = models.DateTimeField(null=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(
                fields=["organization", "idempotency_key"], name="order_idempotency_key"
            ),
            models.CheckConstraint(condition=Q(total__gte=0), name="order_total"),
        ]
        indexes = [
            models.Index(fields=["organization", "-id"], name="order_of_organization"),
            models.Index(
                fields=["next_look_at"],
                condition=Q(state__in=["placed", "authorised", "ordered"]),
                name="order_open",
            ),
        ]
        ordering = ["-id"]

    def __str__(self):
        return self.public_id


class OrderLine(NumberFacts):
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
        "numbers.PhoneNumber",
        on_delete=models.PROTECT,
        null=True,
        related_name="order_line",
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
