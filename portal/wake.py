"""Waking a worker: after the commit, best effort, never slower than a second, and not at all while the broker is away.

A lost message costs latency only: the sweep finds every due row in the database.
"""

import logging
import threading
import time
from typing import Any

from django.db import transaction

log = logging.getLogger(__name__)

PAUSE_SECONDS = 10.0


class Breaker:
    """After a failure, says no for a while, so that one broken neighbour does not slow every request."""

    def __init__(self, pause: float = PAUSE_SECONDS) -> None:
        self._pause = pause
        self._closed_at = 0.0
        self._lock = threading.Lock()

    def allows(self) -> bool:
        with self._lock:
            return time.monotonic() >= self._closed_at

    def trip(self) -> None:
        with self._lock:
            self._closed_at = time.monotonic() + self._pause

    def reset(self) -> None:
        with self._lock:
            self._closed_at = 0.0


breaker = Breaker()


def wake_after_commit(task: Any, *arguments: str) -> None:
    """Send the Celery task's message once the transaction is committed. Never raises."""
    transaction.on_commit(lambda: _send(task, arguments), robust=True)


def _send(task: Any, arguments: tuple[str, ...]) -> None:
    if not breaker.allows():
        return
    try:
        task.apply_async(args=arguments, retry=False, ignore_result=True)
    except Exception as error:  # kombu raises its transports' own exceptions; none of them may reach a person
        breaker.trip()
        log.warning("the broker did not take a message, the sweep will do: %s", error)
    else:
        breaker.reset()
