"""Retention: old entries move to a file under a signed seal, and the chain goes on from the seal.

The only way in which entries leave the database. The file is DATA_DIR/audit-seals/<slug>-<first>-<last>.jsonl, one
entry a line, with the seal beside it. It may be moved away: the seal says how to tell that it is the one.
"""

import hashlib
import json
import os
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any, NamedTuple

from django.conf import settings
from django.db import transaction
from django.utils import timezone

from portal.accounts.models import Team
from portal.audit import rows
from portal.audit.checkpoints import Checkpoint, private
from portal.audit.fault import START, Fault
from portal.audit.log import record
from portal.audit.models import Entry, Head, Seal
from portal.audit.signing import flaw, signed


class Broken(Exception):
    """A chain that is not whole is not sealed: the seal would vouch for it."""


class End(NamedTuple):
    """Where the sealed part of a chain ends."""

    last: int
    last_hash: str


def end(team: Team) -> End:
    seal = Seal.objects.of(team).order_by("-last").first()
    return End(seal.last, seal.last_hash) if seal else End(0, START)


def folder() -> Path:
    return Path(settings.DATA_DIR) / "audit-seals"


@transaction.atomic
def seal(team: Team, before: datetime) -> Seal | None:
    """Move the entries older than `before` to a file, and audit that; None if there are none. Raises Broken.

    The file and its seal are on disk before the entries go. Writers of the team's log wait meanwhile.
    """
    from portal.audit.verify import verify

    head = Head.objects.select_for_update().filter(team=team).first()
    _, fault = verify(team)
    if fault is not None:
        raise Broken(f"{team.slug}: entry #{fault.number} {fault.words}")
    start = end(team)
    first_kept = Entry.objects.of(team).filter(at__gte=before).order_by("at", "number").first()
    last = first_kept.number - 1 if first_kept else head.number if head else 0
    if last <= start.last:
        return None
    made = _filed(team, start, last)
    made.save(force_insert=True)
    record(
        team=team, actor=None, action="audit.sealed", target=team, file=made.file, first=made.first, last=made.last,
        sha256=made.sha256,
    )  # fmt: skip
    Entry.objects.of(team).filter(number__lte=last).delete()
    return made


def check(team: Team, notes: Mapping[int, list[Checkpoint]] | None = None) -> tuple[End, Fault | None]:
    """Return where the seals end, and the first fault in them; with `notes` also in their files, those that are there.

    The files are as long as what they hold; the seals are few.
    """
    fault, last = None, End(0, START)
    for one in Seal.objects.of(team).order_by("first"):
        fault = fault or _fault(one, last)
        if notes is not None:
            fault = fault or _fault_in_file(one, team, notes)
        last = End(one.last, one.last_hash)
    return last, fault


def _filed(team: Team, start: End, last: int) -> Seal:
    """Write the entries' file and the seal beside it."""
    folder().mkdir(mode=0o700, exist_ok=True, parents=True)
    path = folder() / f"{team.slug}-{start.last + 1}-{last}.jsonl"
    part, hashed, last_hash = path.with_suffix(".part"), hashlib.sha256(), START
    with private(part) as file:
        for row in rows.between(team, start.last + 1, last):
            line = row.line().encode()
            file.write(line)
            hashed.update(line)
            last_hash = row.hash
        _settle(file)
    part.replace(path)
    made = Seal(
        team=team, first=start.last + 1, last=last, prev_hash=start.last_hash, last_hash=last_hash,
        sha256=hashed.hexdigest(), file=path.name, at=timezone.now(),
    )  # fmt: skip
    note = signed(_fields(made))
    made.key_id, made.signature = note["key"], note["signature"]
    with private(path.with_suffix(".seal.json")) as file:
        file.write(json.dumps(note, indent=2).encode() + b"\n")
        _settle(file)
    entry_of_folder = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(entry_of_folder)
    finally:
        os.close(entry_of_folder)
    return made


def _settle(file: Any) -> None:
    file.flush()
    os.fsync(file.fileno())


def _fields(one: Seal) -> dict[str, Any]:
    """What is signed."""
    names = ("team_id", "first", "last", "prev_hash", "last_hash", "sha256", "file")
    fields = {name: getattr(one, name) for name in names}
    return fields | {"count": one.last - one.first + 1, "at": one.at.isoformat()}


def _fault(one: Seal, before: End) -> Fault | None:
    if (one.first, one.prev_hash) != (before.last + 1, before.last_hash):
        return Fault(before.last + 1, f"is in no seal: the next one starts with #{one.first}")
    words = flaw(_fields(one) | {"key": one.key_id, "signature": one.signature})
    return Fault(one.first, f"is not vouched for: its seal {words}") if words else None


def _fault_in_file(one: Seal, team: Team, notes: Mapping[int, list[Checkpoint]]) -> Fault | None:
    """Walk the file if it is there: it is the chain's beginning."""
    from portal.audit.verify import contradicted

    path = folder() / one.file
    if not path.is_file():
        return contradicted(notes.get(one.last, ()), one.last_hash, one.first - 1)
    hashed, expected, previous, good = hashlib.sha256(), one.first, one.prev_hash, one.first - 1
    with path.open("rb") as file:
        for line in file:
            hashed.update(line)
            try:
                row = rows.parsed(line.decode(), team)
            except (ValueError, KeyError, TypeError):
                return Fault(expected, f"cannot be read in {one.file}")
            if (row.number, row.prev_hash, row.hash) != (expected, previous, row.digest()):
                return Fault(expected, f"is not what was sealed in {one.file}")
            if fault := contradicted(notes.get(row.number, ()), row.hash, good):
                return fault
            good = row.number if row.number in notes else good
            expected, previous = expected + 1, row.hash
    if (expected - 1, previous, hashed.hexdigest()) != (one.last, one.last_hash, one.sha256):
        return Fault(min(expected, one.last), f"is not what was sealed in {one.file}")
    return None
