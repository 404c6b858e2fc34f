"""The way from a coroutine to the database: one function, in one of a few threads, in its own transaction."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextvars import copy_context
from functools import partial
from typing import ParamSpec, TypeVar

from django.db import connections

from engines.controlplane.models import DATABASE

P = ParamSpec("P")
T = TypeVar("T")

# A few, so that one that waits for a lock does not hold up every other engine.
_threads = ThreadPoolExecutor(max_workers=4, thread_name_prefix="sockets")
_requests = ThreadPoolExecutor(max_workers=4, thread_name_prefix="requests")


async def on_rows(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run `function` in a thread and return what it returns. Cancelled, it still runs to its end."""
    return await _in(_threads, function, *args, **kwargs)


async def for_caller(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as `on_rows`, in threads of their own: many callers at once must not hold up the engines' frames."""
    return await _in(_requests, function, *args, **kwargs)


async def _in(threads: ThreadPoolExecutor, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    # asgiref's sync_to_async does more, which nothing here needs, and takes a tenth of a dispatch for it.
    call = partial(copy_context().run, partial(_tidy, function, *args, **kwargs))
    return await asyncio.get_running_loop().run_in_executor(threads, call)


async def aside(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Do as `on_rows` for what may hang: in a thread of its own, which the process does not wait for when it ends."""
    done: Future[T] = Future()
    done.set_running_or_notify_cancel()

    def run() -> None:
        try:
            done.set_result(_tidy(function, *args, **kwargs))
        except BaseException as error:
            done.set_exception(error)
        finally:
            connections[DATABASE].close()  # this thread does not come back for it

    threading.Thread(target=run, name="aside", daemon=True).start()
    return await asyncio.wrap_future(done)


def _tidy(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    try:
        return function(*args, **kwargs)
    finally:
        connection = connections[DATABASE]
        # A pool wants its connection back. A SQLite file is kept open: closing the last one writes the whole log.
        if connection.vendor != "sqlite" and not connection.in_atomic_block:
            connection.close()
