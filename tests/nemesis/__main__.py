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
    if report.wrong:
        print(*report.blows, sep="\n")
    for name, value in report.facts.items():
        print(f"{name}: {value}")
    # Last, as a log is often cut at its end.
    for line in report.wrong:
        print(f"WRONG: {line}")
    if report.wrong:
        sys.exit(f"A promise was broken with SECONDS={SECONDS} SEED={SEED}")


main()
