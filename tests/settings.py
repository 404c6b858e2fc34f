"""Settings of the test run: the portal's, with quick hashing, no manifest and a secret of its own."""

import atexit
import os
import shutil
import tempfile

os.environ.setdefault("SECRET_KEY", "for tests only, " * 4)
os.environ.setdefault("VAULT_KEYS", "t1:" + "dGVzdHRlc3R0ZXN0dGVzdHRlc3R0ZXN0dGVzdHRlc3Q=")
if "DATA_DIR" not in os.environ:
    os.environ["DATA_DIR"] = tempfile.mkdtemp(prefix="portal-tests-")
    atexit.register(shutil.rmtree, os.environ["DATA_DIR"], ignore_errors=True)
os.environ.setdefault("EMBEDDED", "1")

from portal.settings import *  # noqa: F403

API_RATES["failed"] = "100000/minute"  # noqa: F405 (all tests of a run come from one address)
PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "django.contrib.staticfiles.storage.StaticFilesStorage"},
}
STATIC_ROOT.mkdir(parents=True, exist_ok=True)  # noqa: F405 (whitenoise warns of a folder that is not there)

# Threads of one test share a file as the real processes do; a database in memory would lock whole tables.
for name, database in DATABASES.items():  # noqa: F405
    if database["ENGINE"].endswith("sqlite3"):
        database["TEST"] = {"NAME": DATA_DIR / f"test-{name}.sqlite3"}  # noqa: F405
        database["OPTIONS"]["init_command"] = "PRAGMA journal_mode=WAL;PRAGMA synchronous=OFF"
