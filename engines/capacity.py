"""How much of a pool may be away at once. A pool is the engines of one connection with the same GPU."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass

from django.db.models import Count, Exists, OuterRef, Q, QuerySet

from engines.enums import OPEN, EngineStatus, State, Verb
from engines.models import Engine, Operation
from engines.operations.verbs import those
from portal.accounts.models import Team

PERCENT = 30  # of a pool's running engines that may go at once, unless somebody says otherwise
TAKING = those(lambda verb: verb.takes)
RETURNING = those(lambda verb: verb.gives_back)
GOING = (EngineStatus.DRAINING, EngineStatus.STOPPING, EngineStatus.RESTARTING)

Pool = tuple[int, str]  # connection, GPU


@dataclass(frozen=True)
class Room:
    """`running` engines that work or did so until what is under way now began, and how many of them are away."""

    running: int = 0
    away: int = 0

    @property
    def allowed(self) -> int:
        """How many may be away at once: none of three engines or fewer, so never the last one."""
        return self.running * PERCENT // 100

    @property
    def left(self) -> int:
        return max(0, self.allowed - self.away)


@dataclass(frozen=True)
class Breach:
    """What a batch would do to a pool."""

    pool: str
    taken: int
    running: int
    away: int = 0  # of those that are taken, the ones that went before

    @property
    def is_last(self) -> bool:
        return self.taken >= self.running

    @property
    def too_small(self) -> bool:
        """Whether the pool has so few engines that the guard lets none go, not even in turns."""
        return Room(self.running).allowed == 0

    def __str__(self) -> str:
        if self.is_last:
            return f"{self.pool}: no running engine is left, of {self.running}."
        before = f", with the {self.away} that went before" if self.away else ""
        return f"{self.pool}: {self.taken} of {self.running} running engines at once{before}."


def pool_of(engine: Engine) -> Pool:
    return engine.connection_id, engine.gpu


def rooms(team: Team) -> dict[Pool, Room]:
    """Return how things stand in each of the team's pools, operations that wait for their turn not counted."""
    sent = under_way(team).filter(engine=OuterRef("pk"))
    rows = Engine.objects.of(team).filter(
        Q(status__in=[EngineStatus.RUNNING, *GOING]) | Exists(sent.filter(verb__in=[Verb.DRAIN, *RETURNING]))
    )
    away = Count("pk", filter=~Q(status=EngineStatus.RUNNING) | Q(taken=True))
    pools = rows.annotate(taken=Exists(sent)).order_by().values("connection", "gpu").annotate(n=Count("pk"), away=away)
    return {
        (connection, gpu): Room(n, gone)
        for connection, gpu, n, gone in pools.values_list("connection", "gpu", "n", "away")
    }


def under_way(team: Team) -> QuerySet[Operation]:
    """Return the open operations that take capacity away, or did; not those that wait for their turn."""
    rows = Operation.objects.of(team).filter(state__in=OPEN, verb__in=TAKING)
    return rows.exclude(state=State.REQUESTED, next_at__isnull=True)


def takes(engine: Engine, busy: Operation | None) -> bool:
    """Say whether the pool has one engine less when this one goes: it runs, and nothing takes it away already."""
    return engine.status == EngineStatus.RUNNING and (busy is None or busy.verb not in TAKING)


def breaches(taken: Iterable[Engine], team: Team) -> list[Breach]:
    """Return the pools of which too much would be away at once. What is under way already counts as away."""
    wanted: dict[Pool, list[Engine]] = defaultdict(list)
    for engine in taken:
        wanted[pool_of(engine)].append(engine)
    found, there = [], rooms(team)
    for pool, engines in wanted.items():
        room = there.get(pool, Room())
        if len(engines) > room.left:
            name = f"{engines[0].connection.name}, {pool[1] or 'CPU only'}"
            found.append(Breach(name, len(engines) + room.away, room.running, room.away))
    return sorted(found, key=lambda breach: breach.pool)
