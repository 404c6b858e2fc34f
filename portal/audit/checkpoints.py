"""Signed notes of where each chain ended, in files outside the database: DATA_DIR/audit-checkpoints/team-<id>.jsonl.

Who rewrites a chain and its head together is found by the notes, which they cannot sign. Each note names the one before
it by its SHA-256, and the head counts them, so that a note that is gone is found too.
"""

import fcntl
import hashlib
import json
import logging
import os
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from django.conf import settings
from django.utils import timezone

from portal.accounts.models import Team
from portal.audit.fault import START, Fault
from portal.audit.models import Head
from portal.audit.signing import flaw, signed

log = logging.getLogger(__name__)

LAST_LINE_BYTES = 4096


@dataclass(frozen=True)
class Checkpoint:
    """At `at`, the chain ended with entry `number`, whose hash was `hash`."""

    seq: int
    number: int
    hash: str
    at: str


def folder() -> Path:
    return Path(settings.DATA_DIR) / "audit-checkpoints"


def file_of(team: Team) -> Path:
    return folder() / f"team-{team.pk}.jsonl"


def private(path: Path, mode: str = "wb") -> IO[bytes]:
    """Open a file that only the portal's account may read, whatever the umask."""
    return open(path, mode, opener=lambda name, flags: os.open(name, flags, 0o600))


def write(team: Team) -> Checkpoint | None:
    """Note where the chain ends, on disk and in the process's log; None if nothing was written since the last note.

    Reads what is committed. Waits for another writer of the same file.
    """
    folder().mkdir(mode=0o700, exist_ok=True, parents=True)
    with private(file_of(team), "a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        line = _whole_end(file)
        last = json.loads(line) if line else {"seq": 0, "number": 0}
        head = Head.objects.filter(team=team).first()
        if head is None or (head.number, head.hash) == (last["number"], last.get("hash")):
            return None
        seq = max(last["seq"], head.checkpoints) + 1
        point = Checkpoint(seq, head.number, head.hash, timezone.now().isoformat())
        note = signed({"team_id": team.pk, "team": team.slug, **vars(point), "prev": _name(line)})
        file.write(json.dumps(note).encode() + b"\n")
        file.flush()
        os.fsync(file.fileno())
        Head.objects.filter(team=team).update(checkpoints=seq)
    # A second witness, wherever the process's log goes.
    log.info("audit checkpoint %s", json.dumps(note))
    return point


def read(team: Team, written: int) -> tuple[list[Checkpoint], Fault | None]:
    """Return the genuine notes, and the first thing wrong with the file, which should hold `written` notes or more."""
    points: list[Checkpoint] = []
    fault, previous, number, seq = None, b"", 0, 0
    for line in _lines(team):
        fields, words = _parsed(line, team)
        seq += 1
        if not words and fields["seq"] != seq:
            words = f"is missing: number {fields['seq']} stands in its place"
        if not words and fields["prev"] != _name(previous):
            words = "does not follow the one before it"
        if words:
            fault = fault or Fault(number + 1, f"is not vouched for: checkpoint {seq} {words}")
        if fields:
            points.append(Checkpoint(*(fields[name] for name in ("seq", "number", "hash", "at"))))
            seq, number = fields["seq"], fields["number"]
        previous = line
    if seq < written:
        fault = fault or Fault(number + 1, f"is not vouched for: checkpoint {seq + 1} is missing")
    return points, fault


def last(team: Team, written: int) -> tuple[Checkpoint | None, Fault | None]:
    """Return the newest note without reading the others, or what is wrong with it."""
    line = b""
    if file_of(team).exists():
        with file_of(team).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - LAST_LINE_BYTES))
            line = next(reversed(_complete(file.read())), b"")
    if not line:
        return None, Fault(1, "is not vouched for: checkpoint 1 is missing") if written else None
    fields, words = _parsed(line, team)
    if not words and fields["seq"] < written:
        words = "is the last, and newer ones are missing"
    if words:
        return None, Fault(fields.get("number", 0) + 1, f"is not vouched for: the newest checkpoint {words}")
    return Checkpoint(*(fields[name] for name in ("seq", "number", "hash", "at"))), None


def orphans() -> list[str]:
    """Return the names of the files whose team is gone: teams with a log cannot be deleted."""
    known = {file_of(team).name for team in Team.objects.all()}
    return sorted(path.name for path in folder().glob("team-*.jsonl") if path.name not in known)


def _parsed(line: bytes, team: Team) -> tuple[dict[str, Any], str]:
    """Return the note's fields, {} unless it is genuine, and what is wrong with it."""
    try:
        fields = json.loads(line)
        words = flaw(fields) if isinstance(fields, dict) else "is not a note"
    except ValueError:
        return {}, "cannot be read"
    if not words and fields["team_id"] != team.pk:
        words = "is another team's"
    return ({}, words) if words else (fields, "")


def _lines(team: Team) -> list[bytes]:
    return _complete(file_of(team).read_bytes()) if file_of(team).exists() else []


def _complete(content: bytes) -> list[bytes]:
    """The lines that were written to their end; a crash may have left a part of one more."""
    return content.split(b"\n")[:-1]


def _whole_end(file: Any) -> bytes:
    """Cut off what a crash left of a line, and return the last whole one."""
    file.seek(0)
    content = file.read()
    whole = content.rfind(b"\n") + 1
    if whole < len(content):
        log.warning("%s ended in the middle of a line; that line is gone", file.name)
        file.truncate(whole)
    return next(reversed(_complete(content[:whole])), b"")


def _name(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest() if line else START
