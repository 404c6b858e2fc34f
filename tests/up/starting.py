"""`manage.py up` as a person runs it, with what it prints and the processes under it."""

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

from portal.services import ROOT
from tests.harness import wait_for


class Start:
    """One `manage.py up` in a place. What it says goes to a file beside the data."""

    def __init__(self, place, **environment):
        self.place = place
        self._said = place.data / f"said-{os.urandom(3).hex()}"
        ours = {
            "DATA_DIR": str(place.data),
            "PORTAL_PORT": str(place.portal_port),
            "API_PORT": str(place.api_port),
            "DEMO_PASSWORD": "a password for tests",
        }
        inherited = {name: value for name, value in os.environ.items() if name not in ("SECRET_KEY", "VAULT_KEYS")}
        with self._said.open("wb") as out:
            self.process = subprocess.Popen(
                [sys.executable, ROOT / "manage.py", "up"],
                env={
                    **inherited,
                    "DJANGO_SETTINGS_MODULE": "portal.settings",
                    **ours,
                    **place.environment,
                    **environment,
                },
                stdout=out,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self):
        return self._said.read_text()

    @property
    def last_line(self):
        return self.said.strip().splitlines()[-1]

    def says(self, words, seconds=60):
        """Wait until it has said so, and return its text."""
        wait_for(lambda: words in self.said or self.process.poll() is not None, seconds, f"“{words}” in {self.said}")
        assert words in self.said, self.said
        return self.said

    def ready(self):
        self.says("Sign in as")
        return self

    def end(self, number=signal.SIGTERM, seconds=15):
        """Signal it and return its exit code."""
        self.process.send_signal(number)
        return self.process.wait(seconds)

    def kill(self):
        self.process.kill()
        self.process.wait()

    def processes(self):
        """Every process that this start has anything to do with: {pid: command line}."""
        ours = f"DATA_DIR={self.place.data}"
        # The broker writes its title over its environment; its socket is in the title.
        return {pid: line for pid, line, environment in _all() if ours in environment or str(self.place.data) in line}

    def one(self, words):
        """The pid of the process with these words in its command line."""
        return next((pid for pid, line in self.processes().items() if re.search(words, line)), None)


def _all():
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            line, environment = (folder / "cmdline").read_bytes(), (folder / "environ").read_bytes()
        except OSError:
            continue
        if line:
            yield int(folder.name), _text(line), _text(environment).split(" ")


def _text(words):
    return words.replace(b"\0", b" ").decode(errors="replace").strip()
