"""How much one key may ask in a minute, so that no caller can starve the others. Polling is meant to fit easily.

Whoever has no key, or one that is not valid, is counted by address.
"""

import logging
import time
from dataclasses import dataclass
from functools import cache
from ipaddress import ip_address, ip_network

from django.conf import settings
from limits import RateLimitItem, parse
from limits.errors import StorageError
from limits.storage import RedisStorage, Storage
from limits.strategies import FixedWindowRateLimiter

from engines.controlplane.problems import Problem
from portal.counting import Memory

log = logging.getLogger(__name__)

RUN_PATHS = ("/run", "/apps/run")
READING_POSTS = ("/list", "/resources")


@dataclass(frozen=True)
class Allowance:
    """What is left for this key, as the answer's headers say."""

    remaining: int
    reset: int  # epoch seconds


def kind_of(method: str, path: str) -> str:
    """Return which limit a request falls under: run, write or read."""
    if path in RUN_PATHS:
        return "run"
    return "read" if method in ("GET", "HEAD", "OPTIONS") or path.endswith(READING_POSTS) else "write"


def take(caller: str, kind: str) -> Allowance:
    """Count one request. Raises Problem 429 with `retry_after` when the minute is used up."""
    limit = parse(settings.API_RATES[kind])
    try:
        return _take(_limiter(settings.API_RATES_STORE), limit, kind, caller)
    except StorageError as error:
        # Counted here alone then: a limit that is too generous beats an API that is away.
        log.warning("the rate limits' store is away: %s", error)
        return _take(_limiter("memory://"), limit, kind, caller)


def take_anonymous(address: str) -> Allowance:
    """Count one request that needs no key. Raises Problem 429."""
    return take(_neighbourhood(address), "read")


def take_failure(address: str) -> None:
    """Count one request without a valid key. Raises Problem 429. "" is not counted."""
    if address:
        take(_neighbourhood(address), "failed")


def _neighbourhood(address: str) -> str:
    """Return what one caller has: an IPv4 address, or a whole /64 of IPv6."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    return str(ip_network((found, 64), strict=False)) if found.version == 6 else address


def _take(limiter: FixedWindowRateLimiter, limit: RateLimitItem, kind: str, caller: str) -> Allowance:
    fits = limiter.hit(limit, kind, caller)
    window = limiter.get_window_stats(limit, kind, caller)
    reset = max(1, round(window.reset_time - time.time()))
    if not fits:
        raise Problem(
            429,
            "rate_limited",
            f"You may send {limit.amount} such requests in {limit.get_expiry()} s. Ask again in {reset} s.",
            retry_after=reset,
        )
    return Allowance(remaining=window.remaining, reset=round(window.reset_time))


@cache
def _limiter(store: str) -> FixedWindowRateLimiter:
    return FixedWindowRateLimiter(_storage(store))


def _storage(store: str) -> Storage:
    if store == "memory://":
        return Memory()
    # `unix://` is redis-py's spelling of what `limits` calls redis+unix.
    url = store.replace("unix://", "redis+unix://", 1) if store.startswith("unix://") else store
    return RedisStorage(url, wrap_exceptions=True, socket_timeout=1, socket_connect_timeout=1)
