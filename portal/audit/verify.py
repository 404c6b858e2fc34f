"""Walk a team's chain, its seals and its checkpoints, and find the first entry that is not what was written."""

from collections.abc import Iterable, Mapping

from portal.accounts.models import Team
from portal.audit import checkpoints, rows, seals
from portal.audit.checkpoints import Checkpoint
from portal.audit.fault import START, Fault
from portal.audit.models import Entry, Head

__all__ = ["START", "Fault", "verify"]

Notes = Mapping[int, list[Checkpoint]]


def verify(team: Team, *, since_checkpoint: bool = False) -> tuple[int, Fault | None]:
    """Return how many entries were walked, and the first fault: an entry changed, missing, inserted, swapped, or
    rewritten after a checkpoint saw it, or a checkpoint or seal that is gone or not genuine.

    Entries written meanwhile are left to the next time. `since_checkpoint` walks from the newest checkpoint on
    only, and leaves the seals' files alone.
    """
    end = seals.end(team)
    count, fault = _since_checkpoint(team) if since_checkpoint else _whole(team)
    if fault is not None and seals.end(team) != end:  # sealed while we read
        return verify(team, since_checkpoint=since_checkpoint)
    return count, _earliest(fault, _before(team, end.last))


def _whole(team: Team) -> tuple[int, Fault | None]:
    # In this order: an honest writer moves the head before it notes it, and counts the note after.
    written = _head(team).checkpoints
    points, file_fault = checkpoints.read(team, written)
    notes: dict[int, list[Checkpoint]] = {}
    for point in points:
        notes.setdefault(point.number, []).append(point)
    head = _head(team)
    end, seal_fault = seals.check(team, notes)
    count, chain_fault = _walk(team, head, notes, end.last + 1, end.last_hash)
    return count, _earliest(seal_fault, chain_fault, file_fault)


def _earliest(*faults: Fault | None) -> Fault | None:
    return min(filter(None, faults), key=lambda fault: fault.number, default=None)


def _since_checkpoint(team: Team) -> tuple[int, Fault | None]:
    point, fault = checkpoints.last(team, _head(team).checkpoints)
    if fault is not None:
        return 0, fault
    end, fault = seals.check(team)
    if fault is not None:
        return 0, fault
    head = _head(team)
    if point is None or point.number <= end.last:
        return _walk(team, head, {}, end.last + 1, end.last_hash)
    seen = next(iter(rows.between(team, point.number, point.number)), None)
    if seen is None:
        return 0, Fault(min(point.number, head.number + 1), f"is missing: the checkpoint of {point.at} saw it")
    if seen.hash != point.hash or seen.digest() != seen.hash:
        return 0, Fault(point.number, f"is not the one that the checkpoint of {point.at} saw")
    return _walk(team, head, {point.number: [point]}, point.number + 1, point.hash)


def _walk(team: Team, head: Head, notes: Notes, expected: int, previous: str) -> tuple[int, Fault | None]:
    start, good = expected, expected - 1
    for row in rows.between(team, expected, head.number):
        if words := _fault(row, expected, previous):
            return expected - start, Fault(expected, words)
        if row.number in notes:
            if fault := contradicted(notes[row.number], row.hash, good):
                return expected - start, fault
            good = row.number
        expected, previous = expected + 1, row.hash
    return expected - start, _fault_at_end(team, head, notes, expected, previous)


def contradicted(points: Iterable[Checkpoint], found: str, good: int) -> Fault | None:
    """Find a checkpoint that saw another hash; `good` is the last entry that one agreed with."""
    for point in points:
        if point.hash != found:
            words = f"was rewritten, or one after it up to #{point.number}: the checkpoint of {point.at} saw another"
            return Fault(good + 1, words)
    return None


def _fault(row: rows.Row, expected: int, previous: str) -> str:
    if row.number != expected:
        return "is missing"
    if row.prev_hash != previous:
        return "does not follow the entry before it"
    return "" if row.hash == row.digest() else "was changed after it was written"


def _fault_at_end(team: Team, head: Head, notes: Notes, expected: int, previous: str) -> Fault | None:
    if expected <= head.number:
        return Fault(expected, f"is missing: the log should end with #{head.number}")
    furthest = max(notes, default=0)
    if furthest >= expected:
        return Fault(expected, f"is missing: the checkpoint of {notes[furthest][0].at} saw #{furthest}")
    if previous != head.hash:
        return Fault(max(head.number, 1), "is not the one that the log should end with")
    return _beyond(team)


def _beyond(team: Team) -> Fault | None:
    """Find an entry after the end. The entry is read before the end is: an honest writer moves both at once."""
    last = Entry.objects.of(team).order_by("-number").values_list("number", flat=True).first() or 0
    end = _head(team).number
    return Fault(end + 1, f"was inserted: the log should end with #{end}") if last > end else None


def _before(team: Team, last: int) -> Fault | None:
    """Find an entry where the log has none: they begin with #1, and those up to #`last` were moved to a file."""
    number = Entry.objects.of(team).filter(number__lte=last).order_by("number").values_list("number", flat=True).first()
    return None if number is None else Fault(number, f"was inserted: the log should begin with #{last + 1}")


def _head(team: Team) -> Head:
    return Head.objects.filter(team=team).first() or Head(team=team)
