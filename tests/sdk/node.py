"""Where Node.js is. `python -m tests.sdk.node` installs it from the system's packages if need be, and then the SDK."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
MODULES = HERE / "node_modules"
OLDEST = 18
PACKAGES = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "nodejs", "npm"]
WAY_OUT = f"Install Node.js {OLDEST} or newer with npm (Debian: apt-get install nodejs npm)."


def missing():
    """Return what keeps the SDK from running, "" if nothing does."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        return "there is no node or no npm"
    found = subprocess.run(["node", "--version"], stdout=subprocess.PIPE, text=True, check=True).stdout.strip()
    major = found.removeprefix("v").partition(".")[0]
    return "" if major.isdecimal() and int(major) >= OLDEST else f"node is {found}, older than {OLDEST}"


def install():
    """Install Debian's packages, as root or through a sudo that asks no password. What fails is said by `missing`."""
    if shutil.which("apt-get") is None:
        return
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and (shutil.which("sudo") is None or subprocess.call([*root, "true"], stderr=subprocess.DEVNULL)):
        return
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive"]
    for step in (["apt-get", "update", "-qq"], PACKAGES):
        subprocess.call([*quiet, *step])


if __name__ == "__main__":
    if missing():
        print("Installing Node.js for the tests with the official SDK…", flush=True)
        install()
    if reason := missing():
        sys.exit(f"The tests with the official SDK cannot run: {reason}. {WAY_OUT}")
    sys.exit(subprocess.call(["npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"], cwd=HERE))
