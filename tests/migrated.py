"""Databases of their own for processes: the migrations run once in a run of tests, and later databases are copies."""

import contextlib
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


@functools.cache
def _postgres_template(alias, shared):
    name = f"{alias}_template_{os.getpid()}"  # a copy needs one that nobody else is connected to
    with psycopg.connect(shared, autocommit=True) as server:
        server.execute(f"CREATE DATABASE {name}")
    with tempfile.TemporaryDirectory() as folder:
        _migrate(alias, folder, {VARIABLES[alias]: _named(shared, name)})
    return name


@functools.cache
def _sqlite_template(alias):
    with tempfile.TemporaryDirectory() as folder:
        _migrate(alias, folder, {})
        return (Path(folder) / FILES[alias]).read_bytes()


def _migrate(alias, folder, environment):
    product = {"DJANGO_SETTINGS_MODULE": "portal.settings", "EMBEDDED": "1", "DATA_DIR": folder}
    command = [sys.executable, "manage.py", "migrate", "--noinput", "--verbosity=0", "--database", alias]
    subprocess.run(command, env={**os.environ, **product, **environment}, cwd=ROOT, check=True)


def _named(url, name):
    return urlsplit(url)._replace(path=name).geturl()
