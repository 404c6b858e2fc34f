"""Cloud engines: what is asked of the provider, and what it says, in rows.

A provider is called outside of transactions. Before `create` and `restart`, which must not be sent twice, the row
says that they were; what shall be (an end, a deletion) is asked until the provider has agreed. Whoever moves
`next_at` first does the looking, and moves it on before each further call, so several processes may run this.
"""

import logging
import time
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django.db.models.functions import Now
from django.utils.dateparse import parse_datetime
from django.utils.timezone import now

from engines.controlplane import clouds, money, states
from engines.controlplane.enums import EngineState, EntryKind, ExtensionState, FollowUp, InstanceStatus
from engines.controlplane.models import LIVE_TASK, ApiKey, Engine, Extension, Instance, LedgerEntry, Task, atomic
from engines.controlplane.providers.base import Machine, Order, Refused, Unclear
from engines.controlplane.wakeups import CLOUD, seen, wake

log = logging.getLogger(__name__)

LEASE = timedelta(seconds=90)  # longer than any request to a provider takes
LOOK_LEASE = 2 * LEASE  # for the next call of a look: to delete may take two requests
LOOK_OFTEN = timedelta(seconds=5)  # while something is about to change
LOOK_SELDOM = timedelta(seconds=60)
SECOND = timedelta(seconds=1)
CLOUDS_ROUND = timedelta(minutes=1)  # the time that they are told
LONGEST_PAUSE = timedelta(minutes=10)  # between two tries to give a machine back
ORDER_SETTLES = timedelta(minutes=10)  # an order that cannot be found so long after it was sent did not arrive
ABSENCE_SETTLES = timedelta(minutes=5)  # a machine that cannot be found for so long is gone
UNKNOWN_THERE = "the cloud does not know this machine, though its engine is connected"
LEAVING = (InstanceStatus.DELETING, InstanceStatus.DELETED)  # whatever a reading that began earlier says
AT_ONCE = 20  # machines looked at in one round
ROUND_SECONDS = 30.0  # after which a round begins with no other machine


class Taken(Exception):
    """Somebody else looks after the machine by now, or shall: what was read of it here is old."""


def machine_of(engine: Engine) -> Instance | None:
    """Return the engine's machine if it still costs."""
    instance = states.instance_of(engine)
    return instance if instance and not instance.gone else None


def tear_down(engine: Engine) -> None:
    """Have the machine, if there is one, given back. The caller holds the engine's lock and its transaction."""
    _ask(engine, tear_down=True)


def restart(engine: Engine) -> None:
    """Have the machine restarted, once. The caller holds the engine's lock and its transaction."""
    _ask(engine, restart_asked=True)


def _ask(engine: Engine, **facts: object) -> None:
    Instance.objects.filter(engine=engine).update(**facts, attempts=0, next_at=now(), updated_at=now())
    wake(CLOUD)


def order(instance: Instance, wanted: Order) -> None:
    """Send the order, once. Raises Refused once everything is undone; an unclear answer is left to `look_around`."""
    try:
        machine_id = clouds.provider(wanted.cloud).create(wanted)
    except Refused as refusal:
        _undo(instance, str(refusal))
        raise
    except Unclear as doubt:
        log.warning("the order %s has no clear answer: %s", instance.name, doubt)
        _note(instance, error=f"no clear answer to the order: {doubt}"[:2000], next_at=now())
    else:
        _note(instance, machine_id=machine_id, error="", next_at=now())
        # This process slept for so long that the order was taken for lost and paid back: nobody pays for the machine.
        undone = Instance.objects.filter(pk=instance.pk, status=InstanceStatus.DELETED)
        undone.update(status=InstanceStatus.DELETING, tear_down=True, next_at=now(), updated_at=now())


def _undo(instance: Instance, why: str) -> None:
    """The machine does not exist: pay back, and stop the engine."""
    with atomic():
        engine = states.locked(instance.engine_id)
        rows = Instance.objects.filter(pk=instance.pk, machine_id="").exclude(status=InstanceStatus.DELETED)
        if rows.update(status=InstanceStatus.DELETED, error=why[:2000], updated_at=now()) != 1:
            return
        paid = LedgerEntry.objects.filter(engine=engine, kind=EntryKind.CREATE).first()
        if paid is not None:
            team = money.locked(engine.team_id)
            text = f"{engine.name} was not created: {why}"
            money.book(team, EntryKind.REFUND, -paid.amount_microcents, text, engine=engine)
        _end(engine, instance)


