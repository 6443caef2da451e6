from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "chirp_dashboard.billing"
    label = "billing"
