"""Databases of their own for processes: the migrations run once in a run of tests, and later databases are copies."""

import contextlib
import fcntl
import functools
import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from urllib.parse import urlsplit

import psycopg

ROOT = Path(__file__).resolve().parent.parent
VARIABLES = {"default": "DATABASE_URL", "controlplane": "CONTROLPLANE_DATABASE_URL"}
FILES = {"default": "portal.sqlite3", "controlplane": "controlplane.sqlite3"}


def own_database(alias, folder, *, empty=False):
    """Make this folder's database unless it is there; return the environment that leads to it.

    A file in the folder, or a database of the run's PostgreSQL server, with which it goes.
    """
    shared = os.environ.get(VARIABLES[alias])
    if shared:
        name = f"{alias}_{hashlib.sha256(str(folder).encode()).hexdigest()[:16]}"
        template = "template1" if empty else _postgres_template(alias, shared)
        with psycopg.connect(shared, autocommit=True) as server, contextlib.suppress(psycopg.errors.DuplicateDatabase):
            server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")
        return {VARIABLES[alias]: _named(shared, name)}
    file = Path(folder) / FILES[alias]
    if not empty and not file.exists():
        file.write_bytes(_sqlite_template(alias))
    return {}


def own_test_database(alias, name):
    """Make the database that Django's tests of this process use, migrated."""
    shared = os.environ.get(VARIABLES[alias])
    if not shared:
        Path(name).write_bytes(_sqlite_template(alias))
        return
    template = _postgres_template(alias, shared)
    with psycopg.connect(shared, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name} TEMPLATE {template}")


@functools.cache
def _postgres_template(alias, shared):
    name = f"{alias}_template"  # a copy needs one that nobody else is connected to
    there = "SELECT 1 FROM pg_database WHERE datname = %s"
    with _one_at_a_time(alias), psycopg.connect(shared, autocommit=True) as server:
        if not server.execute(there, [name]).fetchone():
            server.execute(f"CREATE DATABASE {name}_begun")
            with tempfile.TemporaryDirectory() as folder:
                _migrate(alias, folder, {VARIABLES[alias]: _named(shared, f"{name}_begun")})
            server.execute(f"ALTER DATABASE {name}_begun RENAME TO {name}")
    return name


@functools.cache
def _sqlite_template(alias):
    file = Path(os.environ["DATA_DIR"]) / f"template-{alias}.sqlite3"
    with _one_at_a_time(alias), tempfile.TemporaryDirectory() as folder:
        if not file.exists():
            _migrate(alias, folder, {})
            (Path(folder) / FILES[alias]).rename(file)
        return file.read_bytes()


@contextlib.contextmanager
def _one_at_a_time(alias):
    """All processes of a run share DATA_DIR: the first one migrates, the others wait for it."""
    with (Path(os.environ["DATA_DIR"]) / f"template-{alias}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _migrate(alias, folder, environment):
    product = {"DJANGO_SETTINGS_MODULE": "portal.settings", "EMBEDDED": "1", "DATA_DIR": folder}
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity=0", "--database", alias]
    subprocess.run(command, env={**os.environ, **product, **environment}, cwd=ROOT, check=True)


def _named(url, name):
    return urlsplit(url)._replace(path=name).geturl()
