"""Walk a team's chain and find the first entry that is not what was written."""

from collections.abc import Iterator
from dataclasses import dataclass

from portal.accounts.models import Team
from portal.audit.log import digest
from portal.audit.models import Entry, Head

START = "0" * 64


@dataclass(frozen=True)
class Fault:
    """`number` is the first entry that is wrong or missing."""

    number: int
    words: str


def verify(team: Team) -> tuple[int, Fault | None]:
    """Return how many entries are whole, and the first fault. Finds changed, missing, inserted and swapped entries."""
    expected, previous = 1, START
    for entry in _entries(team):
        if entry.number != expected:
            return expected - 1, Fault(expected, "is missing")
        if entry.prev_hash != previous:
            return expected - 1, Fault(expected, "does not follow the entry before it")
        if entry.hash != digest(entry):
            return expected - 1, Fault(expected, "was changed after it was written")
        expected, previous = expected + 1, entry.hash
    head = Head.objects.filter(team=team).first()
    if head is not None and (head.number, head.hash) != (expected - 1, previous):
        return expected - 1, Fault(expected, f"is missing: the log should end with #{head.number}")
    return expected - 1, None


def _entries(team: Team) -> Iterator[Entry]:
    return Entry.objects.of(team).order_by("number").iterator(chunk_size=2000)
