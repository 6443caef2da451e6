from django.core.management import call_command
from django.core.management.base import BaseCommand
from django.db import connections


class Command(BaseCommand):
    help = "Bring database and static files up to this version, before it starts. Safe to repeat."

    def handle(self, *, verbosity, **options):
        call_command("check", deploy=True, fail_level="WARNING")
        call_command("collectstatic", interactive=False, verbosity=verbosity)
        call_command("migrate", interactive=False, verbosity=verbosity)
        if "owner" in connections:
            call_command("grant_web_role", role=connections["default"].settings_dict["USER"])
