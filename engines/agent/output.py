"""The lines a task wrote, kept within bounds until they can be sent."""

from collections import deque

LONGEST_LINE = 4096  # characters
MOST_KEPT = 64 * 1024  # characters, while there is no connection
MOST_AT_ONCE = 16 * 1024  # characters, in one update


class Output:
    """Lines in order. When too many wait, the oldest go, and their number is said in their place."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque()
        self._size = 0
        self._lost = 0

    def __bool__(self) -> bool:
        return bool(self._lines)

    def add(self, line: str) -> None:
        line = line[:LONGEST_LINE] + "…" if len(line) > LONGEST_LINE else line
        self._lines.append(line)
        self._size += len(line) + 1
        while self._size > MOST_KEPT:
            self._size -= len(self._lines.popleft()) + 1
            self._lost += 1

    def take(self, most: int = MOST_AT_ONCE) -> str:
        """Remove and return the next lines, at most `most` characters, each ended by a newline."""
        text = f"[{self._lost} earlier lines were dropped]\n" if self._lost else ""
        self._lost = 0
        while self._lines and len(text) + len(self._lines[0]) < most:
            line = self._lines.popleft() + "\n"
            self._size -= len(line)
            text += line
        return text
