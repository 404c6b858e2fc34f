"""How an app speaks to its engine: JSON lines on stdout."""

import json
import sys
import time
from typing import Any

PROGRESS_SECONDS = 0.1  # a tight loop may report at each turn; more than this nobody can read


class Report:
    def __init__(self) -> None:
        self._next = 0.0

    def progress(self, fraction: float, message: str = "") -> None:
        """Say how far the work is, 0 to 1. Reports that come too soon after the last are dropped."""
        if fraction < 1 and time.monotonic() < self._next:
            return
        self._next = time.monotonic() + PROGRESS_SECONDS
        self._line({"progress": round(fraction, 4), "message": message})

    def log(self, line: str) -> None:
        self._line({"log": line})

    def ready(self) -> None:
        """Say that the app is loaded and may get its input."""
        self._line({"ready": True})

    def result(self, output: dict[str, Any]) -> None:
        self._line({"result": output})

    def error(self, text: str) -> None:
        self._line({"error": text})

    def _line(self, content: dict[str, Any]) -> None:
        sys.stdout.write(json.dumps(content) + "\n")
        sys.stdout.flush()
