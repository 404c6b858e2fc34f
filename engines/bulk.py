"""One wish for many engines: what it would do, what it must not do by accident, and one outcome for each engine."""

import hashlib
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import Count, Exists, OuterRef, Q, QuerySet, TextChoices
from django.db.models.fields.json import KT

from engines import naming
from engines.access import why_not
from engines.capacity import RETURNING, TAKING, Breach, breaches, pool_of, rooms, takes
from engines.enums import MONEY, OPEN, EngineStatus, State, Verb
from engines.models import Batch, Engine, Moment, Operation
from engines.money import amounts, many
from engines.money.amounts import PaidTime
from engines.money.many import Offer
from engines.money.models import MAY_TRY_AGAIN
from engines.naming import Names
from engines.operations import turns
from engines.operations.moves import Decider, hold, move_all
from engines.operations.request import Wish, request_all, superseded
from engines.operations.verbs import VERBS, blocker, takes_the_place_of
from engines.wire import moment
from portal.accounts.models import Team, User
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.vault.keys import current_keys
from portal.wake import wake_after_commit

SHOWN = 20  # differences that are told one by one
FAILED = (State.FAILED, State.REFUSED, State.NEEDS_RECONFIRM)


class Skip(TextChoices):
    """Why an engine is left out, in kinds."""

    OFFLINE = "offline", "Offline"
    STATE = "state", "Not in a state for it"
    BUSY = "busy", "Something is under way already"
    RIGHT = "right", "You may not"
    CAPACITY = "capacity", "Its pool would be too small"
    MONEY = "money", "Nothing to buy, or over a limit"


@dataclass
class Plan:
    """What would become of each engine that was selected."""

    verb: Verb
    will: list[Engine] = field(default_factory=list)
    wont: list[tuple[Engine, Skip, str]] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    replaced: Mapping[int, list[Operation]] = field(default_factory=dict)  # what it takes the place of, by engine
    left_out: int = 0  # selected beyond what one batch takes
    ends: Mapping[int, datetime] = field(default_factory=dict)  # until when machines are paid, where that matters
    offer: Offer | None = None  # of paid time
    names: Names | None = None  # of a rename

    @property
    def forbidden(self) -> str:
        """Why none of it can be done."""
        what = self.offer or self.names
        return what.forbidden if what else ""

    @property
    def has_turns(self) -> bool:
        """Whether these can go one after the other: what they take away comes back."""
        return self.verb in RETURNING

    @property
    def even_in_turns(self) -> list[Breach]:
        """What the guard objects to even where they go one after the other."""
        return [breach for breach in self.breaches if breach.too_small] if self.has_turns else self.breaches

    @property
    def only_small(self) -> bool:
        """Whether all that the guard objects to is how small the pools are, in turns or not."""
        return self.has_turns and self.even_in_turns == self.breaches

    @property
    def running(self) -> list[Engine]:
        """The engines it would be asked of on which tasks run."""
        return [engine for engine in self.will if engine.workers_busy]

    @property
    def tasks(self) -> int:
        """How many tasks run on the engines that it would be asked of."""
        return sum(engine.workers_busy for engine in self.will)

    @property
    def cut(self) -> list[Engine]:
        """The engines whose tasks would not be finished: those that cannot be asked to finish anything."""
        cuts = VERBS[self.verb].cuts
        return [each for each in self.running if each.status == EngineStatus.DISCONNECTED and cuts(each)]

    @property
    def marks(self) -> dict[int, str]:
        """What a person agrees to, of each engine: its key, and what it looked like."""
        if self.offer:
            return {engine.pk: self.offer.mark(engine) for engine in self.will}
        return {engine.pk: self._mark(engine) for engine in self.will}

    def _mark(self, engine: Engine) -> str:
        """Tasks come and go where they are finished first; where they may be cut, their number is agreed to.

        Paid time is agreed to, too, whether there is less of it now or more, as in the dialog of one engine.
        """
        if self.names:
            return f"{engine.status} and called {engine.name}, to be called {self.names.new.get(engine.pk)}"
        said = engine.status
        if engine.workers_busy and VERBS[self.verb].cuts(engine):
            said += f" with {engine.workers_busy} running task{'' if engine.workers_busy == 1 else 's'}"
        if ends := self.ends.get(engine.pk):
            said += f" and paid until {ends:%Y-%m-%d %H:%M:%S} UTC"
        for other in self.replaced.get(engine.pk, ()):
            said += f", with the {other.verb} that {other.requested_name} asked for"
        return said

    @property
    def fingerprint(self) -> str:
        """What a person agrees to: which engines, as they were, and what the guard objects to."""
        what = [f"{pk} {mark}" for pk, mark in sorted(self.marks.items())]
        what += [f"{breach.pool} {breach.is_last}" for breach in self.breaches]
        what += [f"approval {self.offer.needs_approval}"] if self.offer else []
        return hashlib.sha256("\n".join(what).encode()).hexdigest()[:32]

    def reasons(self) -> list[tuple[Skip, str, list[Engine]]]:
        """The engines that it would not be asked of, by why."""
        found: dict[tuple[Skip, str], list[Engine]] = defaultdict(list)
        for engine, kind, why in self.wont:
            found[kind, why].append(engine)
        order = list(Skip)
        groups = [(kind, why, engines) for (kind, why), engines in found.items()]
        return sorted(groups, key=lambda group: (order.index(group[0]), -len(group[2])))

    def differences(self, shown: dict[int, str]) -> list[str]:
        """Say how this differs from the plan whose `marks` were shown."""
        now, why = self.marks, {engine.pk: text for engine, _, text in self.wont}
        names = {engine.pk: engine.name for engine in [*self.will, *(engine for engine, _, _ in self.wont)]}
        lost = [pk for pk in shown if pk not in now]
        names |= dict(
            Engine.objects.filter(pk__in=[pk for pk in lost if pk not in names][:SHOWN]).values_list("pk", "name")
        )
        said = [f"{names.get(pk, 'An engine')}: {why.get(pk, 'It is not in the selection any more.')}" for pk in lost]
        said += [f"{names[pk]} is new in the selection." for pk in now if pk not in shown]
        said += [
            f"{names[pk]} was {mark}; it is {now[pk]} now." for pk, mark in shown.items() if now.get(pk, mark) != mark
        ]
        more = len(said) - SHOWN
        return [*said[:SHOWN], f"And {more} more."] if more > 0 else said


