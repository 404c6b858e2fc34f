"""Django's settings: one file for the portal, its workers and the embedded control plane.

SERVES says which of the two sites a web process serves; all else is shared.
"""

import sys
from typing import Any

import dj_database_url
from django.core.exceptions import ImproperlyConfigured

from portal.env import (
    BASE_DIR,
    DATA_DIR,
    EMBEDDED,
    breached_passwords,
    celery_broker_url,
    database_url,
    env,
    redis_url,
    secret,
    secret_key,
    single_sign_on,
)

SERVES = env.str("SERVES", "portal")
if SERVES not in ("portal", "api"):
    raise ImproperlyConfigured(f"SERVES is {SERVES!r}; it must be portal or api.")

DEBUG = env.bool("DEBUG", False)
SECRET_KEY = secret_key(DEBUG)
SECRET_KEY_FALLBACKS: list[str] = env.list("SECRET_KEY_FALLBACKS", [])
VAULT_KEYS = secret("VAULT_KEYS")
ALLOWED_HOSTS = env.list("ALLOWED_HOSTS", ["127.0.0.1", "localhost", "[::1]"])
CSRF_TRUSTED_ORIGINS: list[str] = env.list("CSRF_TRUSTED_ORIGINS", [])
PORTAL_PORT = env.int("PORTAL_PORT", 8000)
API_PORT = env.int("API_PORT", 8001)

INSTALLED_APPS = [
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.messages",
    "django.contrib.sessions",
    "django.contrib.staticfiles",
    "django_htmx",
    "allauth",
    "allauth.account",
    "allauth.mfa",
    "allauth.usersessions",
    "portal",
    "portal.accounts",
    "portal.vault",
    "portal.audit",
    "portal.live",
    "engines",
    "engines.controlplane",
]

PORTAL_MIDDLEWARE = [
    "portal.middleware.RequestId",
    "django.middleware.security.SecurityMiddleware",
    "portal.middleware.ContentSecurityPolicy",
    "whitenoise.middleware.WhiteNoiseMiddleware",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django_htmx.middleware.HtmxMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "portal.accounts.middleware.Access",
    "portal.rates.Rates",
    "portal.middleware.HtmxErrors",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
]
API_MIDDLEWARE = [
    "portal.middleware.RequestId",
    "django.middleware.security.SecurityMiddleware",
    "engines.controlplane.middleware.Format",
]
MIDDLEWARE = PORTAL_MIDDLEWARE if SERVES == "portal" else API_MIDDLEWARE
if SERVES == "api":  # allauth refuses to start without its middleware, and nobody signs in at the API
    INSTALLED_APPS = [app for app in INSTALLED_APPS if not app.startswith("allauth")]
ROOT_URLCONF = "portal.urls" if SERVES == "portal" else "engines.controlplane.urls"
ASGI_APPLICATION = "portal.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "builtins": ["portal.templatetags.forms"],
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "portal.accounts.context.navigation",
                "portal.vault.context.refused_keys",
            ],
        },
    }
]


def database(name: str, file: str) -> dict[str, Any]:
    parsed: dict[str, Any] = dict(dj_database_url.parse(database_url(name, file)))
    if parsed["ENGINE"].endswith("sqlite3"):
        # A deferred transaction that upgrades to a write fails at once, whatever the timeout: begin IMMEDIATE.
        # The log goes into the database after 40 MB, not 4: whoever writes at that moment waits for two fsyncs more.
        parsed["OPTIONS"] = {
            "transaction_mode": "IMMEDIATE",
            "timeout": 20,
            "init_command": "PRAGMA journal_mode=WAL;PRAGMA synchronous=FULL;PRAGMA wal_autocheckpoint=10000",
        }
    else:
        parsed["CONN_MAX_AGE"] = 0
        options = parsed.setdefault("OPTIONS", {})
        # Allows prepared statements, which Django itself does not use: engines/controlplane/statements.py does.
        options["prepare_threshold"] = 1
        # A worker has four threads for messages, four that sweep, and the one that finds their work; the API four for
        # frames and six that look after machines, beside its requests. Each holds one.
        options["pool"] = {"min_size": 1, "max_size": 18, "timeout": 10}
    return parsed


DATABASES = {
    "default": database("DATABASE_URL", "portal.sqlite3"),
    "controlplane": database("CONTROLPLANE_DATABASE_URL", "controlplane.sqlite3"),
}
DATABASE_ROUTERS = ["engines.controlplane.router.Router"]
DEFAULT_AUTO_FIELD = "django.db.models.BigAutoField"

