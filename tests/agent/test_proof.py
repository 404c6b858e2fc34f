"""Whether a new version has proven itself, and what says nothing about it."""

import os

import pytest

from engines.agent import installed, proof
from engines.agent.version import VERSION

GONE = 2**22 + 1  # a process id that Linux gives nobody


@pytest.fixture
def file(tmp_path, monkeypatch):
    """A version that a process, which has gone since, put in place of another."""
    released = tmp_path / "engine"
    released.write_text("new")
    proof.previous(released).write_text("old")
    (tmp_path / "engine.unproven").write_text(f"{GONE} {VERSION}")
    monkeypatch.setattr(installed, "FILE", released)
    monkeypatch.setattr(proof, "_proven", False)
    monkeypatch.setattr("sys.argv", ["engine", "serve"])
    monkeypatch.setattr(proof, "start_again", lambda: None)
    return released


def test_one_that_ends_unforeseen_makes_way(file):
    proof.run(lambda: -1)
    assert file.read_text() == "old"


@pytest.mark.parametrize("code", [0, 1, 3, 4])
def test_an_end_that_is_not_about_the_version_leaves_it(file, code):
    assert proof.run(lambda: code) == code
    assert file.read_text() == "new"


def test_once_welcome_it_is_proven_though_it_may_not_write_there(file, monkeypatch):
    def refused(*_, **__):
        raise PermissionError

    monkeypatch.setattr("pathlib.Path.unlink", refused)
    proof.welcomed()
    assert not proof.in_doubt()


def test_nobody_has_that_process_id():
    assert not proof.runs(GONE)
    assert proof.runs(os.getpid())
