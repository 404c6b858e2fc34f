"""Stop: like a drain, and the machine goes too. An engine that is not connected is stopped at once (contract 7.1)."""

from datetime import timedelta

from django.utils.timezone import now

from engines import wire
from engines.controlplane import cloud, states
from engines.controlplane.enums import EngineState, FollowUp
from engines.controlplane.models import Engine, atomic

SILENT = timedelta(seconds=2 * wire.DEAD_AFTER_SECONDS)  # longer than a line that broke takes to be back


def request(engine_id: str, *, only_if_connected: bool = False) -> None:
    """Begin to stop. Again: no change, unless the engine was lost meanwhile, which is then stopped at once.

    Raises Problem 409 `conflict` in the moment of a restart. `only_if_connected`: raises 409 `engine_offline`, with
    nothing changed, rather than to cut what may run on an engine that has just lost its connection.
    """
    with atomic():
        engine = states.locked(engine_id)
        if engine.state == EngineState.STOPPED:
            _give_back(engine)
        elif engine.state == EngineState.STOPPING:
            if _lost(engine) and not only_if_connected:
                finalise(engine, "the engine was lost while it was being stopped")
        elif not engine.online:
            if only_if_connected and engine.state in (EngineState.RUNNING, EngineState.DRAINING):
                raise states.offline(engine)
            finalise(engine, "the engine was stopped while it was not connected")
        elif engine.state == EngineState.RESTARTING:
            raise states.busy(engine)
        else:
            _gracefully(engine)


def _gracefully(engine: Engine) -> None:
    ended = states.update_ends(engine, "a stop came first")
    if engine.state == EngineState.DRAINING:
        # It has promised already, and may have been told: the same drain goes on, with another end.
        states.move(engine, state=EngineState.STOPPING, follow_up=FollowUp.STOP, **ended)
    else:
        states.empty(engine, EngineState.STOPPING, FollowUp.STOP, **ended)


def finalise(engine: Engine, why: str) -> None:
    """Stop an engine that cannot be asked. Its tasks end or are queued again; the caller holds its lock.

    The drain that is noted here is told to a process of it that should come back after all.
    """
    states.lose_tasks(engine, why)
    ended = states.update_ends(engine, why)
    machine = cloud.machine_of(engine)
    state = EngineState.STOPPING if machine else EngineState.STOPPED
    states.empty(engine, state, FollowUp.STOP, **ended)
    cloud.tear_down(engine)


def _lost(engine: Engine) -> bool:
    """Whether it can no longer say that it is drained, and nobody has ended it for that yet."""
    machine = cloud.machine_of(engine)
    if engine.online or (machine is not None and machine.tear_down):
        return False
    return engine.heartbeat_at is None or now() - engine.heartbeat_at > SILENT


def _give_back(engine: Engine) -> None:
    """A drained cloud engine is stopped and still costs: a stop gives its machine back."""
    if cloud.machine_of(engine):
        states.move(engine, state=EngineState.STOPPING, follow_up=FollowUp.STOP)
        cloud.tear_down(engine)