def is_due(machines: Q = clouds.ANY) -> bool:
    """Say whether `look_around` would look after one."""
    return _due(machines).exists()


def _due(machines: Q) -> QuerySet[Instance]:
    return Instance.objects.filter(machines, next_at__lte=now()).exclude(status=InstanceStatus.DELETED)


def look_around(machines: Q = clouds.ANY) -> None:
    """Look after every one of these machines that is due."""
    until = time.monotonic() + ROUND_SECONDS
    for instance_id, at in _due(machines).order_by("next_at").values_list("pk", "next_at")[:AT_ONCE]:
        instance = _claimed(instance_id, at) if time.monotonic() < until else None
        if instance is None:
            continue
        try:
            _look_after(instance)
        except Taken:
            log.info("instance %s is looked after by somebody else", instance.name)
        except (Refused, Unclear) as trouble:
            log.warning("instance %s: %s", instance.name, trouble)
            pause = min(LOOK_OFTEN * 2 ** min(instance.attempts, 8), LONGEST_PAUSE)
            _note(instance, error=str(trouble)[:2000], attempts=instance.attempts + 1, next_at=now() + pause)
        except Exception:  # it is looked at again when its lease is over; the others need not wait for that
            log.exception("instance %s cannot be looked after", instance.name)


def _claimed(instance_id: str, due: datetime) -> Instance | None:
    """Return the machine to look after, None if somebody else does.

    Read only now: calls for the machines before it in the round may have taken minutes, and it was extended meanwhile.
    """
    if not _leased(instance_id, due, now() + LOOK_LEASE):
        return None
    return Instance.objects.select_related("engine").get(pk=instance_id)


def _leased(instance_id: str, since: datetime, until: datetime) -> bool:
    rows = Instance.objects.filter(pk=instance_id, next_at=since).exclude(status=InstanceStatus.DELETED)
    return rows.update(next_at=until) == 1


def _go_on(instance: Instance) -> None:
    """Renew the lease before another call. Raises Taken if it ran out meanwhile, or if something new was asked for."""
    until = now() + LOOK_LEASE
    if not _leased(instance.pk, instance.next_at, until):
        raise Taken(instance.pk)
    instance.next_at = until


def _look_after(instance: Instance) -> None:
    if not instance.machine_id:
        _find(instance)
    elif instance.restart_asked and not instance.tear_down:
        _restart(instance)
    elif instance.status != InstanceStatus.DELETING and _over(instance):
        _give_back(instance)
    else:
        _observe(instance)


def _find(instance: Instance) -> None:
    """Learn what became of an order whose answer was lost."""
    machine = clouds.provider(instance.cloud).find(instance.name)
    if machine is not None:
        _note(instance, machine_id=machine.id, error="", attempts=0, next_at=now())
    elif now() - instance.ordered_at > ORDER_SETTLES:
        _undo(instance, "the order did not arrive at the cloud")
    else:
        _note(instance, next_at=now() + LOOK_OFTEN)


def _restart(instance: Instance) -> None:
    with atomic():
        engine = states.locked(instance.engine_id)
        if Instance.objects.filter(pk=instance.pk, restart_asked=True).update(restart_asked=False) != 1:
            return
        if (engine.state, engine.follow_up) != (EngineState.RESTARTING, FollowUp.RESTART):
            # A new process of it takes tasks by now, or is about to: they would be cut.
            error = "it was not restarted: its engine came back before the cloud was asked"
            _note(instance, error=error, next_at=_next_look(instance))
            return
        if engine.online and Task.objects.filter(LIVE_TASK, engine=engine).exists():
            # It was away when this was asked for, and is back with what it runs: that is finished first.
            states.empty(engine, EngineState.DRAINING, FollowUp.RESTART)
            _note(instance, next_at=now() + LOOK_OFTEN)
            return
    try:
        clouds.provider(instance.cloud).restart(instance.machine_id)
    except Refused as refusal:
        with atomic():
            engine = states.locked(instance.engine_id)
            if engine.state == EngineState.RESTARTING:
                states.move(engine, state=EngineState.RUNNING, follow_up=FollowUp.NOTHING)
        _note(instance, error=f"it was not restarted: {refusal}"[:2000], next_at=_next_look(instance))
    except Unclear as doubt:
        # Not again: it may be restarting. The engine comes back, or is called disconnected after a while.
        _note(instance, error=f"no clear answer to the restart: {doubt}"[:2000], next_at=now() + LOOK_OFTEN)
    else:
        _note(instance, error="", attempts=0, next_at=now() + LOOK_OFTEN)


