"""What is installed is what pyproject.toml asks for, and each file is known by its hash."""

import re
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ASKED = tomllib.loads((ROOT / "pyproject.toml").read_text())
LOCKS = {
    "requirements.txt": ASKED["project"]["dependencies"],
    "tests/requirements.txt": ASKED["project"]["dependencies"] + ASKED["dependency-groups"]["test"],
}


def entries(lock):
    text = (ROOT / lock).read_text().replace("\\\n", " ")
    return [line for line in text.splitlines() if line and not line.startswith("#")]


@pytest.mark.parametrize("lock", LOCKS)
def test_the_lock_has_what_is_asked_for(lock):
    locked = {entry.split()[0] for entry in entries(lock)}
    assert {re.sub(r"\[.*\]", "", each) for each in LOCKS[lock]} <= locked


@pytest.mark.parametrize("lock", LOCKS)
def test_every_file_is_known_by_its_hash(lock):
    assert [entry for entry in entries(lock) if "--hash=sha256:" not in entry] == []


def test_the_tests_run_with_what_runs():
    running = {entry.split()[0] for entry in entries("requirements.txt")}
    assert running <= {entry.split()[0] for entry in entries("tests/requirements.txt")}