def plan(verb: Verb, rows: QuerySet[Engine], *, team: Team, user: User, role: str, within_guard: bool = False) -> Plan:
    """Say what would happen. `within_guard` leaves out what the guard objects to, instead of saying so."""
    rows = rows if VERBS[verb].needs_wire else rows.defer("wire")  # thousands of rows stay small
    most = VERBS[verb].most
    engines = list(rows.select_related("connection").order_by("name", "pk")[: most + 1])
    made = Plan(verb, left_out=max(0, len(engines) - most), ends=_ends(verb, rows))
    uids: set[str] = set()
    keys = {key.connection_id: key for key in current_keys(team).filter(user=user)}
    opened: dict[int, list[Operation]] = defaultdict(list)
    for each in Operation.objects.of(team).filter(state__in=OPEN).defer("progress"):
        if each.engine_id:
            opened[each.engine_id].append(each)
    for engine in engines[:most]:
        engine.team = team
        key, opened_here = keys.get(engine.connection_id), opened[engine.pk]
        if refusal := why_not(verb, engine, role=role, key=key, opened=opened_here):
            made.wont.append((engine, _kind(verb, engine, opened_here), refusal))
        elif VERBS[verb].once and engine.uid in uids:  # two connections may lead to one API
            kind = Skip.MONEY if verb in MONEY else Skip.STATE
            made.wont.append((engine, kind, "It is listed by another connection too, and asked there."))
        else:
            made.will.append(engine)
            uids.add(engine.uid)
    if verb in TAKING:
        if within_guard:
            _hold_back(made, team, opened)
        made.breaches = breaches((each for each in made.will if takes(each, _under_way(opened[each.pk]))), team)
    made.replaced = _replaced(made, opened)
    return made


def _replaced(made: Plan, opened: Mapping[int, list[Operation]]) -> dict[int, list[Operation]]:
    """Return what it takes the place of, by engine: what is queued last, as in the dialog of one engine."""
    every = {
        each.pk: [other for other in opened[each.pk] if takes_the_place_of(made.verb, other)] for each in made.will
    }
    return {pk: sorted(others, key=lambda other: other.is_queued) for pk, others in every.items() if others}


