import io
import os
import signal
import socket
import sys
import time
import urllib.error
import urllib.request

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection

from chirp_dashboard import health
from chirp_dashboard.organizations.models import Organization, User
from chirp_dashboard.processes import Together

START_PATIENCE = 30
THREADS = min(8, 2 * os.cpu_count() + 1)  # of each web process; granian warns of more

MANAGE = [sys.executable, str(settings.BASE_DIR / "manage.py")]
WORKER = [*MANAGE, "worker"]
RELOADING_WEB = [*MANAGE, "runserver", "--skip-checks", f"{settings.HOST}:{settings.PORT}"]
WEB = [
    *(sys.executable, "-m", "granian", "--interface", "wsgi", "--no-ws", "--log-level", "warning"),
    *("--host", settings.HOST, "--port", str(settings.PORT), "--workers", "2"),
    *("--blocking-threads", str(THREADS), "--blocking-threads-idle-timeout", "600"),
    *("--respawn-failed-workers", "--workers-kill-timeout", "3"),
    "chirp_dashboard.wsgi:application",
]


class Command(BaseCommand):
    help = "Run everything on this machine: database, web and worker, with the demo at first start."
    requires_system_checks = []

    def add_arguments(self, parser):
        parser.add_argument(
            "--reload",
            action="store_true",
            help="Use Django's own server, which reloads changed code.",
        )

    def handle(self, *, reload, **options):
        if settings.PRODUCTION:
            raise CommandError("dev is for development; in production run what the Procfile says.")
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, interrupt)
        try:
            self.require_port()
            self.prepare_database()
            self.run(RELOADING_WEB if reload else WEB)
        except KeyboardInterrupt:
            self.say("Stopped.")

    def say(self, text):
        self.stdout.write(text)
        self.stdout.flush()  # also when a file or a program listens

    def require_port(self):
        """Refuse a port that is taken before anything is started."""
        host, port = settings.HOST, settings.PORT
        try:
            family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
            with socket.socket(family) as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(address)
        except (OSError, OverflowError) as error:
            raise CommandError(
                f"Cannot serve at {host}:{port} ({getattr(error, 'strerror', None) or error}): stop "
                f"what uses it, or choose another, such as PORT={port + 1} make run."
            ) from None

    def prepare_database(self):
        try:
            connection.ensure_connection()
            if not health.migrations():
                call_command("migrate", verbosity=0)
            if not User.objects.exists() and not Organization.objects.exists():
                self.say("Loading the demo …")
                call_command("load_demo", stdout=io.StringIO())  # the welcome says it all
        except DatabaseError as error:
            raise CommandError(f"No database: {str(error).strip().splitlines()[0]}") from None
        finally:
            connection.close()

    def run(self, web):
        with Together() as together:
            together.start("web", web)
            together.start("worker", WORKER)
            together.guard()
            self.wait_for_web(together)
            self.say(welcome())
            while not (ended := together.ended()):
                time.sleep(0.2)
            name, status = ended
            raise CommandError(f"The {name} process ended ({status}), so everything was stopped.")

    def wait_for_web(self, together):
        deadline = time.monotonic() + START_PATIENCE
        while not together.ended() and not answers():
            if time.monotonic() > deadline:
                raise CommandError(f"{settings.BASE_URL} does not answer.")
            time.sleep(0.05)


def interrupt(number, frame):
    raise KeyboardInterrupt


def answers():
    address = f"http://{local_host()}:{settings.PORT}/healthz"
    try:
        with urllib.request.urlopen(address, timeout=5) as response:
            return response.status == 200
    except (urllib.error.URLError, OSError):
        return False


def local_host():
    """Where this machine reaches a server that listens on HOST."""
    if settings.HOST in {"0.0.0.0", "::"}:  # noqa: S104
        return "127.0.0.1"
    return f"[{settings.HOST}]" if ":" in settings.HOST else settings.HOST


def welcome():
    address = f"http://{local_host()}:{settings.PORT}/"
    lines = ["", f"  Phone numbers are at  {address}"]
    password_file = settings.DATA_DIR / "demo_password"
    if password_file.exists():
        lines += [
            "",
            "  Sign in as            owner@demo.example  (or admin@, developer@, billing@, viewer@)",
            f"  Password              {password_file.read_text().strip()}",
            f"  Django admin          {address}admin/  as operator@demo.example",
        ]
    return "\n".join(
        [*lines, "", f"  Data is kept in {os.path.relpath(settings.DATA_DIR)}. Ctrl-C stops.", ""]
    )
