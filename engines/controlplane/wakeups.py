"""Who waits in this process for news from the database: one socket per engine, and the dispatcher.

A wake-up only saves time. It may be lost, come twice or reach a process that has nothing to do with it: whoever
waits also looks by itself every few seconds. Another process is reached by that look; a Redis channel that calls
`ring` here would make it quicker and change nothing else.
"""

import asyncio
import threading
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager

from django.db import transaction

from engines.controlplane.models import DATABASE

DISPATCHER = "dispatcher"

_lock = threading.Lock()
_bells: dict[str, set[tuple[asyncio.AbstractEventLoop, asyncio.Event]]] = defaultdict(set)


@contextmanager
def listening(name: str) -> Iterator[asyncio.Event]:
    """Give an event that is set at every `wake(name)`; the listener clears it before it looks."""
    bell = (asyncio.get_running_loop(), asyncio.Event())
    with _lock:
        _bells[name].add(bell)
    try:
        yield bell[1]
    finally:
        with _lock:
            _bells[name].discard(bell)
            if not _bells[name]:
                del _bells[name]


def wake(*names: str) -> None:
    """Ring once the transaction is committed. From any thread."""
    transaction.on_commit(lambda: ring(*names), using=DATABASE)


def ring(*names: str) -> None:
    with _lock:
        bells = [bell for name in names for bell in _bells.get(name, ())]
    for loop, event in bells:
        if not loop.is_closed():
            loop.call_soon_threadsafe(event.set)
