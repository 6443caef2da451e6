"""Settings, read from the environment. The README lists every variable in one table.

With nothing set this is a development machine: DEBUG on, an embedded PostgreSQL in `.data/`, a
secret key made up and kept there. With `DJANGO_ENV=production` nothing is made up: a missing secret
stops the start with a line that names it.
"""

import os
import secrets
import sys
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured

BASE_DIR = Path(__file__).resolve().parent.parent


def env_text(name, default=""):
    return os.environ.get(name, "").strip() or default


def env_flag(name, *, default):
    text = env_text(name).lower()
    if text in {"", "1", "true", "yes", "on", "0", "false", "no", "off"}:
        return text in {"1", "true", "yes", "on"} if text else default
    raise ImproperlyConfigured(f"{name} is {text!r}; write 1 or 0.")


def env_integer(name, *, default):
    text = env_text(name)
    if text and not text.lstrip("-").isdigit():
        raise ImproperlyConfigured(f"{name} is {text!r}; write a whole number.")
    return int(text) if text else default


def env_list(name, default=""):
    return [part.strip() for part in env_text(name, default).split(",") if part.strip()]


ENVIRONMENT = env_text("DJANGO_ENV", "development")
if ENVIRONMENT not in {"development", "production"}:
    raise ImproperlyConfigured(f"DJANGO_ENV is {ENVIRONMENT!r}; write development or production.")
PRODUCTION = ENVIRONMENT == "production"
DEBUG = env_flag("DEBUG", default=not PRODUCTION)
if DEBUG and PRODUCTION:
    raise ImproperlyConfigured("DEBUG=1 shows secrets in error pages; it is refused in production.")
TESTING = "pytest" in sys.modules

DATA_DIR = Path(env_text("DATA_DIR", str(BASE_DIR / ".data"))).resolve()


def secret(name):
    """The secret `name` from the environment; in development made up once and kept in DATA_DIR (0600)."""
    if value := env_text(name):
        return value
    if PRODUCTION:
        raise ImproperlyConfigured(f"{name} is not set; production does not start without it.")
    kept = DATA_DIR / name.lower()
    if not kept.exists():
        DATA_DIR.mkdir(parents=True, exist_ok=True)
        try:
            with os.fdopen(os.open(kept, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(50))
        except FileExistsError:  # another process was first
            pass
    return kept.read_text().strip()


SECRET_KEY = secret("SECRET_KEY")
# With which API keys are hashed. Changing it ends every key; SECRET_KEY can be changed without.
API_KEY_PEPPER = secret("API_KEY_PEPPER")

HOST = env_text("HOST", "127.0.0.1")
PORT = env_integer("PORT", default=8000)
BASE_URL = env_text("BASE_URL", "" if PRODUCTION else f"http://{HOST}:{PORT}").rstrip("/")
if PRODUCTION and not BASE_URL.startswith("https://"):
    raise ImproperlyConfigured(
        "BASE_URL is not set to an https:// address; production needs the address people type."
    )
ALLOWED_HOSTS = env_list(
    "ALLOWED_HOSTS",
    urlsplit(BASE_URL).hostname if PRODUCTION else "localhost,127.0.0.1,[::1]",
)
if not PRODUCTION and HOST not in {"127.0.0.1", "localhost", "::1"}:
    ALLOWED_HOSTS.append("*")
CSRF_TRUSTED_ORIGINS = [BASE_URL] if PRODUCTION else []

INSTALLED_APPS = [
    "chirp_dashboard.organizations",
    "chirp_dashboard.billing",
    "chirp_dashboard.numbers",
    "chirp_dashboard.api",
    "ninja",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "csp",
    "django_htmx",
    "heroicons",
    "pgtrigger",
    "procrastinate.contrib.django",
    "django.contrib.admin",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.humanize",
    "django.contrib.messages",
    "django.contrib.sessions",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "django.forms",
]

MIDDLEWARE = [
    "chirp_dashboard.middleware.HealthMiddleware",
    "chirp_dashboard.api.door.ApiMiddleware",
    "django.middleware.security.SecurityMiddleware",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.middleware.gzip.GZipMiddleware",
    "csp.middleware.CSPMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "chirp_dashboard.middleware.LoginRequiredMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "chirp_dashboard.middleware.PrivatePagesMiddleware",
    "chirp_dashboard.middleware.OrganizationMiddleware",
]

ROOT_URLCONF = "chirp_dashboard.urls"
WSGI_APPLICATION = "chirp_dashboard.wsgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
            ],
            "builtins": [
                "chirp_dashboard.organizations.templatetags.ui",
                "django.templatetags.static",
            ],
        },
    }
]
FORM_RENDERER = "django.forms.renderers.TemplatesSetting"


