"""`python -m tests.vulnerabilities FOLDER`: known vulnerabilities of what is installed in that virtual environment.

Exits 1 if there are any. Where the advisories are out of reach it says so and exits 0: no network is no finding.
"""

import json
import subprocess
import sys
from pathlib import Path

LONGEST = 180  # seconds
INSTALLERS = {"pip", "setuptools"}  # Python's own venv module brings them along; nothing of ours runs them


def main(folder: str) -> int:
    installed = next(Path(folder).glob("lib/python*/site-packages"))
    command = [sys.executable, "-m", "pip_audit", "--path", installed, "--format", "json", "--progress-spinner", "off"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=LONGEST)
        packages = [one for one in json.loads(done.stdout)["dependencies"] if one["name"] not in INSTALLERS]
    except (subprocess.TimeoutExpired, ValueError, KeyError):
        print("WARNING: dependencies were not audited: the advisories are out of reach.")
        return 0
    skipped = [one["name"] for one in packages if "skip_reason" in one]
    found = [(one["name"], one["version"], flaw) for one in packages for flaw in one.get("vulns", ())]
    for name, version, flaw in found:
        print(f"{name} {version}: {flaw['id']}, fixed in {', '.join(flaw['fix_versions']) or 'no release yet'}")
    if skipped:
        print(f"WARNING: no advisories were to be had for {len(skipped)} of {len(packages)} dependencies.")
    print(f"{len(packages) - len(skipped)} dependencies audited, {len(found)} known vulnerabilities.")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