def _ends(verb: Verb, rows: QuerySet[Engine]) -> dict[int, datetime]:
    """Return until when rented machines are paid, if that matters for the verb: no more of the readings is loaded."""
    if verb in MONEY or "ends" not in VERBS[verb].matters:  # what is bought is said by its quote
        return {}
    rented = rows.exclude(cloud="").order_by()
    found = rented.values_list("pk", KT("wire__instance__auto_delete__date_threshold"))
    return {pk: at.astimezone(UTC) for pk, text in found if (at := moment(text))}


def _under_way(opened: Iterable[Operation]) -> Operation | None:
    """Return what is done to the engine now: buying time for its machine is not, nor what waits for its turn."""
    begun = (each for each in opened if each.verb != Verb.EXTEND and not (each.is_queued or each.waits_for_turn))
    return next(begun, None)


def _kind(verb: Verb, engine: Engine, opened: Iterable[Operation]) -> Skip:
    if blocker(verb, opened):
        return Skip.BUSY
    if VERBS[verb].refusal(engine):
        return Skip.OFFLINE if engine.status == EngineStatus.DISCONNECTED else Skip.STATE
    return Skip.RIGHT


def _hold_back(made: Plan, team: Team, opened: dict[int, list[Operation]]) -> None:
    """Keep only as many of each pool as the guard allows, those with the least to finish first."""
    left = {pool: room.left for pool, room in rooms(team).items()}
    keep = []
    for engine in sorted(made.will, key=lambda each: (each.workers_busy, each.name)):
        pool = pool_of(engine)
        if not takes(engine, _under_way(opened[engine.pk])):
            keep.append(engine)
        elif left.get(pool, 0) > 0:
            left[pool] -= 1
            keep.append(engine)
        else:
            why = "Left out, so that enough of its pool goes on running."
            made.wont.append((engine, Skip.CAPACITY, why))
    made.will = sorted(keep, key=lambda each: each.name)


def price(
    made: Plan, until: Callable[[PaidTime], datetime], *, team: Team, user: User, now: datetime, retry_of: Batch | None
) -> Plan:
    """Say what it costs to keep each engine until then, and leave out those for which that is not to be had."""
    earlier = {}
    if retry_of:
        rows = Operation.objects.of(team).filter(batch=retry_of)
        earlier = dict(rows.values_list("engine", "pk"))
    made.offer = many.offer(made.will, until, team=team, user=user, now=now, earlier=earlier)
    made.will = [engine for engine in made.will if engine.pk in made.offer.quotes]
    made.wont += [(engine, Skip.MONEY, why) for engine, why in made.offer.wont]
    return made


def call(made: Plan, pattern: str, *, retry_of: Batch | None) -> Plan:
    """Say what each engine would be called: by the pattern, or without one as in the batch that is tried again."""
    made.names = naming.by_pattern(made.will, pattern)
    if retry_of and not pattern:
        rows = Operation.objects.of(retry_of.team).filter(batch=retry_of)
        before = dict(rows.values_list("engine", "parameters__name"))
        made.names = naming.checked(made.will, {engine.pk: before[engine.pk] for engine in made.will})
    return made


@dataclass(frozen=True)
class Words:
    """What a person said to a plan."""

    reason: str
    deadline: timedelta
    in_turn: bool = False
    said: Mapping[str, Any] = field(default_factory=dict)  # beside that, for the verb


def start(
    made: Plan, words: Words, *, batch_id: uuid.UUID, team: Team, user: User, origin: Origin, now: datetime,
    retry_of: Batch | None = None,
) -> Batch:  # fmt: skip
    """Record the batch and an operation for each engine that it is asked of, all or nothing.

    Raises IntegrityError if there is a batch of that id: the same form was sent twice.
    """
    keys = {key.connection_id: key for key in current_keys(team).filter(user=user)}
    with transaction.atomic():
        batch = Batch.objects.create(
            id=batch_id,
            team=team,
            verb=made.verb,
            reason=words.reason,
            requested_by=user,
            requested_name=str(user)[:150],
            requested_at=now,
            patience=words.deadline,
            not_asked=[_not_asked(engine, why) for engine, _, why in made.wont],
            in_turn=words.in_turn,
            despite_guard=bool(made.even_in_turns if words.in_turn else made.breaches),
            retry_of=retry_of,
        )
        hold(superseded(made.verb, made.will))
        _record(batch, made, user, origin)
        if made.offer:
            asked = [(id_of(batch_id, engine), engine, keys[engine.connection_id]) for engine in made.will]
            lost = many.buy_all(asked, made.offer, batch=batch, user=user, origin=origin, now=now)
        else:
            earlier = (
                {row.engine_id: row for row in Operation.objects.of(team).filter(batch=retry_of)} if retry_of else {}
            )
            wishes = [
                (_wish(batch, engine, words, made.names, earlier.get(engine.pk)), engine, keys[engine.connection_id])
                for engine in made.will
            ]
            busy = request_all(wishes, batch=batch, user=user, origin=origin, now=now, in_turn=words.in_turn)
            lost = [(engine, "Something else was asked of it first.") for engine in busy]
        if lost:
            batch.not_asked += [_not_asked(engine, why) for engine, why in lost]
            Batch.objects.filter(pk=batch.pk).update(not_asked=batch.not_asked)
        turns.release(batch.pk, now)
        from engines.tasks import wake_batch

        wake_after_commit(wake_batch, str(batch.pk))
    return batch


