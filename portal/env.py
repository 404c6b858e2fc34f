"""The environment, read in one place. A missing or malformed variable fails at start with its name."""

import base64
import hashlib
import os
import secrets
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

from django.core.exceptions import ImproperlyConfigured
from environs import Env

env = Env()

BASE_DIR = Path(__file__).resolve().parent.parent
DATA_DIR = env.path("DATA_DIR", BASE_DIR / "var").resolve()

# Set by `manage.py up`: everything that is not given is made on this machine, for loopback only.
EMBEDDED = env.bool("EMBEDDED", False)

LOOPBACK = ("127.0.0.1", "::1", "localhost")

LEAST_SECRET = 50  # characters

# Linux gives a unix socket's path 107 bytes.
SOCKET_PATH_LIMIT = 100


def secret(name: str) -> str:
    """Return the secret from the environment, else the one made by an earlier embedded start.

    Only an embedded start makes a new one. Raises ImproperlyConfigured if there is none.
    """
    given = env.str(name, "")
    if given:
        return given
    file = DATA_DIR / "secrets" / name.lower()
    if file.exists():
        return file.read_text().strip()
    if not EMBEDDED:
        raise ImproperlyConfigured(
            f"{name} is not set. Set it, or start with `make run`, which makes one in {DATA_DIR}."
        )
    return _keep(file, _fresh(name))


def secret_key(debug: bool) -> str:
    """Return SECRET_KEY. Raises ImproperlyConfigured for one that is short enough to be guessed where it matters."""
    key = secret("SECRET_KEY")
    if len(key) < LEAST_SECRET and not (EMBEDDED or debug):
        raise ImproperlyConfigured(
            f"SECRET_KEY has {len(key)} characters; it must have at least {LEAST_SECRET}. Make one with: "
            "python3 -c 'import secrets; print(secrets.token_urlsafe(50))'"
        )
    return key


def database_url(name: str, file: str) -> str:
    """Return the database's URL; without one, SQLite in DATA_DIR."""
    return env.str(name, f"sqlite:///{DATA_DIR / file}")


def broker_socket() -> Path:
    """Return where the embedded broker listens; a long DATA_DIR moves it to the temporary folder."""
    path = DATA_DIR / "broker.sock"
    if len(os.fsencode(path)) <= SOCKET_PATH_LIMIT:
        return path
    mark = hashlib.sha256(os.fsencode(DATA_DIR)).hexdigest()[:12]
    return Path(tempfile.gettempdir()) / f"engines-portal-{mark}" / "broker.sock"


def redis_url() -> str:
    """Return REDIS_URL, or the embedded broker's socket, in redis-py's spelling (`unix://`)."""
    return env.str("REDIS_URL", f"unix://{broker_socket()}?db=0")


def celery_broker_url() -> str:
    """The same server in kombu's spelling."""
    url = redis_url()
    if url.startswith("unix://"):
        return "redis+socket://" + url.removeprefix("unix://").replace("db=", "virtual_host=")
    return url


def single_sign_on() -> str:
    """Return OIDC_SERVER_URL without a slash at its end, "" without single sign-on."""
    url = env.str("OIDC_SERVER_URL", "").rstrip("/")
    parts = urlsplit(url)
    # Over plain HTTP anybody on the way could say who somebody is.
    if url and parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ImproperlyConfigured(f"OIDC_SERVER_URL is {url}. It must begin with https://.")
    if url and not env.str("OIDC_CLIENT_ID", ""):
        raise ImproperlyConfigured("OIDC_SERVER_URL is set, so OIDC_CLIENT_ID must be, too.")
    return url


def breached_passwords() -> Path | None:
    """Return BREACHED_PASSWORDS_FILE, None without one. Raises ImproperlyConfigured if it is not there."""
    path = env.path("BREACHED_PASSWORDS_FILE", None)
    if path is not None and not os.access(path, os.R_OK):
        raise ImproperlyConfigured(f"BREACHED_PASSWORDS_FILE is {path}, which cannot be read.")
    return path


def _fresh(name: str) -> str:
    if name == "VAULT_KEYS":
        return "k1:" + base64.b64encode(secrets.token_bytes(32)).decode()
    return secrets.token_urlsafe(50)


def _keep(file: Path, value: str) -> str:
    """Save the value with mode 0600 and return it; of two starts at once, both return the first one's."""
    try:
        file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        return file.read_text().strip()
    except OSError as error:
        raise ImproperlyConfigured(f"DATA_DIR {DATA_DIR} cannot be written: {error.strerror}.") from error
    with os.fdopen(handle, "w") as out:
        out.write(value + "\n")
    return value
