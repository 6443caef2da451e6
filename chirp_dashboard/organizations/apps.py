from django.apps import AppConfig


class OrganizationsConfig(AppConfig):
    name = "chirp_dashboard.organizations"
    label = "organizations"
