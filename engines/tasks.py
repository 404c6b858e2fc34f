"""Celery: thin. A message names a row that may be due; losing it, or getting it twice, changes nothing."""

import itertools
import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import timedelta
from typing import Any

from celery import shared_task
from celery.signals import worker_ready, worker_shutting_down
from django.db import close_old_connections, connection

from engines.models import Automation
from portal import clock
from portal.logs import on_behalf_of

log = logging.getLogger(__name__)

TICK_SECONDS = 1.0
THREADS = 4
SEEN_EVERY = 15  # ticks
CHECKED_EVERY = 600  # ticks
stopping = threading.Event()


@shared_task(name="engines.wake")
def wake(operation_id: str) -> None:
    """Send the operation now rather than at the next sweep."""
    from engines.operations.send import send

    send(operation_id, clock.now())


@shared_task(name="engines.release")
def release(operation_id: str) -> None:
    """Let what is queued go now rather than at the next sweep."""
    from engines.operations.queue import release as let_go

    let_go(operation_id, clock.now())


@shared_task(name="engines.wake_batch")
def wake_batch(batch_id: str) -> None:
    """Send what is due of the batch now rather than at the next sweep."""
    from engines.operations.together import send_batch

    send_batch(uuid.UUID(batch_id), clock.now())


@shared_task(name="engines.refresh")
def refresh(connection_id: int) -> None:
    """Read the connection's fleet if that is due."""
    from engines.snapshots import refresh as read

    read(connection_id, clock.now())


@shared_task(name="engines.sweep")
def sweep() -> None:
    """Do all due work, one job after the other."""
    from engines.operations.sweep import due

    for job in due(clock.now()):
        _run(job)


@shared_task(name="engines.check_cloud_time")
def check_cloud_time() -> None:
    """Compare paid time with the ledger, once a day for each engine: most calls find nothing to do."""
    from engines.money.checks import check_all

    check_all(clock.now())


@worker_ready.connect
def start_ticking(**_: Any) -> None:
    """Sweep from a thread of the worker too: neither beat nor a working broker is needed for due work to be done."""
    stopping.clear()
    threading.Thread(target=_tick, name="sweep", daemon=True).start()


@worker_shutting_down.connect
def stop_ticking(**_: Any) -> None:
    stopping.set()


def _tick() -> None:
    under_way: set[Future[None]] = set()
    with ThreadPoolExecutor(THREADS, thread_name_prefix="sweep") as pool:
        for tick in itertools.count():
            try:
                if tick % SEEN_EVERY == 0:
                    _seen()
                if tick % CHECKED_EVERY == 0:
                    under_way.add(pool.submit(_run, check_cloud_time))
                under_way = {job for job in under_way if not job.done()}
                # What does not fit now stays due: one API that hangs must not pile up work behind it.
                under_way |= {pool.submit(_run, job) for job in itertools.islice(_due(), THREADS - len(under_way))}
            except Exception:  # the loop outlives whatever one round meets, the database's absence included
                log.exception("a sweep failed; the next one follows")
            finally:
                close_old_connections()
            if stopping.wait(TICK_SECONDS):
                return


def _due() -> Iterator[Callable[[], None]]:
    from engines.operations.sweep import due

    return due(clock.now())


def _seen() -> None:
    """Say that automation runs: the page shows since when it does not."""
    at = clock.now()
    Automation.objects.update_or_create(worker=f"{socket.gethostname()}:{os.getpid()}", defaults={"seen_at": at})
    Automation.objects.filter(seen_at__lt=at - timedelta(days=1)).delete()


def _run(job: Callable[[], None]) -> None:
    try:
        with on_behalf_of("sweep"):
            job()
    except Exception:  # one bad engine does not stop the others
        log.exception("a job of the sweep failed")
    finally:
        if threading.current_thread().name.startswith("sweep"):
            connection.close()