# In the database, not in Redis: sign-in throttling must hold while the broker is away.
# Beyond MAX_ENTRIES Django deletes rows that still count: it must be more than strangers can fill with guesses before
# `accounts.forget_expired` has deleted what is over.
CACHES = {
    "default": {
        "BACKEND": "django.core.cache.backends.db.DatabaseCache",
        "LOCATION": "cache",
        "OPTIONS": {"MAX_ENTRIES": 1_000_000},
    }
}

AUTH_USER_MODEL = "accounts.User"
AUTHENTICATION_BACKENDS = ["allauth.account.auth_backends.AuthenticationBackend"]
LOGIN_URL = "/accounts/login/"
LOGIN_REDIRECT_URL = "/engines/"
ACCOUNT_ADAPTER = "portal.accounts.adapter.Adapter"
ACCOUNT_FORMS = {
    "login": "portal.accounts.forms.SignInForm",
    "reauthenticate": "portal.accounts.forms.ConfirmByPasswordForm",
    "change_password": "portal.accounts.forms.ChangePasswordForm",
}
ACCOUNT_LOGIN_METHODS = {"email"}
ACCOUNT_SIGNUP_FIELDS = ["email*", "password1*"]
ACCOUNT_USER_MODEL_USERNAME_FIELD = None
ACCOUNT_EMAIL_VERIFICATION = "none"
ACCOUNT_LOGOUT_REDIRECT_URL = LOGIN_URL
# Wrong passwords: of an account from one address, and of an address at all accounts; the longer, the fewer. A browser
# that the person has used before is an address of its own. There is no limit on an account as a whole: whoever knows
# somebody's e-mail address could lock them out with it. (Codes of a second factor are counted as "login_failed" too:
# only who knows the password comes that far.)
ACCOUNT_RATE_LIMITS = {
    "login": None,
    "login_failed": "5/5m/key,20/h/key,50/d/key",
    "login_failed_from_address": "10/m/ip,200/h/ip",
    "sso": "60/m/ip",  # nothing to guess here, either; each leads to a request of ours
}
# Nobody acts on a password alone. (The demo's people do.) Single sign-on brings the provider's own second factor.
REQUIRE_SECOND_FACTOR = env.bool("REQUIRE_SECOND_FACTOR", not EMBEDDED)
MFA_ADAPTER = "portal.accounts.factors.adapter.Adapter"
MFA_FORMS = {
    "authenticate": "portal.accounts.factors.forms.CodeForm",
    "reauthenticate": "portal.accounts.factors.forms.ConfirmByCodeForm",
    "login_webauthn": "portal.accounts.factors.forms.PasskeyAloneForm",
    "authenticate_webauthn": "portal.accounts.factors.forms.PasskeyForm",
    "reauthenticate_webauthn": "portal.accounts.factors.forms.ConfirmByPasskeyForm",
}
MFA_SUPPORTED_TYPES = ["totp", "webauthn", "recovery_codes"]
MFA_PASSKEY_LOGIN_ENABLED = True
MFA_TOTP_TOLERANCE = 1  # periods of 30 s, for clocks that differ; see factors.forms.OnceMixin
MFA_RECOVERY_CODES_SHOW_ONCE = True
MFA_RATE_LIMITS = {"webauthn_login": "60/m/ip"}  # there is nothing to guess, and one address may be many people's
MFA_ALLOW_UNVERIFIED_EMAIL = True  # an admin has named the address: nobody takes one by signing up
MFA_REAUTHENTICATION_REQUIRED = False  # ours: portal.accounts.confirmed, at each of these addresses
# Single sign-on: an OpenID Connect provider, if OIDC_SERVER_URL names one.
OIDC_SERVER_URL = single_sign_on()
OIDC_CLIENT_ID = env.str("OIDC_CLIENT_ID", "")
OIDC_CLIENT_SECRET = env.str("OIDC_CLIENT_SECRET", "")
OIDC_NAME = env.str("OIDC_NAME", "Single sign-on")
PASSWORD_HASHERS = [
    "django.contrib.auth.hashers.Argon2PasswordHasher",
    "django.contrib.auth.hashers.PBKDF2PasswordHasher",
]
AUTH_PASSWORD_VALIDATORS = [
    {"NAME": "django.contrib.auth.password_validation.MinimumLengthValidator", "OPTIONS": {"min_length": 12}},
    {"NAME": "django.contrib.auth.password_validation.CommonPasswordValidator"},
    {
        "NAME": "django.contrib.auth.password_validation.UserAttributeSimilarityValidator",
        "OPTIONS": {"user_attributes": ["email", "name"]},
    },
]
# https://api.pwnedpasswords.com, or a mirror of it in one's own network.
BREACHED_PASSWORDS_URL = env.str("BREACHED_PASSWORDS_URL", "").rstrip("/")
BREACHED_PASSWORDS_FILE = breached_passwords()  # the same list, for a network without a way out
if BREACHED_PASSWORDS_FILE:
    AUTH_PASSWORD_VALIDATORS.append({"NAME": "portal.accounts.breached.NotListed"})
