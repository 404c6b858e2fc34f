"""The way from a coroutine to the database: one function, in one of a few threads, in its own transaction."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from asgiref.sync import sync_to_async
from django.db import connections

from engines.controlplane.models import DATABASE

P = ParamSpec("P")
T = TypeVar("T")

# A few, so that one that waits for a lock does not hold up every other engine.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sockets")
_requests = ThreadPoolExecutor(max_workers=4, thread_name_prefix="requests")


async def on_rows(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread and return what it returns. Cancelled, it still runs to its end."""
    return await sync_to_async(_tidy, thread_sensitive=False, executor=_threads)(function, *args, **kwargs)


async def for_caller(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as `on_rows`, in threads of their own: many callers at once must not hold up the engines' frames."""
    return await sync_to_async(_tidy, thread_sensitive=False, executor=_requests)(function, *args, **kwargs)


def _tidy(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    finally:
        connection = connections[DATABASE]
        # A pool wants its connection back. A SQLite file is kept open: closing the last one writes the whole log.
        if connection.vendor != "sqlite" and not connection.in_atomic_block:
            connection.close()
