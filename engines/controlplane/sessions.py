"""One connection of an engine, whose hello was reconciled.

Its id on the engine's row is the fence: whatever a connection says after another took its place changes nothing.
"""

import os
import socket
import uuid
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.conf import settings
from django.db.models import QuerySet
from django.utils.timezone import now

from engines import wire
from engines.controlplane.models import Engine, Task

LONG = ("config", "system_info")  # of an engine's row, and of no interest for what its socket says
CLOSE_RESTART = 1012  # come again at once
HOST = socket.gethostname()  # as it was at the start: what this process holds must not get another name under it


class Over(Exception):
    """This connection must end, with `code` and a reason of at most 123 bytes."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code
        self.reason = reason.encode()[:123].decode(errors="ignore")


@dataclass
class Session:
    """One connection, and what was sent on it: a fact of the connection, so it lives and dies with it."""

    engine_id: str
    key_id: str
    address: str = ""  # where it comes from, for the log
    id: uuid.UUID = field(default_factory=uuid.uuid4)
    boot_id: str = ""
    sent: set[tuple[str, int]] = field(default_factory=set)  # tasks, with the number of the attempt
    cancelled: set[tuple[str, int]] = field(default_factory=set)
    drain_sent: int = 0
    too_early: bool = False  # it reported drained while we still had work for it
    answered: int = 0  # the drain whose report was answered
    update_sent: int = 0
    mode: str = ""  # the last one that was written down
    warm: dict[str, list[str]] | None = None  # so, too
    heard: bool = False  # since the last look, which writes it down
    reading: object = None  # what the last look found
    handed: deque[tuple[tuple[str, int], wire.Frame]] = field(default_factory=deque)

    def take_handed(self) -> list[wire.Frame]:
        """Return the tasks that were handed over and were neither sent nor taken back meanwhile, as sent."""
        out = []
        while self.handed:
            attempt, given = self.handed.popleft()
            if attempt not in self.sent and attempt not in self.cancelled:
                self.sent.add(attempt)
                out.append(given)
        return out


_held: dict[uuid.UUID, Session] = {}


@contextmanager
def held(session: Session) -> Iterator[None]:
    """Have the session among those of this process for as long as its socket is open."""
    _held[session.id] = session
    try:
        yield
    finally:
        del _held[session.id]


def all_held() -> list[Session]:
    """Return the sessions whose sockets this process has."""
    return list(_held.values())


def find_held(session_id: uuid.UUID | None) -> Session | None:
    return _held.get(session_id) if session_id else None


def instance() -> str:
    """The name of this process in `Engine.held_by`: host, port, process."""
    return f"{_address()}:{os.getpid()}"


def _address() -> str:
    return f"{HOST}:{settings.API_PORT}"


def forget_own() -> int:
    """At start: let go of what earlier processes at this address left. Others that share it are still alive."""
    held = Engine.objects.filter(session__isnull=False, held_by__startswith=f"{_address()}:")
    dead = [name for name in set(held.values_list("held_by", flat=True)) if name == instance() or not _alive(name)]
    return Engine.objects.filter(session__isnull=False, held_by__in=dead).update(
        session=None, held_by="", updated_at=now()
    )


def _alive(name: str) -> bool:
    try:
        os.kill(int(name.rpartition(":")[2]), 0)
    except (ValueError, OverflowError, ProcessLookupError):
        return False
    except PermissionError:
        return True
    return True


def forget_silent() -> int:
    """Let go of engines whose process, ours or another's, has not heard them for far too long."""
    limit = now() - timedelta(seconds=2 * wire.DEAD_AFTER_SECONDS)
    left = Engine.objects.filter(session__isnull=False, heartbeat_at__lt=limit)
    return left.update(session=None, held_by="", updated_at=now())


def end(session: Session) -> None:
    """The socket is closed. Counts only if it is still the registered one; tasks are left as they are."""
    rows = Engine.objects.filter(pk=session.engine_id, session=session.id)
    rows.update(session=None, held_by="", updated_at=now())


def locked(session: Session) -> Engine:
    """Return the engine's row, locked. Raises Over if another connection or process took this one's place."""
    engine = Engine.objects.defer(*LONG).select_for_update(no_key=True).get(pk=session.engine_id)
    fence(engine, session)
    return engine


def fence(engine: Engine, session: Session) -> None:
    newer_process = bool(engine.boot_id) and engine.boot_id != session.boot_id
    if newer_process or engine.session not in (None, session.id):
        raise Over(wire.CLOSE_REPLACED, "another process has taken this engine's place")
    if engine.session is None:
        raise Over(CLOSE_RESTART, "this connection is no longer registered; connect again")


def locked_tasks() -> QuerySet[Task]:
    # Always after the engine's row, so that two transactions cannot wait for each other.
    rows = Task.objects.defer("input", "output", *(f"engine__{name}" for name in LONG))
    return rows.select_for_update(of=("self",)).select_related("engine").order_by("id")


def frame(kind: str, data: Any) -> wire.Frame:
    return {"type": kind, "data": data}