def _over(instance: Instance) -> bool:
    """Whether it shall go: asked for, or the paid time or the allowed money is at its end."""
    if instance.tear_down or _spent(instance):
        return True
    if _is_extended(instance):
        return False  # its end may have moved already; that is settled first
    return instance.delete_at <= now()


def _is_extended(instance: Instance) -> bool:
    return Extension.objects.filter(engine=instance.engine_id, state=ExtensionState.HELD).exists()


def _spent(instance: Instance) -> bool:
    return instance.spend_limit is not None and instance.cost >= instance.spend_limit


def _give_back(instance: Instance) -> None:
    if not instance.tear_down and not _time_is_up(instance):
        _note(instance, next_at=now() + LOOK_OFTEN)
        return
    clouds.provider(instance.cloud).delete(instance.machine_id)
    with atomic():
        engine = states.locked(instance.engine_id)
        _note(instance, status=InstanceStatus.DELETING, error="", attempts=0, next_at=now() + LOOK_OFTEN)
        if engine.state == EngineState.STOPPING:
            states.move(engine, state=EngineState.STOPPED)


def _time_is_up(instance: Instance) -> bool:
    """Say, under the engine's lock, whether the machine goes; if for its end, by the database's clock, note that."""
    with atomic():
        engine = states.locked(instance.engine_id)
        fresh = states.instance_of(engine)
        if fresh is None or not _over(fresh):
            return False  # it was extended meanwhile
        if fresh.tear_down:
            return True
        ended = Instance.objects.filter(pk=fresh.pk, delete_at__lte=Now()).exists()
        if not ended and not _spent(fresh):
            return False  # this process's clock is ahead
        why = "the paid time of its machine ended" if ended else "its machine reached its spend limit"
        states.lose_tasks(engine, why)
        update = states.update_ends(engine, why)
        states.empty(engine, EngineState.STOPPING, FollowUp.STOP, **update)
        _note(instance, tear_down=True, error=why)
        return True


def _observe(instance: Instance) -> None:
    provider = clouds.provider(instance.cloud)
    # An address that is wrong, or a copy that lags behind, answers 404 as well: the list has to agree.
    machine = provider.info(instance.machine_id)
    if machine is None:
        _go_on(instance)
        machine = provider.find(instance.name)
    deleting = instance.status == InstanceStatus.DELETING
    if machine is None and not deleting:
        _missing(instance)
        return
    if machine is None or machine.status == InstanceStatus.DELETED:
        _gone(instance)
        return
    if deleting and machine.status != InstanceStatus.DELETING:
        _go_on(instance)
        provider.delete(instance.machine_id)  # it said yes and did not do it
    with atomic():
        states.locked(instance.engine_id)
        if not deleting and Instance.objects.filter(pk=instance.pk, status__in=LEAVING).exists():
            return
        _note_found(instance, machine, deleting)
    if not deleting and _ends_early(instance, machine):
        _go_on(instance)
        _tell_end(instance)


def _tell_end(instance: Instance) -> None:
    """Seldom, whatever it answers: it may go on naming another end."""
    instance.refresh_from_db(fields=["delete_at"])
    try:
        clouds.provider(instance.cloud).set_auto_delete(instance.machine_id, instance.delete_at, instance.spend_limit)
    except (Refused, Unclear) as trouble:
        error = f"the cloud would delete it before its paid time is over, and was not told otherwise: {trouble}"
        _note(instance, error=error[:2000], next_at=_next_look(instance))
    else:
        _note(instance, next_at=_next_look(instance))


