"""Prices, hours and deadlines, exactly: whole microcents (1 dollar is 100,000,000) and decimal hours, never floats."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import ROUND_CEILING, Decimal, InvalidOperation

from engines.models import Engine
from engines.wire import moment
from portal.templatetags.portal_ui import dollars

__all__ = [
    "PaidTime",
    "after",
    "cost",
    "dollars",
    "end",
    "hours_of",
    "hours_until",
    "near",
    "paid_time",
    "price_of",
    "read",
    "run_cost",
    "unsellable",
]

MICROCENTS_PER_CENT = 1_000_000
MICROCENTS_PER_DOLLAR = 100 * MICROCENTS_PER_CENT
STEP = Decimal("0.01")  # hours: 36 s
LEAST = Decimal("0.25")  # well above TOLERANCE: "unchanged" and "extended" must not look alike
MOST = Decimal(24 * 365)
TOLERANCE = timedelta(seconds=120)  # between the deadline that was asked for and the one that the API reports

OVER = ("stopping", "stopped", "deleted")


@dataclass(frozen=True)
class PaidTime:
    """What a reading says of an engine's cloud machine: until when it is paid, and the price in cents an hour."""

    threshold: datetime
    price: int


def paid_time(engine: Engine) -> PaidTime | None:
    """Return what can be extended; None for a self-hosted engine, and where deadline or price is missing."""
    return read(engine.wire.get("instance"))


def read(instance: object) -> PaidTime | None:
    """Read the contract's `instance`, whatever an API may have put there."""
    threshold, price = end(instance), price_of(instance)
    return None if threshold is None or price is None else PaidTime(threshold, price)


def end(instance: object) -> datetime | None:
    """Return until when it is paid."""
    found = instance.get("auto_delete") if isinstance(instance, dict) else None
    return moment(found.get("date_threshold")) if isinstance(found, dict) else None


def price_of(instance: object) -> int | None:
    """Return the price in cents an hour."""
    price = instance.get("hourly_price") if isinstance(instance, dict) else None
    if not isinstance(price, int) or isinstance(price, bool) or not 0 < price < 10**9:
        return None
    return price


def unsellable(engine: Engine, now: Callable[[], datetime]) -> str:
    """Say why no time can be bought for the engine; "" if some can."""
    instance = engine.wire.get("instance")
    ends = end(instance)
    if not instance:
        return "This engine has no cloud machine: there is no paid time to extend."
    if ends is None:
        return "The API reports no end of its paid time: nothing can be bought."
    if price_of(instance) is None:
        return "The API reports no price of its machine: nothing can be bought."
    if engine.status in OVER:
        return f"The engine is {engine.status}: its paid time cannot be extended."
    if ends <= now():
        return "Its paid time is over."
    return ""


def run_cost(engine: Engine, now: datetime) -> int | None:
    """Return what its machine cost by its hourly price, in microcents: until its paid time ended, or it stopped.

    An estimate, in whole cents. None where no price is reported.
    """
    instance = engine.wire.get("instance")
    price, ends = price_of(instance), end(instance)
    if price is None:
        return None
    stopped = [engine.changed_at] if engine.status in ("stopped", "deleted") else []
    until = min([now, *stopped, *([ends] if ends else [])])
    ran = Decimal(max(until - engine.created_at, timedelta(0)) // timedelta(seconds=1)) / 3600
    return round(price * ran) * MICROCENTS_PER_CENT


def cost(price: int, hours: Decimal) -> int:
    """Return what so many hours cost, in microcents, rounded up. `price` is in cents an hour."""
    return int((price * MICROCENTS_PER_CENT * hours).to_integral_value(ROUND_CEILING))


def hours_until(target: datetime, threshold: datetime) -> Decimal:
    """Return the hours that carry the threshold to the target, rounded up to STEP; 0 or less if it is there."""
    seconds = (target - threshold) // timedelta(microseconds=1)
    return (Decimal(seconds) / 3_600_000_000).quantize(STEP, ROUND_CEILING)


def after(threshold: datetime, hours: Decimal) -> datetime:
    return threshold + timedelta(microseconds=int(hours * 3_600_000_000))


def hours_of(text: str) -> Decimal:
    """Read what a person typed. Raises ValueError, with words for them."""
    try:
        found = Decimal(text.strip())
    except InvalidOperation:
        raise ValueError("Enter hours as a number with a point, such as 2.5.") from None
    if not found.is_finite() or not LEAST <= found <= MOST:
        raise ValueError(f"Enter between {LEAST} and {MOST} hours.")
    if found != found.quantize(STEP):
        raise ValueError("Enter hours with at most two decimals.")
    return found.quantize(STEP)


def near(one: datetime, other: datetime, tolerance: timedelta = TOLERANCE) -> bool:
    return abs(one - other) <= tolerance
