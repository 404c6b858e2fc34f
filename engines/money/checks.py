"""Once a day each engine's paid time is compared with the ledger: hours that moved without an entry are shown."""

from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Sum

from engines.enums import OPEN
from engines.models import Engine, Operation
from engines.money import amounts
from engines.money.models import DayCheck, LedgerEntry
from engines.snapshots import seen_at

FRESH = timedelta(minutes=5)  # of a reading that a check may rest on
HOUR = timedelta(hours=1)


def check_all(now: datetime) -> int:
    """Check every cloud engine that was not checked today, and return how many were. Safe to call at any time.

    An engine whose purchase is open, or that was not read for a while, waits for the next call.
    """
    done = set(DayCheck.objects.filter(day=now.date()).values_list("engine_id", flat=True))
    rows = Engine.objects.exclude(cloud="").exclude(pk__in=done).exclude(status="deleted")
    return sum(_check(engine, now) for engine in rows.select_related("connection", "team"))


def _check(engine: Engine, now: datetime) -> bool:
    paid, read_at = amounts.paid_time(engine), seen_at(engine, engine.connection)
    if paid is None or now - read_at > FRESH:
        return False
    if Operation.objects.of(engine.team).filter(engine__uid=engine.uid, verb="extend", state__in=OPEN).exists():
        return False
    last = DayCheck.objects.of(engine.team).filter(engine=engine).order_by("-day").first()
    booked = LedgerEntry.objects.of(engine.team).filter(engine_uid=engine.uid)
    if booked.filter(sent_at__lte=read_at, at__gt=read_at).exists():
        return False  # read while a purchase was under way: before or after it, nobody knows
    hours = moved = Decimal(0)
    if last is not None:
        between = booked.filter(sent_at__gt=last.read_at, sent_at__lte=read_at)
        hours, entries = between.aggregate(sum=Sum("hours", default=hours), count=Count("pk")).values()
        moved = _moved(paid.threshold - last.end, hours, entries)
    facts = {"team": engine.team, "read_at": read_at, "begin": last.end if last else None, "end": paid.threshold}
    made = DayCheck.objects.get_or_create(
        engine=engine, day=now.date(), defaults={**facts, "ledger_hours": hours, "moved_hours": moved}
    )
    return made[1]


def _moved(by: timedelta, hours: Decimal, entries: int) -> Decimal:
    """Return the hours that it moved by: those of the ledger, if no entry is further off than is let pass."""
    if abs(by - float(hours) * HOUR) <= amounts.TOLERANCE * max(entries, 1):
        return hours
    return Decimal(by / HOUR).quantize(Decimal("0.01"))
