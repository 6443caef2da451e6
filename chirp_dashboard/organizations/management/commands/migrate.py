from django.core.management.commands import migrate
from django.db import DEFAULT_DB_ALIAS, connections


class Command(migrate.Command):
    """Django's migrate, as the owner of the tables where DATABASE_OWNER_URL names one."""

    def handle(self, *args, **options):
        if options["database"] == DEFAULT_DB_ALIAS and "owner" in connections:
            options["database"] = "owner"
        return super().handle(*args, **options)