if BREACHED_PASSWORDS_URL:
    AUTH_PASSWORD_VALIDATORS.append({"NAME": "portal.accounts.breached.NotBreached"})

# Loopback speaks HTTP; anywhere else the portal stands behind TLS.
SECURE = not EMBEDDED
SESSION_COOKIE_SECURE = CSRF_COOKIE_SECURE = SECURE
SESSION_COOKIE_NAME = "__Host-sessionid" if SECURE else "sessionid"
CSRF_COOKIE_NAME = "__Host-csrftoken" if SECURE else "csrftoken"
DEVICE_COOKIE_NAME = "__Host-device" if SECURE else "device"
SESSION_COOKIE_AGE = 12 * 3600  # in all, whatever is done with it: see portal/accounts/lifetime.py
SESSION_IDLE_SECONDS = 30 * 60
SECURE_HSTS_SECONDS = 365 * 24 * 3600 if SECURE else 0
SECURE_HSTS_INCLUDE_SUBDOMAINS = SECURE_HSTS_PRELOAD = SECURE
SECURE_SSL_REDIRECT = SECURE
SECURE_REDIRECT_EXEMPT = [r"^healthz$", r"^readyz$", r"^metrics$"]
SECURE_REFERRER_POLICY = "same-origin"
X_FRAME_OPTIONS = "DENY"
DATA_UPLOAD_MAX_MEMORY_SIZE = 1_000_000

# Mail goes out if EMAIL_HOST is set; links in it begin with PORTAL_URL, never with what a request calls this host.
PORTAL_URL = env.str("PORTAL_URL", "").rstrip("/")
EMAIL_HOST = env.str("EMAIL_HOST", "")
EMAIL_PORT = env.int("EMAIL_PORT", 25)
EMAIL_HOST_USER = env.str("EMAIL_HOST_USER", "")
EMAIL_HOST_PASSWORD = env.str("EMAIL_HOST_PASSWORD", "")
EMAIL_USE_TLS = env.bool("EMAIL_USE_TLS", False)
EMAIL_USE_SSL = env.bool("EMAIL_USE_SSL", False)
EMAIL_TIMEOUT = 5
DEFAULT_FROM_EMAIL = env.str("EMAIL_FROM", "engines-portal@localhost")

LANGUAGE_CODE = "en"
TIME_ZONE = "UTC"
USE_I18N = False
USE_TZ = True

STATIC_URL = "static/"
STATICFILES_DIRS = [BASE_DIR / "static"]
STATIC_ROOT = DATA_DIR / "static"
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "whitenoise.storage.CompressedManifestStaticFilesStorage"},
}

REDIS_URL = redis_url()
CELERY_BROKER_URL = celery_broker_url()
# The operation's row is the result, and the sweep is the redelivery: messages only wake somebody up.
CELERY_TASK_IGNORE_RESULT = True
CELERY_RESULT_BACKEND = None
CELERY_ACCEPT_CONTENT = ["json"]
CELERY_TASK_SERIALIZER = "json"
CELERY_BROKER_CONNECTION_RETRY_ON_STARTUP = True
CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": 120, "socket_timeout": 1, "socket_connect_timeout": 1}
CELERY_TASK_PUBLISH_RETRY = False
CELERY_WORKER_PREFETCH_MULTIPLIER = 1
CELERY_WORKER_SEND_TASK_EVENTS = False
CELERY_BEAT_SCHEDULE = {
    "sweep": {"task": "engines.sweep", "schedule": 5.0, "options": {"expires": 5}},
    "cloud time": {"task": "engines.check_cloud_time", "schedule": 600.0, "options": {"expires": 300}},
    "audit": {"task": "audit.checkpoint", "schedule": 300.0, "options": {"expires": 300}},
    "expired": {"task": "accounts.forget_expired", "schedule": 3600.0, "options": {"expires": 3600}},
}