def _ends_early(instance: Instance, machine: Machine) -> bool:
    """Whether the cloud would delete it before the end that is paid.

    The call of an extension may have arrived after a later one's.
    """
    told = machine.facts.get("auto_delete")
    text = told.get("date_threshold") if isinstance(told, dict) else None
    try:
        end = parse_datetime(text) if isinstance(text, str) else None
    except ValueError:
        return False
    if end is None or end.tzinfo is None or instance.delete_at - end < CLOUDS_ROUND:
        return False
    return not _is_extended(instance)


def _note_found(instance: Instance, machine: Machine, deleting: bool) -> None:
    seldom = machine.status == InstanceStatus.ACTIVE and not deleting
    _note(
        instance,
        status=InstanceStatus.DELETING if deleting else machine.status,
        ip=machine.ip,
        ssh_user=machine.ssh_user,
        ssh_port=machine.ssh_port,
        cost=machine.cost,
        error=machine.error,
        **_terms(machine, instance),
        missing_since=None,
        attempts=0,
        next_at=_next_look(instance, LOOK_SELDOM if seldom else LOOK_OFTEN),
    )


def _next_look(instance: Instance, pause: timedelta = LOOK_SELDOM) -> datetime:
    """Return when to look again: not later than its end, and not more often than once a second."""
    return min(now() + pause, max(instance.delete_at, now() + SECOND))


def _terms(machine: Machine, instance: Instance) -> dict[str, Any]:
    """What the machine is and costs an hour from now on, where the provider says so."""
    price, kind = machine.facts.get("hourly_price"), machine.facts.get("shade_instance_type")
    return {
        "hourly_price": price if type(price) is int and 0 < price < 2**31 else instance.hourly_price,
        "instance_type": kind[:100] if isinstance(kind, str) and kind else instance.instance_type,
    }


def _missing(instance: Instance) -> None:
    """The cloud does not know a machine that nobody gave back: believe it once it has said so for a while.

    Never of an engine that is connected, whose tasks would be cut: its machine is somewhere. Once it is not, the while
    begins anew. It ends with the engine's key, so that none connects and is given a task while the cloud is asked.
    """
    since = instance.missing_since or now()
    with atomic():
        engine = states.locked(instance.engine_id)
        if engine.online:
            _note(instance, missing_since=None, error=UNKNOWN_THERE, next_at=now() + LOOK_OFTEN)
            return
        if now() - since < ABSENCE_SETTLES:
            error = f"the cloud has not known this machine since {since:%Y-%m-%d %H:%M:%S %Z}"
            _note(instance, missing_since=since, error=error, next_at=now() + LOOK_OFTEN)
            return
        _go_on(instance)
        _note(instance, tear_down=True)
        _end(engine, instance)
    clouds.provider(instance.cloud).delete(instance.machine_id)  # should it be there after all, it costs no more
    _gone(instance)


def begin_anew() -> None:
    """Nobody looked before this process started, nor could engines connect: no machine has been missing until now."""
    Instance.objects.filter(missing_since__isnull=False).update(missing_since=None)


def _gone(instance: Instance) -> None:
    with atomic():
        engine = states.locked(instance.engine_id)
        _note(instance, status=InstanceStatus.DELETED)
        _end(engine, instance)


def _end(engine: Engine, instance: Instance) -> None:
    """The machine is gone, and the engine on it."""
    ApiKey.objects.filter(pk=instance.key_id, revoked_at__isnull=True).update(revoked_at=now())
    states.lose_tasks(engine, "the machine of this engine is gone")
    ended = states.update_ends(engine, "the machine of this engine is gone")
    states.move(engine, state=EngineState.STOPPED, session=None, held_by="", **ended)


def _note(instance: Instance, **facts: object) -> None:
    """Write what was learnt, and tell whoever watches the engine if anything changed."""
    row = Instance.objects.filter(pk=instance.pk)
    when: dict[str, object] = {name: facts.pop(name) for name in ("next_at", "attempts") if name in facts}
    changed = any(getattr(instance, name) != value for name, value in facts.items())
    if changed:
        row.update(**facts, updated_at=now())
    # Not over the "at once" of somebody who asked for something while the provider was being read.
    if when and row.filter(next_at=instance.next_at).update(**when) == 1:
        facts |= when
    for name, value in facts.items():
        setattr(instance, name, value)
    if changed:
        Engine.objects.filter(pk=instance.engine_id).update(updated_at=now())
        wake(*seen(instance.engine_id, instance.engine.team_id))
