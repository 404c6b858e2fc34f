"""Restart a cloud engine's machine. What runs is finished first, if the engine can still be asked.

Contract 7.1 restarts the machine at once. That would cut running tasks, so here a connected engine is drained first.
"""

from datetime import timedelta

from django.utils.timezone import now

from engines.controlplane import cloud, states
from engines.controlplane.enums import EMPTYING, EngineState, FollowUp, InstanceStatus, UpdatePhase
from engines.controlplane.models import Engine, atomic
from engines.controlplane.problems import Problem

PATIENCE = timedelta(minutes=15)  # for a restarted engine to come back


def request(engine_id: str, *, only_if_connected: bool = False) -> None:
    """Begin. Again: no change. Raises Problem 409 `restart_unsupported`, `conflict`.

    `only_if_connected`: raises 409 `engine_offline`, with nothing changed, rather than to cut what may run on an engine
    that has just lost its connection.
    """
    with atomic():
        engine = states.locked(engine_id)
        instance = states.instance_of(engine)
        if instance is None:
            raise Problem(409, "restart_unsupported", "Only the machine of a cloud engine can be restarted from here.")
        if engine.state == EngineState.RESTARTING or (
            engine.follow_up == FollowUp.RESTART and engine.state in EMPTYING
        ):
            return
        if engine.state in EMPTYING:
            raise states.busy(engine)
        if instance.tear_down or instance.status != InstanceStatus.ACTIVE:
            raise Problem(409, "conflict", f"The machine is {instance.status}, not active. Nothing was changed.")
        if only_if_connected and engine.state == EngineState.RUNNING and not engine.online:
            raise states.offline(engine)
        ended = states.update_ends(engine, "a restart came first")
        if engine.state == EngineState.RUNNING and engine.online:
            states.empty(engine, EngineState.DRAINING, FollowUp.RESTART, **ended)
        else:
            states.move(engine, state=EngineState.RESTARTING, follow_up=FollowUp.RESTART, **ended)
            cloud.restart(engine)


def give_up() -> None:
    """Call engines that did not come back what they are: not connected."""
    late = Engine.objects.filter(state=EngineState.RESTARTING, state_at__lt=now() - PATIENCE)
    for engine_id in late.values_list("pk", flat=True):
        with atomic():
            engine = states.locked(engine_id)
            if engine.state == EngineState.RESTARTING and now() - engine.state_at > PATIENCE:
                failed = {}
                if engine.follow_up == FollowUp.UPDATE and engine.update_phase == UpdatePhase.READY:
                    failed = states.update_ends(engine, "the engine did not come back within 15 minutes")
                states.move(engine, state=EngineState.RUNNING, follow_up=FollowUp.NOTHING, **failed)


def _drains_for_it(engine: Engine) -> bool:
    return engine.state == EngineState.DRAINING and engine.follow_up == FollowUp.RESTART
