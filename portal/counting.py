"""Counts in memory, for rate limits: one process's own, lost with it."""

import threading
import time

from limits.storage import MemoryStorage

FORGET_SECONDS = 10.0


class Memory(MemoryStorage):
    """The library's own starts a thread at nearly every count, to forget what is over; two at once fail."""

    _counting = threading.Lock()
    _forget_at = 0.0

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        at = time.time()
        with self._counting:
            if at >= self._forget_at:
                self._forget(at)
            if self.expirations.get(key, 0) <= at:
                self.storage[key], self.expirations[key] = 0, at + expiry
            self.storage[key] += amount
            return self.storage[key]

    def get(self, key: str) -> int:
        with self._counting:
            return self.storage[key] if self.expirations.get(key, 0) > time.time() else 0

    def _forget(self, at: float) -> None:
        self._forget_at = at + FORGET_SECONDS
        for key in [key for key, end in self.expirations.items() if end <= at]:
            self.clear(key)
