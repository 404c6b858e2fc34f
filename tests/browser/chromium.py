"""Where Chromium is, and how it is started.

`python -m tests.browser.chromium` installs it from the system's packages if it is missing.
"""

import os
import shutil
import subprocess
import sys

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PACKAGE = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "chromium"]
WAY_OUT = "Install Chromium (Debian: apt-get install chromium), or set CHROMIUM to a Chrome or Chromium program."


def find():
    """Return the program's path, or None."""
    given = os.environ.get("CHROMIUM")
    return shutil.which(given) if given else next(filter(None, map(shutil.which, NAMES)), None)


def install():
    """Install Debian's package, as root or through a sudo that asks no password. Return whether that worked."""
    if shutil.which("apt-get") is None:
        return False
    root = [] if os.geteuid() == 0 else ["sudo", "-n"]
    if root and (shutil.which("sudo") is None or subprocess.call([*root, "true"], stderr=subprocess.DEVNULL)):
        return False
    quiet = [*root, "env", "DEBIAN_FRONTEND=noninteractive"]
    return all(subprocess.call([*quiet, *step]) == 0 for step in (["apt-get", "update", "-qq"], PACKAGE))


if __name__ == "__main__":
    if find() is None:
        print("Installing Chromium for the browser tests…", flush=True)
        install()
    if find() is None:
        sys.exit(f"The browser tests cannot run: there is no Chromium. {WAY_OUT}")
