"""Builds a release of the engine: one file that a bare Python runs, and the tree that engines update from.

    python -m engines.agent.package --version v1.2.3 --out DIR [--base-url URL] [--channel canary]

The file is a zip that Python executes. It holds the engine and the pure-Python packages that it imports.
"""

import argparse
import gzip
import hashlib
import importlib.metadata
import io
import json
import os
import re
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import semver

SOURCES = Path(__file__).resolve().parents[1]  # engines/
# Everything that is imported, by way of httpx and websockets too.
PACKAGES = ("anyio", "certifi", "h11", "httpcore", "httpx", "idna", "semver", "typing_extensions", "websockets")
# Nothing in the file depends on the processor, so each platform gets the same one, under its own name.
PLATFORMS = ("linux-amd64", "linux-arm64")
NAME = "inferencesh-engine"
SHEBANG = b"#!/usr/bin/env python3\n"
START = """\
import sys

if sys.version_info < (3, 11):
    sys.exit("the engine needs Python 3.11 or newer; this is Python " + sys.version.split()[0])

import os

if os.path.exists("/proc/self/fd"):
    # Held open: another version may take the file's place while this one still runs.
    sys.path[0] = "/proc/self/fd/%d" % os.open(sys.path[0], os.O_RDONLY)

from engines.agent import proof
from engines.agent.__main__ import main

sys.exit(proof.run(main))
"""

Channel = Literal["stable", "canary"]


def build(version: str, out: Path, base_url: str = "", channel: Channel = "stable") -> Path:
    """Write the release `version` into the tree `out`, make it the head of `channel`, return the executable file.

    The same sources and packages give the same bytes, but for the manifests' releaseDate (SOURCE_DATE_EPOCH is
    honoured). Without `base_url` the manifests point to the archives relative to themselves. Other releases in
    `out` stay. Raises ValueError when `version` is not a tag such as v1.2.3, OSError when `out` cannot be written.
    """
    semver.Version.parse(version.removeprefix("v"))
    program = _zip(version)
    folder = out / version
    sums = {}
    for platform in PLATFORMS:
        name = f"{NAME}-{version}-{platform}"
        archive = _tar(name, program)
        _write(folder / f"{name}.tar.gz", archive)
        sums[platform] = hashlib.sha256(archive).hexdigest()
    lines = [f"{sha256}  {NAME}-{version}-{platform}.tar.gz\n" for platform, sha256 in sums.items()]
    _write(folder / "checksums.txt", "".join(lines).encode())
    _write(folder / NAME, program, mode=0o755)
    base = base_url.rstrip("/") + "/" if base_url else ""
    _write(folder / "manifest.json", _manifest(version, sums, f"{base}{version}/" if base else ""))
    head, up = (out, "") if channel == "stable" else (out / channel, "../")
    _write(head / "manifest.json", _manifest(version, sums, f"{base or up}{version}/"))
    return folder / NAME


def _manifest(version: str, sums: dict[str, str], where: str) -> bytes:
    """Compact JSON: the shell installer that reads it too takes no spaces."""
    moment = os.environ.get("SOURCE_DATE_EPOCH")
    released = datetime.fromtimestamp(int(moment), UTC) if moment else datetime.now(UTC)
    builds = {
        platform: {
            "url": f"{where}{NAME}-{version}-{platform}.tar.gz",
            "binaryName": f"{NAME}-{version}-{platform}",
            "sha256": sha256,
        }
        for platform, sha256 in sums.items()
    }
    date = released.isoformat(timespec="seconds").replace("+00:00", "Z")
    manifest = {"version": version, "releaseDate": date, "builds": builds, "aliases": ["engine"]}
    return json.dumps(manifest, separators=(",", ":")).encode()


def _zip(version: str) -> bytes:
    content = {"__main__.py": START.encode(), **dict(_engine(version))}
    for package in PACKAGES:
        content |= dict(_package(package))
    target = io.BytesIO()
    target.write(SHEBANG)
    with zipfile.ZipFile(target, "a", zipfile.ZIP_DEFLATED) as file:
        for name in sorted(content):
            entry = zipfile.ZipInfo(name)  # dated 1980, so that the bytes do not depend on the day
            entry.external_attr = 0o644 << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, content[name])
    return target.getvalue()


def _engine(version: str) -> Iterator[tuple[str, bytes]]:
    own = {SOURCES / "__init__.py", SOURCES / "wire.py", *(SOURCES / "agent").rglob("*.py")} - {
        Path(__file__).resolve()
    }
    for path in own:
        yield path.relative_to(SOURCES.parent).as_posix(), path.read_bytes()
    yield "engines/agent/version.py", f'"""The version this engine reports."""\n\nVERSION = "{version}"\n'.encode()


def _package(name: str) -> Iterator[tuple[str, bytes]]:
    """The installed package's modules, data and licence; what is compiled stays out."""
    for path in importlib.metadata.files(name) or []:
        licence = ".dist-info" in path.parts[0] and re.search("(?i)licen[cs]e|copying|notice", path.name)
        if licence or (path.suffix in (".py", ".pem") and path.parts[0] != ".."):
            yield path.as_posix(), path.read_binary()


def _tar(name: str, program: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(program), 0o755
    target = io.BytesIO()
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=target, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as file,
    ):
        file.addfile(entry, io.BytesIO(program))
    return target.getvalue()


def _write(path: Path, content: bytes, mode: int = 0o644) -> None:
    """In one step, for engines may be reading the tree."""
    path.parent.mkdir(parents=True, exist_ok=True)
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_bytes(content)
    new.chmod(mode)
    new.replace(path)


def main() -> int:
    command = argparse.ArgumentParser(prog="python -m engines.agent.package", description="Builds an engine release.")
    command.add_argument("--version", required=True, help="a tag such as v1.2.3")
    command.add_argument("--out", required=True, type=Path, help="the release tree; other versions in it stay")
    command.add_argument("--base-url", default="", help="where the tree will be served (default: relative addresses)")
    command.add_argument("--channel", choices=("stable", "canary"), default="stable")
    flags = command.parse_args()
    try:
        program = build(flags.version, flags.out, flags.base_url, flags.channel)
    except (ValueError, OSError, importlib.metadata.PackageNotFoundError) as error:
        sys.stderr.write(f"nothing is released: {error}\n")
        return 1
    sys.stdout.write(f"{program}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
