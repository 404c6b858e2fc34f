"""Crash tests end processes at named places. Nobody else can."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
REACH = "import django; django.setup(); from portal.failpoints import failpoint; failpoint('here'); print('alive')"


def reached(folder, settings):
    """What becomes of a process whose environment names a place that it comes to."""
    wanted = {"DJANGO_SETTINGS_MODULE": settings, "FAILPOINTS": "here", "EMBEDDED": "1", "DATA_DIR": str(folder)}
    command = [sys.executable, "-c", REACH]
    done = subprocess.run(
        command, env=os.environ | wanted, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout.strip()


def test_the_portals_own_settings_have_none(tmp_path):
    assert reached(tmp_path, "portal.settings") == (0, "alive")


def test_those_of_a_crash_test_have(tmp_path):
    assert reached(tmp_path, "tests.money.crash_settings") == (137, "")


def test_only_tests_allow_them():
    words = "FAILPOINTS_ALLOWED" + " ="
    files = [path for room in ("portal", "engines", "tests") for path in (ROOT / room).rglob("*.py")]
    assert {path.relative_to(ROOT).parts[0] for path in files if words in path.read_text()} == {"tests"}