def id_of(batch_id: uuid.UUID, engine: Engine) -> uuid.UUID:
    """Return the id of the batch's operation on the engine: the same form sent twice asks for the same."""
    return uuid.uuid5(batch_id, str(engine.pk))


def _record(batch: Batch, made: Plan, user: User, origin: Origin) -> None:
    more: dict[str, Any] = {}
    if made.offer:
        more = {"cost": amounts.dollars(made.offer.cost), "approval": made.offer.needs_approval}
    if made.names:
        more = {"pattern": made.names.pattern}
    record(
        team=batch.team,
        actor=user,
        action=f"batch.{made.verb}",
        target=batch,
        origin=origin,
        reason=batch.reason,
        asked=len(made.will),
        not_asked=len(made.wont),
        despite_guard=batch.despite_guard,
        in_turn=batch.in_turn,
        guard=[str(breach) for breach in made.breaches],
        retry_of=str(batch.retry_of_id or ""),
        **more,
    )


def _wish(batch: Batch, engine: Engine, words: Words, names: Names | None, earlier: Operation | None) -> Wish:
    said = {**words.said, "name": names.new[engine.pk]} if names else words.said
    parameters = VERBS[batch.verb].parameters(engine, said)
    return Wish(id_of(batch.pk, engine), Verb(batch.verb), words.reason, words.deadline, parameters, earlier)


def _not_asked(engine: Engine, why: str) -> dict[str, str]:
    return {"uid": engine.uid, "name": engine.name, "why": why}


def stop_the_rest(batch: Batch, *, by: Decider, now: datetime) -> int:
    """Cancel what has not been sent yet; return how many that were. What was sent goes on.

    Of a worker that is about to send one and this, whoever comes first has it.
    """
    if batch.verb in MONEY:
        return many.take_back(batch, by=by, now=now)
    rows = Operation.objects.of(batch.team).filter(batch=batch, state=State.REQUESTED)
    note = f"Stopped by {by.user} with the rest of the batch before it was sent."
    Batch.objects.of(batch.team).filter(pk=batch.pk).update(in_turn=False)
    return len(move_all(rows.select_related("team", "engine"), State.CANCELLED, now=now, by=by, note=note))


def in_vain(batch: Batch) -> QuerySet[Operation]:
    """Return what can be tried again of it: what failed, was refused, or was given up without a person's word.

    Of purchases only those for which certainly nothing was charged, and that no other try may have been charged for.
    """
    given_up = Moment.objects.filter(operation=OuterRef("pk"), state=State.CANCELLED, reason="")
    rows = Operation.objects.of(batch.team).filter(batch=batch)
    rows = rows.filter(Q(state__in=FAILED) | Q(Exists(given_up), state=State.CANCELLED))
    if batch.verb in MONEY:
        rows = rows.filter(extension__outcome__in=MAY_TRY_AGAIN, extension__retries=None)
    return rows


def failed(batch: Batch) -> QuerySet[Engine]:
    """Return the engines of which it was asked in vain."""
    return Engine.objects.of(batch.team).filter(pk__in=in_vain(batch).values("engine"))


def outcomes(batch: Batch) -> dict[str, int]:
    """Return how many operations are in each state."""
    rows = Operation.objects.of(batch.team).filter(batch=batch).values("state").annotate(n=Count("pk"))
    return {row["state"]: row["n"] for row in rows.order_by("state")}
