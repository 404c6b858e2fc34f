"""Until when: the presets of the dialog, in the viewer's time zone."""

import zoneinfo
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo

from django.http import HttpRequest

from engines.money import amounts
from engines.money.amounts import PaidTime
from engines.money.quote import Quote

FRIDAY = 4
CLOSING = 18  # o'clock
LABELS = {"tonight": "Tonight", "friday": "Friday 18:00", "day": "+24 h"}


@dataclass(frozen=True)
class Choice:
    """One preset, and what it would buy; `why_not` where there is nothing to buy."""

    name: str
    label: str
    quote: Quote | None
    why_not: str = ""

    @property
    def cost(self) -> str:
        return amounts.dollars(self.quote.cost) if self.quote else ""


def zone_of(request: HttpRequest) -> tzinfo:
    """Return the time zone that the browser said it is in, by a cookie that portal.js sets; UTC if it said none."""
    try:
        return zoneinfo.ZoneInfo(request.COOKIES.get("tz", "UTC"))
    except (ValueError, OSError, zoneinfo.ZoneInfoNotFoundError):
        return zoneinfo.ZoneInfo("UTC")


def choices(paid: PaidTime, now: datetime, zone: tzinfo) -> list[Choice]:
    return [_choice(name, paid, now, zone) for name in LABELS]


def target(name: str, paid: PaidTime, now: datetime, zone: tzinfo) -> datetime:
    """Return until when a preset runs. Tonight ends at midnight; +24 h counts from the end of the paid time."""
    local = now.astimezone(zone)
    if name == "day":
        return paid.threshold + timedelta(hours=24)
    if name == "tonight":
        return _at(local + timedelta(days=1), 0)
    friday = _at(local + timedelta(days=(FRIDAY - local.weekday()) % 7), CLOSING)
    return friday if friday > local else _at(friday + timedelta(days=7), CLOSING)


def _at(day: datetime, hour: int) -> datetime:
    """Return that hour of the day, by the wall clock: a change to summer time in between moves nothing."""
    return day.replace(hour=hour, minute=0, second=0, microsecond=0, fold=0)


def _choice(name: str, paid: PaidTime, now: datetime, zone: tzinfo) -> Choice:
    try:
        return Choice(name, LABELS[name], Quote.until(target(name, paid, now, zone), paid))
    except ValueError as error:
        return Choice(name, LABELS[name], None, str(error))
