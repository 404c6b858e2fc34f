"""The only code that moves an engine from one state to another, and what is lost when it is gone for good."""

from typing import Any

from django.utils.timezone import now

from engines.controlplane import problems, tasks
from engines.controlplane.enums import LIVE, EngineState, FollowUp, UpdatePhase
from engines.controlplane.models import Engine, Instance, Task
from engines.controlplane.wakeups import DISPATCHER, seen, wake


def locked(engine_id: str) -> Engine:
    """Return the engine's row, locked until the transaction ends. Always the first lock that is taken."""
    # Not its key: whoever writes a row that points to the engine, such as a task's event, need not wait, nor deadlock.
    return Engine.objects.select_for_update(no_key=True).get(pk=engine_id)


def instance_of(engine: Engine) -> Instance | None:
    """Return the engine's machine, locked; None if the engine is self-hosted."""
    return Instance.objects.select_for_update().filter(engine=engine).first()


def move(engine: Engine, **facts: Any) -> None:
    """Write these facts and tell whoever watches the engine. The caller holds the row's lock."""
    at = now()
    if facts.get("state", engine.state) != engine.state:
        facts["state_at"] = at
    Engine.objects.filter(pk=engine.pk).update(**facts, updated_at=at)
    for name, value in facts.items():
        setattr(engine, name, value)
    wake(engine.pk, DISPATCHER, *seen(engine.pk, engine.team_id))


def empty(engine: Engine, state: EngineState, follow_up: FollowUp, **facts: Any) -> None:
    """Promise that the engine takes nothing new, and say what follows once it is idle."""
    move(engine, state=state, follow_up=follow_up, drain_epoch=engine.drain_epoch + 1, **facts)


def update_ends(engine: Engine, why: str) -> dict[str, Any]:
    """Return the facts that end an update under way which something stronger overtook."""
    if engine.update_phase not in (UpdatePhase.ASKED, UpdatePhase.FETCHING, UpdatePhase.READY):
        return {}
    return {"update_phase": UpdatePhase.FAILED, "update_error": why}


def lose_tasks(engine: Engine, why: str) -> None:
    """End or requeue, as each asked for, what was with an engine that will not come back."""
    for task in Task.objects.select_for_update().filter(engine=engine, status__in=LIVE).order_by("id"):
        tasks.lose(task, why)


def offline(engine: Engine) -> problems.Problem:
    """Return the refusal for what needs a connection. Nothing was changed."""
    if engine.state == EngineState.STOPPED:
        return problems.engine_offline(f"The engine {engine.name} is stopped. Nothing was changed.")
    return problems.engine_offline(f"The engine {engine.name} is not connected. Nothing was changed.")


def busy(engine: Engine) -> problems.Problem:
    """Return the refusal for what does not go together with what is under way."""
    doing = {
        EngineState.DRAINING: {
            FollowUp.UPDATE: "is being updated",
            FollowUp.RESTART: "is being drained for a restart",
        }.get(FollowUp(engine.follow_up), "is draining"),
        EngineState.STOPPING: "is stopping",
        EngineState.RESTARTING: "is restarting",
    }.get(EngineState(engine.state), f"is {engine.state}")
    return problems.conflict(f"The engine {engine.name} {doing}. Nothing was changed.")
