"""Customers: what an organization is called at a gateway, and the card it saved there."""

from django.db import models
from django.utils import timezone

from chirp_dashboard.organizations.models import Organization


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

    @property
    def has_card(self):
        return bool(self.payment_method)
