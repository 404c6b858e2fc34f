"""Runs one app, once, and ends with the engine that started it."""

import ctypes
import importlib
import json
import os
import signal
import sys
from typing import Any

from engines.agent.apps import NAMES, WAIT
from engines.agent.apps.given import BadInput, Given
from engines.agent.apps.report import Report

PR_SET_PDEATHSIG = 1  # linux/prctl.h


def main(app: str, parent: int, *words: str) -> int:
    end_with(parent)
    report = Report()
    try:
        if app not in NAMES:
            raise BadInput("there is no such app here")
        loaded = importlib.import_module(f"engines.agent.apps.{app}")
        if WAIT in words:
            report.ready()
        report.result(loaded.run(_given(), report))
    except BadInput as error:
        report.error(f"{app}: {error}")
        return 1
    return 0


def end_with(parent: int) -> None:
    """Have the kernel kill this process when the engine dies, even by SIGKILL: no task is orphaned."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # The engine may have died before the kernel knew: then the parent is already somebody else.
    if os.getppid() != parent:
        sys.exit("the engine is gone")


def _given() -> Given:
    fields: Any = json.load(sys.stdin)
    if not isinstance(fields, dict):
        raise BadInput("the input must be an object")
    return Given(fields)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), *sys.argv[3:]))
