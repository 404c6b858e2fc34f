"""Who waits in this process for news from the database: one socket per engine, and the dispatcher.

A wake-up only saves time. It may be lost, come twice or reach a process that has nothing to do with it: whoever
waits also looks by itself every few seconds. `relay` carries them to other processes.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from django.db import transaction

from engines.controlplane.models import DATABASE

DISPATCHER = "dispatcher"
CLOUD = "cloud"

_lock = threading.Lock()
_bells: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)
_told: list[tuple[asyncio.AbstractEventLoop, Callable[[Sequence[str]], None]]] = []


@contextmanager
def listening(*names: str) -> Iterator[asyncio.Event]:
    """Give an event that is set at every `wake` of these names; the listener clears it before it looks."""
    bell = (asyncio.get_running_loop(), asyncio.Event())
    with _lock:
        for name in names:
            _bells[name].add(bell)
    try:
        yield bell[1]
    finally:
        with _lock:
            for name in names:
                _bells[name].discard(bell)
                if not _bells[name]:
                    del _bells[name]


@contextmanager
def telling(listener: Callable[[Sequence[str]], None]) -> Iterator[None]:
    """Call `listener`, on this loop, with the names that are woken in this process."""
    told = (asyncio.get_running_loop(), listener)
    _told.append(told)
    try:
        yield
    finally:
        _told.remove(told)


def seen(*ids: str | None) -> tuple[str, ...]:
    """Return the names by which streams listen for changes of these engines, tasks and teams."""
    return tuple(f"see {each}" for each in ids if each)


def wake(*names: str) -> None:
    """Ring once the transaction is committed, here and in other processes. From any thread."""
    transaction.on_commit(lambda: _everywhere(names), using=DATABASE)


def _everywhere(names: tuple[str, ...]) -> None:
    ring(*names)
    for loop, listener in list(_told):
        if not loop.is_closed():
            loop.call_soon_threadsafe(listener, names)


def ring(*names: str) -> None:
    """Ring in this process, now."""
    with _lock:
        bells = {bell for name in names for bell in _bells.get(name, ())}
    for loop, event in bells:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)
