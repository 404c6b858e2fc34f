"""Drain: a promise that the engine takes nothing new, and that what it runs is finished before it goes.

The protocol is RELIABILITY.md 4.4, model-checked. Here are the two transactions that change the engine's state;
sending `drain(epoch)` and `shutdown(epoch)` is the socket's business, which reads these rows.
"""

from django.utils.timezone import now

from engines.controlplane import problems
from engines.controlplane.enums import LIVE, EngineState
from engines.controlplane.failpoints import failpoint
from engines.controlplane.models import Engine, Task, atomic
from engines.controlplane.wakeups import DISPATCHER, wake


def request(engine_id: str) -> None:
    """Begin to drain. Again: no change. Raises Problem 409 `engine_offline`, with nothing changed, without a socket."""
    with atomic():
        engine = Engine.objects.select_for_update().get(pk=engine_id)
        if engine.state == EngineState.DRAINING:
            return
        if engine.state != EngineState.RUNNING or engine.session is None:
            raise problems.engine_offline(_why_not(engine))
        epoch = engine.drain_epoch + 1
        Engine.objects.filter(pk=engine.pk).update(state=EngineState.DRAINING, drain_epoch=epoch, updated_at=now())
        failpoint("drain.before_commit")
        wake(engine.id, DISPATCHER)
    failpoint("drain.after_commit")


def _why_not(engine: Engine) -> str:
    if engine.state == EngineState.STOPPED:
        return f"The engine {engine.name} is stopped. There is nothing to drain."
    return f"The engine {engine.name} is not connected. Nothing was changed."


def finish(engine: Engine, epoch: int) -> bool:
    """Record the engine's own report that it is drained; False if it is not for this drain, or work is left.

    The caller holds the engine's row lock, so nothing can be assigned between the check and the commit.
    A repeated report is answered as the first one was.
    """
    if engine.state == EngineState.STOPPED and engine.drained_epoch == epoch:
        return True
    if engine.state != EngineState.DRAINING or epoch != engine.drain_epoch:
        return False
    if Task.objects.filter(engine=engine, status__in=LIVE).exists():
        return False
    Engine.objects.filter(pk=engine.pk).update(state=EngineState.STOPPED, drained_epoch=epoch, updated_at=now())
    failpoint("drained.before_commit")
    return True
