"""The hello: what the engine holds against what our rows say, in one transaction."""

from django.utils.timezone import now

from engines import wire
from engines.controlplane import frames, tasks
from engines.controlplane.enums import LIVE, EngineState, FollowUp
from engines.controlplane.hearing import settle
from engines.controlplane.models import ApiKey, Engine, atomic
from engines.controlplane.sessions import Over, Session, frame, instance, locked_tasks
from engines.controlplane.wakeups import DISPATCHER, seen, wake
from engines.enums import TaskStatus


def greet(session: Session, hello: frames.Hello) -> list[wire.Frame]:
    """Reconcile what the engine holds with our rows, register the connection, and return the answers.

    Until this is committed nothing is dispatched to the engine and nothing of it is requeued.
    """
    with atomic():
        engine = Engine.objects.select_for_update(no_key=True).get(pk=session.engine_id)
        if engine.boot_id and hello.boot_id != engine.boot_id:
            raise Over(wire.CLOSE_REPLACED, "a newer process of this engine has registered")
        # It was deleted, or given to another team, between the handshake and this.
        if engine.deleted_at or not ApiKey.objects.filter(pk=session.key_id, team=engine.team_id).exists():
            raise Over(wire.CLOSE_REFUSED, "there is no such engine for this key any more")
        session.boot_id = hello.boot_id
        replies = [settle(engine, result) for result in hello.results]
        _reconcile(engine, session, hello)
        _register(engine, session, hello)
        wake(engine.id, DISPATCHER, *seen(engine.id, engine.team_id))
    return [*replies, frame("welcome", wire.Welcome(engine_id=engine.id))]


def _register(engine: Engine, session: Session, hello: frames.Hello) -> None:
    session.mode = hello.mode
    at = now()
    back = engine.state == EngineState.RESTARTING and engine.follow_up == FollowUp.NOTHING
    first = back or engine.state == EngineState.PENDING
    Engine.objects.filter(pk=engine.pk).update(
        **({"state": EngineState.RUNNING, "state_at": at} if first else {}),
        session=session.id,
        held_by=instance(),
        connected_at=at,
        heartbeat_at=at,
        mode=hello.mode,
        version=hello.version or engine.version,
        updated_at=at,
    )


def _reconcile(engine: Engine, session: Session, hello: frames.Hello) -> None:
    reported = {task.task_id for task in hello.running}
    for task in locked_tasks().filter(engine=engine, status__in=LIVE):
        if task.pk in reported:
            session.sent.add((task.pk, task.attempt))
            if task.status == TaskStatus.DISPATCHED:
                tasks.accept(task, hello.boot_id)
        else:
            died = task.boot_id != hello.boot_id
            why = "the engine restarted while this task ran" if died else "the engine no longer knows this task"
            tasks.lose(task, why, denied=True)
