from django.conf import settings
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import connections


class Command(BaseCommand):
    help = "Bring the database up to this version, before its web processes and workers start."

    def handle(self, **options):
        call_command("check", deploy=True, fail_level="WARNING")
        self.require_static_files()
        call_command("migrate", interactive=False, verbosity=options["verbosity"])
        if "owner" in connections:
            call_command("grant_web_role", role=connections["default"].settings_dict["USER"])

    def require_static_files(self):
        manifest = settings.STATIC_ROOT / getattr(staticfiles_storage, "manifest_name", "")
        if settings.PRODUCTION and not manifest.is_file():
            raise CommandError("No static files: run manage.py collectstatic when building.")
