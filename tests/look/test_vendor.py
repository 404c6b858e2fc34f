"""Vendored files are the ones that VENDOR.md says, with their licences beside them."""

import hashlib
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
VENDOR = ROOT / "static/vendor"
LIST = (VENDOR / "VENDOR.md").read_text()
LISTED = re.findall(r"^\| `([^`]+)` \|.*\(`([^`]+)`\).*\| `([0-9a-f]{64})` \|$", LIST, re.MULTILINE)


@pytest.mark.parametrize(("name", "licence", "digest"), LISTED, ids=[row[0] for row in LISTED])
def test_a_vendored_file_is_the_one_listed(name, licence, digest):
    assert hashlib.sha256((ROOT / name).read_bytes()).hexdigest() == digest
    assert (VENDOR / licence).is_file()


def test_every_vendored_file_is_listed():
    listed = {ROOT / name for name, _, _ in LISTED}
    beside = {path for path in VENDOR.iterdir() if path.name != "VENDOR.md" and not path.name.startswith("LICENSE")}
    assert beside <= listed


def test_styles_load_only_files_that_are_here():
    for sheet in (ROOT / "static/portal.css", VENDOR / "tabler.min.css"):
        addresses = re.findall(r"url\([\"']?([^\"')]+)", sheet.read_text())
        outside = [address for address in addresses if not address.startswith("data:")]
        assert all((sheet.parent / address).is_file() for address in outside)
