"""Telling open pages what changed: after the commit, best effort, bounded, and never an error for anybody.

A message names topics, it carries no data: the page reads the rows again, with its reader's own rights.
"""

import json
import logging
from functools import cache
from weakref import WeakKeyDictionary, WeakSet

import redis
from django.conf import settings
from django.db import transaction
from django.db.backends.base.base import BaseDatabaseWrapper
from redis.backoff import NoBackoff
from redis.retry import Retry

from portal.wake import breaker

log = logging.getLogger(__name__)

CHANNEL = "live:"
SOCKET_SECONDS = 0.5  # the most that a frozen broker costs, once: then the breaker is open


class Message:
    """Topics that wait for the commit of the transaction they were published in."""

    def __init__(self, team_id: int, topics: tuple[str, ...]) -> None:
        self.team_id = team_id
        self.topics = topics

    def __call__(self) -> None:
        """Send this and whatever else was published to the team in the transaction, as one message."""
        waiting = _waiting[transaction.get_connection()]
        if self not in waiting:
            return  # sent along with an earlier one
        together = [message for message in waiting if message.team_id == self.team_id]
        waiting.difference_update(together)
        _send(self.team_id, sorted({topic for message in together for topic in message.topics}))


# Weak, because Django then does the bookkeeping: it drops its only reference to a message when the savepoint or
# transaction around it is rolled back, and what was rolled back must not be sent along with what was not.
_waiting: WeakKeyDictionary[BaseDatabaseWrapper, WeakSet[Message]] = WeakKeyDictionary()


def publish(team_id: int, *topics: str) -> None:
    """Tell the team's open pages that the topics changed, once the transaction is committed. Never raises.

    Does nothing for 10 s after the broker failed: a page that hears nothing polls.
    """
    message = Message(team_id, topics)
    _waiting.setdefault(transaction.get_connection(), WeakSet()).add(message)
    transaction.on_commit(message, robust=True)


def _send(team_id: int, topics: list[str]) -> None:
    if not breaker.allows():
        return
    try:
        _broker(settings.REDIS_URL).publish(f"{CHANNEL}{team_id}", json.dumps({"topics": topics}))
    except (redis.RedisError, OSError) as error:
        breaker.trip()
        log.warning("the broker did not take a live event, pages poll: %s", error)
    else:
        breaker.reset()


@cache
def _broker(url: str) -> redis.Redis:
    """One connection a process, taken in turns."""
    pool = redis.BlockingConnectionPool.from_url(
        url,
        max_connections=1,
        timeout=SOCKET_SECONDS,
        socket_timeout=SOCKET_SECONDS,
        socket_connect_timeout=SOCKET_SECONDS,
        retry=Retry(NoBackoff(), 0),
    )
    return redis.Redis(connection_pool=pool)
