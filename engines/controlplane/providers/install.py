"""Fetches a released engine onto a new machine. It runs there, with nothing but the standard library.

    python3 install.py MANIFEST_URL TARGET_FILE

The archive that the manifest names for this platform is put in TARGET_FILE in one step, once its SHA-256 is right.
"""

import hashlib
import io
import json
import os
import platform
import sys
import tarfile
import urllib.error
import urllib.parse
import urllib.request

MOST = 200 * 1024 * 1024  # bytes of an archive, and of what is in it
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


def main(manifest_url: str, target: str) -> None:
    machine = platform.machine()
    key = "linux-" + ARCHITECTURES.get(machine, machine)
    manifest = json.loads(fetch(manifest_url).decode())
    build = manifest.get("builds", {}).get(key)
    if build is None:
        sys.exit(f"the manifest at {manifest_url} has no build for {key}")
    archive = fetch(urllib.parse.urljoin(manifest_url, build["url"]))
    if hashlib.sha256(archive).hexdigest() != build["sha256"].lower():
        sys.exit("the engine's archive does not have the SHA-256 that the manifest gives")
    put(unpack(archive, build["binaryName"]), target)


def fetch(url: str) -> bytes:
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 (the address is the operator's)
            content: bytes = answer.read(MOST + 1)
    except (urllib.error.URLError, OSError) as error:
        sys.exit(f"{url} cannot be fetched: {error}")
    if len(content) > MOST:
        sys.exit(f"{url} is longer than {MOST} bytes")
    return content


def unpack(archive: bytes, name: str) -> bytes:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as file:
        for entry in file:
            content = file.extractfile(entry) if entry.name == name and entry.size <= MOST else None
            if content is not None:
                return content.read()
    sys.exit(f"the archive does not hold {name}")


def put(program: bytes, target: str) -> None:
    new = target + ".new"
    with open(new, "wb") as file:
        file.write(program)
        file.flush()
        os.fsync(file.fileno())
    os.chmod(new, 0o755)  # noqa: S103 (a program that another user runs)
    os.replace(new, target)


if __name__ == "__main__":
    main(*sys.argv[1:])
