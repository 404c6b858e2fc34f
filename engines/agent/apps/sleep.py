"""Waits, saying how far it is."""

import time
from typing import Any

from engines.agent.apps.given import Given
from engines.agent.apps.report import Report

STEP_SECONDS = 0.1


def run(given: Given, report: Report) -> dict[str, Any]:
    seconds = given.number("seconds", least=0, most=24 * 3600)
    given.finish()
    began = time.monotonic()
    report.log(f"sleeping for {seconds:g} s")
    while (passed := time.monotonic() - began) < seconds:
        report.progress(passed / seconds, f"{passed:.0f} of {seconds:g} s")
        time.sleep(min(STEP_SECONDS, seconds - passed))
    report.progress(1.0)
    return {"seconds": seconds}
