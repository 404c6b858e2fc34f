"""The apps, each run as the engine runs it: a process, JSON in, JSON lines out."""

import base64
import hashlib
import json
import os
import subprocess
import sys
import zlib

import pytest

from engines.agent.apps import NAMES
from tests.agent.process import ROOT


def run(app, parent=None, **given):
    """Everything the app said, in order."""
    command = [sys.executable, "-m", "engines.agent.apps", app, str(parent or os.getpid())]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, cwd=ROOT, timeout=20)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_the_same_seed_gives_the_same_checksum():
    assert run("checksum", megabytes=1, seed="a")[-1] == run("checksum", megabytes=1, seed="a")[-1]


def test_another_seed_gives_another_checksum():
    assert run("checksum", megabytes=1, seed="a")[-1] != run("checksum", megabytes=1, seed="b")[-1]


@pytest.mark.parametrize("scene", ["mandelbrot", "gradient"])
def test_a_picture_is_a_png_of_the_size_asked_for(scene):
    output = run("render", scene=scene, width=40, height=30)[-1]["result"]
    image = base64.b64decode(output["png_base64"])
    assert image[:8] == b"\x89PNG\r\n\x1a\n"
    assert int.from_bytes(image[16:20], "big") == 40
    assert output["sha256"] == hashlib.sha256(image).hexdigest()
    assert output["bytes"] == len(image)


def test_the_pixels_of_a_picture_are_all_there():
    image = base64.b64decode(run("render", scene="gradient", width=40, height=30)[-1]["result"]["png_base64"])
    length = int.from_bytes(image[33:37], "big")
    assert len(zlib.decompress(image[41 : 41 + length])) == 30 * (1 + 40 * 3)


def test_progress_ends_at_one():
    progress = [said["progress"] for said in run("sleep", seconds=0.25) if "progress" in said]
    assert progress == sorted(progress)
    assert progress[-1] == 1


@pytest.mark.parametrize(
    ("app", "given", "error"),
    [
        ("sleep", {}, "sleep: seconds is missing"),
        ("sleep", {"seconds": -1}, "sleep: seconds must be between 0 and 86400, not -1"),
        ("sleep", {"seconds": True}, "sleep: seconds must be a number"),
        ("checksum", {"megabytes": 1.5}, "checksum: megabytes must be a whole number"),
        ("checksum", {"megabyte": 1}, "checksum: unknown field megabyte"),
        ("render", {"scene": "cat"}, "render: scene must be one of mandelbrot, gradient"),
        ("os", {}, "os: there is no such app here"),
    ],
)
def test_bad_input_is_answered_with_words(app, given, error):
    assert run(app, **given) == [{"error": error}]


def test_an_app_whose_engine_is_gone_does_not_start():
    assert run("sleep", parent=1, seconds=20) == []


@pytest.mark.parametrize("app", NAMES)
def test_every_app_named_exists(app):
    assert (ROOT / f"engines/agent/apps/{app}.py").exists()
