from django.apps import AppConfig
from django.db.backends.signals import connection_created

from chirp_dashboard.postgres.prepared import plan_once


class OrganizationsConfig(AppConfig):
    name = "chirp_dashboard.organizations"
    label = "organizations"

    def ready(self):
        connection_created.connect(plan_once, dispatch_uid="plan_once")
