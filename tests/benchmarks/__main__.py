"""`make bench`: one line per measure, `ID ratio goal verdict what`, and the same as JSON in var/bench.json.

Each measure is a ratio against a peer in the same run: the median of interleaved rounds. The absolute numbers behind it
are those of this machine in this minute, and no goals.
"""

import json
import os
import statistics
import sys
import time
from pathlib import Path

import django

os.environ["DJANGO_SETTINGS_MODULE"] = "tests.benchmarks.settings"
ROUNDS = 7


def main() -> int:
    django.setup()
    from django.test.utils import setup_databases, setup_test_environment, teardown_databases

    from tests.benchmarks.audit import MEASURES as AUDIT
    from tests.benchmarks.batches import MEASURES as BATCHES
    from tests.benchmarks.measures import MEASURES
    from tests.benchmarks.sockets import many_engines

    measures = {**MEASURES, **AUDIT, **BATCHES, "B14": many_engines}
    wanted = [name for name in os.environ.get("ONLY", "").split(",") if name] or list(measures)
    setup_test_environment()
    databases = setup_databases(0, interactive=False)
    try:
        rows = [row for name in wanted for row in _rows(measures[name])]
    finally:
        teardown_databases(databases, 0)
    for row in rows:
        seen = f" ({row['absolute']})" if "absolute" in row else ""
        print(f"{row['id']:<4} {row['ratio']:>7.3f} {row['goal']:>6} {row['verdict']:<5} {row['what']}{seen}")
    out = Path(os.environ.get("BENCH_JSON", "var/bench.json"))
    out.parent.mkdir(exist_ok=True)
    out.write_text(json.dumps({"load": os.getloadavg(), "measures": rows}, indent=2))
    return 1 if any(row["verdict"] == "miss" for row in rows) else 0


def _rows(measure):
    """The measure's rows, each with the times that it was made from if it did not say them itself."""
    medians = []

    def remembered(ours, peer, rounds: int = ROUNDS) -> tuple[float, float]:
        medians.append(interleaved(ours, peer, rounds))
        return medians[-1]

    rows = measure(remembered)
    for row, (ours, peer) in zip(rows, medians, strict=False) if len(rows) == len(medians) else ():
        row.setdefault("absolute", f"{1000 * ours:.1f} ms / {1000 * peer:.1f} ms")
    return rows


def interleaved(ours, peer, rounds: int = ROUNDS) -> tuple[float, float]:
    """Run A/B/A/B after a warm-up; return both medians, in seconds."""
    ours(), peer()
    pairs = [(_seconds(ours), _seconds(peer)) for _ in range(rounds)]
    return statistics.median(a for a, _ in pairs), statistics.median(b for _, b in pairs)


def _seconds(call) -> float:
    begun = time.perf_counter()
    call()
    return time.perf_counter() - begun


if __name__ == "__main__":
    sys.exit(main())
