"""Drain: a promise that the engine takes nothing new, and that what it runs is finished before it goes.

The protocol is RELIABILITY.md 4.4, model-checked. Here are the transactions that begin and end it; sending
`drain(epoch)` and what follows `drained` is the socket's business, which reads these rows. Stop, restart and
update drain by the same promise and differ in what follows.
"""

from engines.controlplane import cloud, states
from engines.controlplane.enums import EMPTYING, LIVE, EngineState, FollowUp
from engines.controlplane.models import Engine, Task, atomic
from portal.failpoints import failpoint


def request(engine_id: str) -> None:
    """Begin to drain. Again: no change. Raises Problem 409 `engine_offline` or `conflict`, with nothing changed."""
    with atomic():
        engine = states.locked(engine_id)
        if engine.state == EngineState.DRAINING and engine.follow_up == FollowUp.NOTHING:
            return
        if engine.state in (*EMPTYING, EngineState.RESTARTING):
            raise states.busy(engine)
        if engine.state != EngineState.RUNNING or not engine.online:
            raise states.offline(engine)
        ended = states.update_ends(engine, "a drain came first")
        states.empty(engine, EngineState.DRAINING, FollowUp.NOTHING, **ended)
        failpoint("drain.before_commit")
    failpoint("drain.after_commit")


def finish(engine: Engine, epoch: int) -> str:
    """Record the engine's own report that it is drained, and return the frame that answers it.

    "" if it is not for this drain, or work is left. A repeated report is answered as the first one was. The caller
    holds the engine's row lock, so nothing can be assigned between the check and the commit.
    """
    if epoch != engine.drain_epoch:
        return ""
    if engine.drained_epoch != epoch:
        if engine.state not in (*EMPTYING, EngineState.STOPPED) or _works(engine):
            return ""
        states.move(engine, state=_next(engine), drained_epoch=epoch)
        _follow_up(engine)
        failpoint("drained.before_commit")
    return answer(engine)


def answer(engine: Engine) -> str:
    """Return what a drained engine is told."""
    return "restart" if engine.follow_up == FollowUp.UPDATE else "shutdown"


def _works(engine: Engine) -> bool:
    return Task.objects.filter(engine=engine, status__in=LIVE).exists()


def _next(engine: Engine) -> EngineState:
    if engine.follow_up in (FollowUp.UPDATE, FollowUp.RESTART):
        return EngineState.RESTARTING
    # A machine that is still there keeps it stopping, until its provider has agreed to take it back.
    held = engine.state == EngineState.STOPPING and cloud.machine_of(engine) is not None
    return EngineState.STOPPING if held else EngineState.STOPPED


def _follow_up(engine: Engine) -> None:
    if engine.follow_up == FollowUp.STOP:
        cloud.tear_down(engine)
    elif engine.follow_up == FollowUp.RESTART:
        cloud.restart(engine)
