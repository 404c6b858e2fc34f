"""SHA-256 of data that a seed generates: the same seed and size give the same sum on every host."""

import hashlib
import random
from typing import Any

from engines.agent.apps.given import Given
from engines.agent.apps.report import Report

MEGABYTE = 1_000_000


def run(given: Given, report: Report) -> dict[str, Any]:
    megabytes = given.whole("megabytes", least=1, most=50_000, default=50)
    seed = given.text("seed", default="0")
    given.finish()
    source = random.Random(seed)  # noqa: S311  # repeatable on purpose
    digest = hashlib.sha256()
    for done in range(1, megabytes + 1):
        digest.update(source.randbytes(MEGABYTE))
        report.progress(done / megabytes, f"{done} of {megabytes} MB")
    report.log(f"read {megabytes} MB")
    return {"sha256": digest.hexdigest(), "megabytes": megabytes, "seed": seed}
