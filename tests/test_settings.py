"""The settings, as a process of its own reads them from its environment."""

import os
import stat
import subprocess
import sys

import pytest
from django.conf import settings

PRODUCTION = {
    "DJANGO_ENV": "production",
    "SECRET_KEY": "qV0-8hWk2Zr7_tYx4LmNb6Cd1EfGj3HsPuRw5AoIeKyTzXv9Bq",
    "API_KEY_PEPPER": "b7Kd-2mXw9Rt_5vQz8LpNc3Yf6HjG1sUo4EaIiWxCyVnMqTb0D",
    "BASE_URL": "https://numbers.acme.example",
    "DATABASE_URL": "postgresql://chirp_web:s%40cret@db.acme.example:5433/chirp?sslmode=require",
}


def manage(*arguments, **environment):
    return subprocess.run(
        [sys.executable, "manage.py", *arguments],
        cwd=settings.BASE_DIR,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
    )


def read(name, **environment):
    script = f"from django.conf import settings; print(repr(settings.{name}))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=settings.BASE_DIR,
        env={
            "PATH": os.environ["PATH"],
            "DJANGO_SETTINGS_MODULE": "chirp_dashboard.settings",
            **environment,
        },
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or done.stderr.strip().splitlines()[-1]


def test_production_passes_djangos_deployment_checks_without_a_warning():
    checked = manage("check", "--deploy", "--fail-level", "WARNING", **PRODUCTION)
    assert checked.returncode == 0, checked.stderr
    assert "no issues (0 silenced)" in checked.stdout


@pytest.mark.parametrize("name", sorted(PRODUCTION.keys() - {"DJANGO_ENV"}))
@pytest.mark.parametrize("value", [None, "", "  "])
def test_production_does_not_start_without_a_secret_and_names_it(name, value):
    environment = PRODUCTION | {name: value}
    if value is None:
        del environment[name]
    said = read("DEBUG", **environment)
    assert said.startswith("django.core.exceptions.ImproperlyConfigured: ")
    assert name in said


@pytest.mark.parametrize(
    ("environment", "complaint"),
    [
        (PRODUCTION | {"DEBUG": "1"}, "DEBUG=1 shows secrets"),
        (PRODUCTION | {"BASE_URL": "http://numbers.acme.example"}, "https://"),
        (PRODUCTION | {"DATABASE_URL": "sqlite:///db"}, "must begin with postgresql://"),
        ({"DJANGO_ENV": "staging"}, "write development or production"),
        ({"DEBUG": "maybe"}, "write 1 or 0"),
        ({"PORT": "http"}, "write a whole number"),
    ],
)
def test_what_cannot_be_meant_is_refused(environment, complaint, tmp_path):
    assert complaint in read("DEBUG", **{"DATA_DIR": str(tmp_path), **environment})


def test_production_never_debugs_and_makes_nothing_up(tmp_path):
    environment = PRODUCTION | {"DATA_DIR": str(tmp_path / "data")}
    assert read("DEBUG", **environment) == "False"
    assert not (tmp_path / "data").exists()


def test_the_database_address_is_read_whole():
    database = read("DATABASES['default']", **PRODUCTION)
    for part in (
        "'ENGINE': 'django.db.backends.postgresql'",
        "'NAME': 'chirp'",
        "'USER': 'chirp_web'",
        "'PASSWORD': 's@cret'",
        "'HOST': 'db.acme.example'",
        "'PORT': '5433'",
        "'sslmode': 'require'",
    ):
        assert part in database


def test_a_socket_may_be_named_in_the_address():
    address = "postgresql://me@/chirp?host=/run/postgresql"
    assert read("DATABASES['default']['HOST']", **PRODUCTION | {"DATABASE_URL": address}) == (
        "'/run/postgresql'"
    )


def test_the_owner_of_the_tables_has_an_address_of_its_own():
    environment = PRODUCTION | {
        "DATABASE_OWNER_URL": "postgresql://chirp_owner@db.acme.example/chirp"
    }
    assert read("DATABASES['owner']['USER']", **environment) == "'chirp_owner'"


def test_cookies_and_addresses_are_https_only_in_production():
    assert read("SESSION_COOKIE_SECURE", **PRODUCTION) == "True"
    assert read("CSRF_COOKIE_SECURE", **PRODUCTION) == "True"
    assert read("SECURE_SSL_REDIRECT", **PRODUCTION) == "True"
    assert read("ALLOWED_HOSTS", **PRODUCTION) == "['numbers.acme.example']"
    assert read("CSRF_TRUSTED_ORIGINS", **PRODUCTION) == "['https://numbers.acme.example']"


def test_development_needs_nothing_and_keeps_the_key_it_made_up(tmp_path):
    data = tmp_path / "data"
    made_up = read("SECRET_KEY", DATA_DIR=str(data))
    assert len(made_up) > 50
    assert read("SECRET_KEY", DATA_DIR=str(data)) == made_up
    assert stat.S_IMODE((data / "secret_key").stat().st_mode) == 0o600


def test_no_inline_script_or_style_and_nothing_foreign_is_allowed():
    policy = settings.CONTENT_SECURITY_POLICY["DIRECTIVES"]
    allowed = {source for sources in policy.values() for source in sources}
    assert allowed == {"'self'", "'none'", "data:"}
    assert policy["img-src"] == ["'self'", "data:"]
