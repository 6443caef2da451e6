"""Customers: what an organization is called at a gateway, and the card it saved there."""

from datetime import timedelta

from django.conf import settings
from django.db import models, transaction
from django.utils import timezone

from chirp_dashboard.billing.gateways import GATEWAYS, Outcome
from chirp_dashboard.organizations.models import Activity, Actor, Organization
from chirp_dashboard.organizations.refusals import Refused

EXPIRING = timedelta(days=31)


class GatewaySilent(Refused):
    """The gateway did not answer, or refused; nothing was changed."""


class CustomerQuerySet(models.QuerySet):
    def ensure(self, organization, *, at):
        """The Customer of `organization` at its gateway, made there if need be: one, however many ask.

        Asks the gateway, so call it outside every transaction. Raises GatewaySilent.
        """
        customer, _ = self.get_or_create(
            organization=organization,
            gateway=organization.gateway,
            defaults={"created_at": at, "updated_at": at},
        )
        if not customer.gateway_id:
            answer = customer.at_gateway.register(customer)
            check(answer)
            self.filter(pk=customer.pk, gateway_id="").update(gateway_id=answer.gateway_id)
            customer.refresh_from_db()
        return customer


class Customer(models.Model):
    """`organization` at a gateway. The card's facts are for people to recognise it; we never see more."""

    organization = models.ForeignKey(
        Organization, on_delete=models.PROTECT, related_name="customers"
    )
    gateway = models.CharField(max_length=20)
    gateway_id = models.CharField(max_length=120, blank=True)
    payment_method = models.CharField(
        max_length=120, blank=True, help_text="What the gateway calls the saved card; empty: none."
    )
    brand = models.CharField(max_length=20, blank=True)
    last4 = models.CharField(max_length=4, blank=True)
    expires_on = models.DateField(null=True, help_text="The last day of its last month.")
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(default=timezone.now)

    objects = CustomerQuerySet.as_manager()

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["organization", "gateway"], name="customer_once"),
            models.UniqueConstraint(
                fields=["gateway", "gateway_id"],
                condition=~models.Q(gateway_id=""),
                name="customer_of_one_organization",
            ),
        ]

    def __str__(self):
        return self.gateway_id or f"{self.organization} at {self.gateway}"

    @staticmethod
    def gateways():
        """`(name, words)` of every gateway an organization can be given here."""
        return [
            (gateway.name, gateway.words)
            for gateway in GATEWAYS.values()
            if not (gateway.collects_no_money and settings.PRODUCTION)
        ]

    @property
    def at_gateway(self):
        return GATEWAYS[self.gateway]

    @property
    def has_card(self):
        return bool(self.payment_method)

    @property
    def card(self):
        """What people call it: “Visa •••• 4242”."""
        brand = self.brand.replace("_", " ")
        return f"{brand[:1].upper()}{brand[1:]} •••• {self.last4}" if self.last4 else brand.title()

    def expiry(self, on):
        """Is the card `expired`, or will it be `soon`? Empty when neither."""
        if not self.has_card or self.expires_on is None or self.expires_on >= on + EXPIRING:
            return ""
        return "expired" if self.expires_on < on else "soon"

    def to_save_card(self, back, cancelled):
        """The gateway's page where a card is saved. Asks the gateway; raises GatewaySilent."""
        answer = self.at_gateway.set_up_url(self, back, cancelled)
        check(answer)
        return answer.action_url

    def to_manage_cards(self, back, cancelled):
        """The gateway's page where cards are changed and removed. Asks it; raises GatewaySilent."""
        answer = self.at_gateway.portal_url(self, back)
        check(answer)
        return answer.action_url

    def refresh(self):
        """Read the saved card anew. Asks the gateway; raises GatewaySilent."""
        check(self.at_gateway.refresh(self))

    @transaction.atomic
    def keep_card(self, *, payment_method, brand="", last4="", expires_on=None, at):
        """Keep what the gateway says of the saved card; a change leaves an activity row."""
        self.refresh_from_db(from_queryset=Customer.objects.select_for_update(no_key=True))
        facts = (payment_method, brand, last4, expires_on)
        if facts == (self.payment_method, self.brand, self.last4, self.expires_on):
            return
        before = self.card
        self.payment_method, self.brand, self.last4, self.expires_on = facts
        self.updated_at = at
        self.save(update_fields=["payment_method", "brand", "last4", "expires_on", "updated_at"])
        Activity.objects.record(
            self.organization, "card_changed" if self.has_card else "card_removed",
            subject=self.organization.slug, by=Actor.system(self.gateway), at=at,
            before={"card": before} if before else None,
            after={"card": self.card} if self.has_card else None,
        )  # fmt: skip

    @transaction.atomic
    def forget(self, *, at):
        """The gateway knows this customer no more; whoever asks next makes another there.

        Nothing is forgotten where another has been made since this row was read.
        """
        gone = self.gateway_id
        self.refresh_from_db(from_queryset=Customer.objects.select_for_update(no_key=True))
        if self.gateway_id != gone:
            return
        self.keep_card(payment_method="", at=at)
        self.gateway_id, self.created_at = "", at
        self.save(update_fields=["gateway_id", "created_at"])


def check(answer):
    """Raise GatewaySilent unless the gateway said yes."""
    if answer.outcome is not Outcome.YES:
        raise GatewaySilent(
            "The page where cards are kept cannot be reached now. Try again in a few minutes."
        )
