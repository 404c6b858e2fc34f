"""Counts in memory, for rate limits: one process's own, lost with it."""

import threading

from limits.storage import MemoryStorage


class Memory(MemoryStorage):
    """The library's own fails when two threads count at once: both start its timer."""

    _counting = threading.Lock()

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        with self._counting:
            return super().incr(key, expiry, amount)
