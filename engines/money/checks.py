"""Once a day each engine's paid time is compared with the ledger: hours that moved without an entry are shown.

So is what was not compared, and why: silence about an engine is never a word for it.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum, TextChoices

from engines.enums import MONEY, OPEN
from engines.models import Engine, Operation
from engines.money import amounts
from engines.money.models import DayCheck, LedgerEntry
from engines.snapshots import seen_at
from portal.accounts.models import Team

FRESH = timedelta(minutes=5)  # of a reading that a check may rest on
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
LATEST = timedelta(days=31)  # after an engine's end, for its last check
ENDED = ("stopped", "deleted")


class Gap(TextChoices):
    """Why an engine is not compared today, or not yet."""

    NO_END = "no_end", "no paid end reported"
    UNREAD = "unread", "not read"
    OPEN = "open", "a purchase is open"
    SOON = "soon", "waits for the next reading"


def check_all(now: datetime) -> int:
    """Check every cloud engine that was not checked today, and return how many were. Safe to call at any time.

    An engine that has ended is checked once more, by its last reading. One that cannot be checked waits for the next
    call: see Gap.
    """
    rows = list(unchecked(Engine.objects.all(), now).select_related("connection", "team"))
    # Asked after the engines were read: a purchase that begins later is in none of those readings.
    busy = _bought_for(Operation.objects.all())
    return sum(_check(engine, now) for engine in rows if gap(engine, busy, now) == Gap.SOON)


def unchecked(engines: QuerySet[Engine], now: datetime) -> QuerySet[Engine]:
    """Return those of which today's check is to come: cloud engines, and those that were some until yesterday."""
    checks = DayCheck.objects.filter(engine=OuterRef("pk"))
    was_checked = Exists(checks.filter(day__gte=now.date() - DAY))
    compared = Exists(checks.filter(read_at__gte=OuterRef("changed_at")))
    over = Q(status__in=ENDED) & (compared | Q(changed_at__lt=now - LATEST))
    rows = engines.exclude(Exists(checks.filter(day=now.date())))
    return rows.filter(~Q(cloud="") | was_checked).exclude(over)


def _bought_for(operations: QuerySet[Operation]) -> set[tuple[int, str]]:
    """Return team and id of each engine of which a purchase is open."""
    rows = operations.filter(verb__in=MONEY, state__in=OPEN, engine__isnull=False)
    return set(rows.values_list("team", "engine__uid"))


def gap(engine: Engine, busy: set[tuple[int, str]], now: datetime) -> Gap:
    """Say why it cannot be checked; SOON if nothing is known to be in the way."""
    if amounts.end(engine.wire.get("instance")) is None:
        return Gap.NO_END
    if (engine.team_id, engine.uid) in busy:
        return Gap.OPEN
    # Of one that is gone there is no other reading than the last.
    if engine.status != "deleted" and now - read_at(engine) > FRESH:
        return Gap.UNREAD
    return Gap.SOON


def read_at(engine: Engine) -> datetime:
    return engine.observed_at if engine.status == "deleted" else seen_at(engine, engine.connection)


def _check(engine: Engine, now: datetime) -> bool:
    read, is_gone = read_at(engine), engine.status == "deleted"
    booked = LedgerEntry.objects.of(engine.team).filter(engine_uid=engine.uid, sent_at__lte=read)
    if not is_gone and booked.filter(at__gt=read).exists():
        return False  # read while a purchase was under way: before or after it, nobody knows
    begin, since = _start(engine, booked)
    end = amounts.end(engine.wire.get("instance"))
    assert end is not None  # see gap
    hours = moved = Decimal(0)
    if begin is not None:
        between = booked.filter(sent_at__gt=since)
        hours, entries = between.aggregate(sum=Sum("hours", default=hours), count=Count("pk")).values()
        if is_gone:  # an answer after its last reading is one too
            end = max([end, *(after for after in between.values_list("after", flat=True) if after)])
        moved = _moved(end - begin, hours, entries)
    facts = {"team": engine.team, "read_at": read, "begin": begin, "end": end}
    made = DayCheck.objects.get_or_create(
        engine=engine, day=now.date(), defaults={**facts, "ledger_hours": hours, "moved_hours": moved}
    )
    return made[1]


def _start(engine: Engine, booked: QuerySet[LedgerEntry]) -> tuple[datetime | None, datetime | None]:
    """Return what its end is compared with, and since when the ledger counts: as of the check before.

    At the first check, as of the first entry of the ledger that says how the purchase has left it. (None, None) if
    there is neither.
    """
    if last := DayCheck.objects.of(engine.team).filter(engine=engine).order_by("-day").first():
        return last.end, last.read_at
    first = booked.filter(after__isnull=False).order_by("sent_at", "pk").first()
    return (first.after, first.sent_at) if first else (None, None)


def _moved(by: timedelta, hours: Decimal, entries: int) -> Decimal:
    """Return the hours that it moved by: those of the ledger, if no entry is further off than is let pass."""
    if abs(by - float(hours) * HOUR) <= amounts.TOLERANCE * max(entries, 1):
        return hours
    return Decimal(by / HOUR).quantize(Decimal("0.01"))


@dataclass
class Coverage:
    """Of how many cloud engines today's check says something, and of which it does not."""

    compared: int
    unexplained: int  # of those
    first: list[Engine]  # read for the first time: compared with nothing
    gaps: dict[Gap, list[tuple[Engine, datetime]]]  # with the time of the last reading

    @property
    def left_out(self) -> int:
        return len(self.first) + sum(len(engines) for engines in self.gaps.values())

    @property
    def total(self) -> int:
        return self.compared + self.left_out


def coverage(team: Team, now: datetime) -> Coverage:
    """Say what today's check covers so far."""
    today = DayCheck.objects.of(team).filter(day=now.date())
    compared = today.filter(begin__isnull=False)
    first = today.filter(begin__isnull=True).select_related("engine").order_by("engine__name")
    rows = unchecked(Engine.objects.of(team), now).select_related("connection").order_by("name")
    return Coverage(
        compared.count(),
        compared.exclude(moved_hours=F("ledger_hours")).count(),
        [check.engine for check in first],
        _gaps(rows, _bought_for(Operation.objects.of(team)), now),
    )


def _gaps(
    engines: Iterable[Engine], busy: set[tuple[int, str]], now: datetime
) -> dict[Gap, list[tuple[Engine, datetime]]]:
    found: dict[Gap, list[tuple[Engine, datetime]]] = defaultdict(list)
    for engine in engines:
        why = gap(engine, busy, now)
        # What ended without a paid end never gets one: a day of saying so is enough.
        if why != Gap.NO_END or engine.status not in ENDED or now - engine.changed_at < DAY:
            found[why].append((engine, read_at(engine)))
    return {why: found[why] for why in Gap if found[why]}
