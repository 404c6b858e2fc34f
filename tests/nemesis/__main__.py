"""`make nemesis`, or `SECONDS=180 SEED=7 make nemesis`. Exit code 1, and what is wrong, if a promise was broken."""

import os
import secrets
import sys

import django

SEED = int(os.environ.get("SEED") or secrets.randbelow(10**6))
SECONDS = int(os.environ.get("SECONDS") or 1200)


def main():
    django.setup()
    from tests.nemesis.soak import soak

    print(f"SECONDS={SECONDS} SEED={SEED} make nemesis", flush=True)
    report = soak(SECONDS, SEED)
    for name, value in report.facts.items():
        print(f"{name}: {value}")
    for line in report.wrong:
        print(f"WRONG: {line}")
    if report.wrong:
        print(*report.blows, sep="\n")
    sys.exit(bool(report.wrong))


main()