PORTAL_RATES = {  # of one person; their whole team may ask for so many times that
    "read": env.str("PORTAL_RATE_READ", "1200/minute"),
    "write": env.str("PORTAL_RATE_WRITE", "300/minute"),
    "export": env.str("PORTAL_RATE_EXPORT", "20/minute"),
}
TEAM_RATE_FACTOR = 10
API_POLLS_PER_SECOND = env.float("API_POLLS_PER_SECOND", 50.0)  # readings of one connection; what is sent comes on top

# The embedded Engines API. API_URL is its own address as engines on other machines reach it.
API_URL = env.str("API_URL", f"http://127.0.0.1:{API_PORT}").rstrip("/")
API_RATES = {  # of one key; without a valid one, of one address
    "read": env.str("API_RATE_READ", "6000/minute"),
    "write": env.str("API_RATE_WRITE", "1200/minute"),
    "run": env.str("API_RATE_RUN", "1200/minute"),
    "failed": env.str("API_RATE_FAILED", "300/minute"),
}
API_RATES_STORE = env.str("API_RATES_STORE", "memory://")  # redis://… where several processes share the limits
LAST_MINUTES = env.int("LAST_MINUTES", 5)  # before the end of a machine's paid time it gets no new tasks
LONGEST_PAID_HOURS = env.int("LONGEST_PAID_HOURS", 720)
ENGINE_DIST_DIR = env.path("ENGINE_DIST_DIR", DATA_DIR / "dist")  # releases of the engine, served at /dist/engine
ENGINE_DIST_URL = env.str("ENGINE_DIST_URL", "").rstrip("/")  # or where else they are
SHADEFORM_API_KEY = env.str("SHADEFORM_API_KEY", "")
SHADEFORM_URL = env.str("SHADEFORM_URL", "https://api.shadeform.ai/v1").rstrip("/")
LOCAL_CLOUD_DIR = env.str("LOCAL_CLOUD_DIR", str(DATA_DIR / "cloud") if EMBEDDED else "")
LOCAL_CLOUD_IMAGE = env.str("LOCAL_CLOUD_IMAGE", "")  # an engine as one file; each machine gets a copy
LOCAL_CLOUD_COMMAND = [sys.executable, *(["{engine}"] if LOCAL_CLOUD_IMAGE else ["-m", "engines.agent"])]

# Where admins may point connections, as `host` or `host:port`, `*` for every host on port 443; and which machines
# besides those of the public internet any connection may lead to, as networks like 10.1.0.0/16.
CONNECTION_HOSTS: list[str] = env.list(
    "CONNECTION_HOSTS", ["api.inference.sh", *([f"127.0.0.1:{API_PORT}"] if EMBEDDED else [])]
)
CONNECTION_NETWORKS: list[str] = env.list("CONNECTION_NETWORKS", ["127.0.0.0/8", "::1/128"] if EMBEDDED else [])

# How long one call to an Engines API may take. Drain is accepted at once: nothing waits here for an engine.
ENGINES_API_TIMEOUT = 10.0

LOG_LEVEL = env.str("LOG_LEVEL", "info").upper()
LOGGING = {
    "version": 1,
    "disable_existing_loggers": False,
    "filters": {"request_id": {"()": "portal.logs.RequestIdFilter"}},
    "formatters": {
        "line": {"()": "portal.logs.Line", "format": "%(asctime)s %(levelname)s %(name)s [%(request_id)s] %(message)s"}
    },
    "handlers": {"stderr": {"class": "logging.StreamHandler", "filters": ["request_id"], "formatter": "line"}},
    "root": {"handlers": ["stderr"], "level": LOG_LEVEL},
    "loggers": {
        # httpcore prints whole headers at DEBUG, keys included.
        "httpx": {"level": "WARNING"},
        "httpcore": {"level": "WARNING"},
        "authlib": {"level": "WARNING"},  # so it does PKCE's secrets
        "celery": {"level": "DEBUG" if LOG_LEVEL == "DEBUG" else "WARNING"},  # a line for each message is too many
    },
}
