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
    """Return how many entries are whole, and the first fault: an entry changed, missing, inserted or swapped.

    Entries written meanwhile are left to the next time.
    """
    head = Head.objects.filter(team=team).first() or Head(team=team)
    expected, previous = 1, START
    for entry in _entries(team, head):
        if words := _fault(entry, expected, previous):
            return expected - 1, Fault(expected, words)
        expected, previous = expected + 1, entry.hash
    if expected <= head.number:
        return expected - 1, Fault(expected, f"is missing: the log should end with #{head.number}")
    if previous != head.hash:
        return expected - 1, Fault(head.number, "is not the one that the log should end with")
    return expected - 1, _beyond(team)


def _fault(entry: Entry, expected: int, previous: str) -> str:
    if entry.number != expected:
        return "is missing"
    if entry.prev_hash != previous:
        return "does not follow the entry before it"
    return "" if entry.hash == digest(entry) else "was changed after it was written"


def _entries(team: Team, head: Head) -> Iterator[Entry]:
    return Entry.objects.of(team).filter(number__lte=head.number).order_by("number").iterator(chunk_size=2000)


def _beyond(team: Team) -> Fault | None:
    """Find an entry after the end. The entry is read before the end is: an honest writer moves both at once."""
    last = Entry.objects.of(team).order_by("-number").values_list("number", flat=True).first() or 0
    end = Head.objects.filter(team=team).values_list("number", flat=True).first() or 0
    return Fault(end + 1, f"was inserted: the log should end with #{end}") if last > end else None