def database(url):
    """Django's settings for a `postgresql://` address; its query string goes to libpq unchanged."""
    parts = urlsplit(url)
    if parts.scheme not in {"postgres", "postgresql"}:
        raise ImproperlyConfigured("DATABASE_URL must begin with postgresql://")
    options = {"connect_timeout": "5"} | dict(parse_qsl(parts.query))
    return {
        "ENGINE": "django.db.backends.postgresql",
        "NAME": unquote(parts.path.lstrip("/")),
        "USER": unquote(parts.username or ""),
        "PASSWORD": unquote(parts.password or ""),
        "HOST": options.pop("host", None) or unquote(parts.hostname or ""),
        "PORT": str(parts.port or ""),
        "OPTIONS": options,
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }


DATABASE_URL = env_text("DATABASE_URL")
if PRODUCTION and not DATABASE_URL:
    raise ImproperlyConfigured("DATABASE_URL is not set; production does not start without it.")
# With no address, chirp_dashboard.postgres starts the embedded server in DATA_DIR on first use.
DATABASES = {
    "default": database(DATABASE_URL)
    if DATABASE_URL
    else {
        "ENGINE": "chirp_dashboard.postgres",
        "NAME": "chirp",
        "CONN_MAX_AGE": 60,
        "CONN_HEALTH_CHECKS": True,
    }
}
# Where the web role owns no tables, the address of the role that does; migrations run as that one.
if DATABASE_OWNER_URL := env_text("DATABASE_OWNER_URL"):
    DATABASES["owner"] = database(DATABASE_OWNER_URL)
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

PROCRASTINATE_IMPORT_PATHS = ["chirp_dashboard.jobs"]

AUTH_USER_MODEL = "organizations.User"
AUTHENTICATION_BACKENDS = [
    "django.contrib.auth.backends.ModelBackend",
    "allauth.account.auth_backends.AuthenticationBackend",
]
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.MinimumLengthValidator",
        "OPTIONS": {"min_length": 12},
    },
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
]
LOGIN_URL = "account_login"
LOGIN_REDIRECT_URL = "organizations:home"
ACCOUNT_ADAPTER = "chirp_dashboard.organizations.accounts.AccountAdapter"
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*", "password2*"]
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = "account_login"
ACCOUNT_SESSION_REMEMBER = True
ACCOUNT_PREVENT_ENUMERATION = True
ALLAUTH_TRUSTED_PROXY_COUNT = env_integer("TRUSTED_PROXIES", default=0)
MFA_SUPPORTED_TYPES = ["totp", "recovery_codes"]
# Addresses are entered by an operator, who vouches for them; nobody is asked to confirm one.
MFA_ALLOW_UNVERIFIED_EMAIL = True
MFA_TOTP_TOLERANCE = 1  # period of 30 s that a phone may be ahead or behind

EMAIL_BACKEND = (
    "chirp_dashboard.organizations.smtp.EmailBackend"
    if env_text("EMAIL_HOST")
    else "django.core.mail.backends.console.EmailBackend"
)
EMAIL_HOST = env_text("EMAIL_HOST")
EMAIL_PORT = env_integer("EMAIL_PORT", default=587)
EMAIL_HOST_USER = env_text("EMAIL_USER")
EMAIL_HOST_PASSWORD = env_text("EMAIL_PASSWORD")
EMAIL_USE_TLS = EMAIL_PORT == 587
EMAIL_USE_SSL = EMAIL_PORT == 465
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env_text("EMAIL_FROM", "Phone numbers <numbers@localhost>")

