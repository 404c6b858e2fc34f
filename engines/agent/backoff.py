"""How long to wait before the next try."""

import random

FIRST_SECONDS = 0.5  # most outages at the first try are a server that is just starting
SECOND_SECONDS = 2.0
GROWTH = 1.5
LIMIT_SECONDS = 30.0


class Backoff:
    """0.5 s, then 2 s growing by half up to 30 s, each ± 20 % so that a fleet does not return in step."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        self._next = FIRST_SECONDS

    def take(self) -> float:
        """Return the seconds to wait now; the next answer is longer."""
        seconds = self._next
        self._next = min(max(SECOND_SECONDS, seconds * GROWTH), LIMIT_SECONDS)
        return seconds * random.uniform(0.8, 1.2)  # noqa: S311  # not a secret
