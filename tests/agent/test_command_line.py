"""The commands that end by themselves."""

import json
import subprocess
import sys

from engines.agent.version import VERSION
from tests.agent.process import ROOT


def run(*words, **environ):
    command = [sys.executable, "-m", "engines.agent", *words]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT, env=environ, timeout=20)


def test_version_prints_the_version():
    assert run("version").stdout == f"{VERSION}\n"


def test_config_prints_what_would_be_used_without_the_key():
    done = run("config", "--api-url", "https://api.example.com", "--name", "a", INFERENCE_API_KEY="inf_secret")
    assert json.loads(done.stdout)["workers"] == {"gpu": [], "cpu": {"count": 2}}
    assert "inf_secret" not in done.stdout


def test_a_mistake_is_said_and_nothing_starts():
    done = run("serve", "--name", "a", "--api-url", "https://api.example.com")
    assert done.returncode == 2
    assert done.stderr.startswith("cannot start: no API key")


def test_it_needs_no_django():
    """A GPU host gets this package and no web framework."""
    code = "import engines.agent.__main__, sys; print('django' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=20)
    assert done.stdout == "False\n"