# Half the threads of a web process may wait for orders that are not settled at once; see the API.
ORDER_WAITERS = max(1, env_integer("WEB_THREADS", default=8) // 2)

# Who operates this deployment and hears its alarms.
OPERATOR_EMAILS = env_list("OPERATOR_EMAILS")

LANGUAGE_CODE = "en-us"
USE_I18N = False
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = Path(env_text("STATIC_ROOT", str(BASE_DIR / "staticfiles")))
STATICFILES_DIRS = [BASE_DIR / "static"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {
        "BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"
        if PRODUCTION
        else "django.contrib.staticfiles.storage.StaticFilesStorage"
    },
}
WHITENOISE_USE_FINDERS = not PRODUCTION
WHITENOISE_AUTOREFRESH = not PRODUCTION

CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
        "manifest-src": [SELF],
    }
}

SESSION_COOKIE_AGE = 14 * 24 * 3600
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = PRODUCTION
CSRF_COOKIE_HTTPONLY = True
CSRF_FAILURE_VIEW = "chirp_dashboard.views.csrf_failure"
SECURE_SSL_REDIRECT = PRODUCTION and env_flag("SSL_REDIRECT", default=True)
SECURE_PROXY_SSL_HEADER = (
    ("HTTP_X_FORWARDED_PROTO", "https") if env_integer("TRUSTED_PROXIES", default=0) else None
)
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if PRODUCTION else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = PRODUCTION
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1024 * 1024
DATA_UPLOAD_MAX_NUMBER_FIELDS = 2000

# Who the invoices come from, and where to pay them.
SELLER_NAME = env_text("SELLER_NAME", "Phone numbers")
SELLER_ADDRESS = env_text("SELLER_ADDRESS").replace("\\n", "\n")
SELLER_BANK = env_text("SELLER_BANK").replace("\\n", "\n")

SELLER_TAX_ID = env_text("SELLER_TAX_ID")
TAX_NAME = env_text("TAX_NAME", "Tax")  # of the tax line: VAT, Sales tax, GST

# Cards are taken where a key is set; several webhook secrets are good while one is being rotated.
STRIPE_SECRET_KEY = env_text("STRIPE_SECRET_KEY")
if STRIPE_SECRET_KEY and not STRIPE_SECRET_KEY.startswith(("sk_", "rk_")):
    raise ImproperlyConfigured(
        "STRIPE_SECRET_KEY is not a secret key; those begin with sk_ or rk_."
    )
STRIPE_WEBHOOK_SECRETS = env_list("STRIPE_WEBHOOK_SECRETS")
if PRODUCTION and STRIPE_SECRET_KEY and not STRIPE_WEBHOOK_SECRETS:
    raise ImproperlyConfigured(
        "STRIPE_WEBHOOK_SECRETS is not set; with STRIPE_SECRET_KEY, production does not start without "
        "it, because nothing that Stripe says could be believed."
    )
STRIPE_API_BASE = env_text("STRIPE_API_BASE")  # a counterpart of Stripe's, in tests
if PRODUCTION and STRIPE_API_BASE:
    raise ImproperlyConfigured("STRIPE_API_BASE is for tests; it is refused in production.")

# Only outside production: the demo's sign-in password; made up and kept in DATA_DIR when unset.
DEMO_PASSWORD = env_text("DEMO_PASSWORD")

LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "formatters": {"line": {"format": "{asctime} {levelname} {name} {message}", "style": "{"}},
    "handlers": {"console": {"class": "logging.StreamHandler", "formatter": "line"}},
    "root": {"handlers": ["console"], "level": env_text("LOG_LEVEL", "INFO")},
    "loggers": {
        "django": {"handlers": []},
        "procrastinate": {"level": "WARNING"},
        "stripe": {"level": "WARNING"},
    },
}
