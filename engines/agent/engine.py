"""What an engine knows and decides: its workers, running tasks, held results, and whether it takes more."""

import asyncio
from collections.abc import Iterable, Sequence
from typing import Literal

from engines import wire
from engines.agent.apps import NAMES
from engines.agent.release import Unfit
from engines.agent.say import count, say
from engines.agent.session import Session
from engines.agent.state import Held, StateDir
from engines.agent.tasks import Task
from engines.agent.update import Updates
from engines.agent.version import VERSION
from engines.agent.warm import Warm

DONE, FORCED, REFUSED, REPLACED, LOCKED, BROKEN = range(6)  # exit codes
RESTART = -1  # no exit: the process goes on as the version that was put in place
DELIVERY_SECONDS = 8.0  # how long a local stop waits for an API that does not take the results
LAST_PATIENCE_SECONDS = 1.0  # from SIGTERM to SIGKILL once the grace of a local stop is over


class Engine:
    """One engine process. Everything here runs on the event loop; nothing here knows of sockets.

    `gone` gets the exit code once there is nothing left to wait for. A task in `running` leaves it only
    when its result is on disk; a result leaves `held` only when the control plane has acknowledged it.
    """

    def __init__(
        self,
        state: StateDir,
        boot_id: str,
        heartbeat_seconds: float,
        delivery_seconds: float = DELIVERY_SECONDS,
        flags: Sequence[str] = (),
    ) -> None:
        self.boot_id = boot_id
        self.heartbeat_seconds = heartbeat_seconds
        self.workers: dict[str, wire.Worker] = {}
        self.running: dict[str, Task] = {}
        self.held: dict[str, Held] = state.held()
        # Output written while there was no connection goes out before the result of its task.
        self.last_updates: dict[str, wire.TaskUpdate] = {}
        self.drain_epoch = 0
        self.stopping = False  # asked to, on this host
        self.hurry = asyncio.Event()  # set with `stopping`: no long waits any more
        self.gone: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self.session: Session | None = None
        self._state = state
        self.warm = Warm(self._warm_changed)
        self._updates = Updates(flags, self._update_moved)
        self._untold: wire.UpdateStatus | None = None  # it moved while there was no connection
        self._shut_down = False
        self._restart = False
        self._exit_code: int | None = None  # decided, once the running tasks have ended
        self._was_connected = False
        self._delivery_seconds = delivery_seconds
        self._giving_up: asyncio.TimerHandle | None = None
        self._jobs: set[asyncio.Task[None]] = set()

    @property
    def mode(self) -> Literal["running", "draining"]:
        return "draining" if self.drain_epoch or self.stopping or self._exit_code is not None else "running"

    @property
    def idle(self) -> bool:
        """No task runs and no result waits for its acknowledgement."""
        return not self.running and not self.held

    @property
    def ending(self) -> bool:
        """Whether it is pointless to connect again."""
        return self._exit_code is not None or self.gone.done()

    def set_workers(self, workers: Iterable[wire.Worker]) -> None:
        self.workers = {worker["id"]: worker for worker in workers}
        self.warm.end_but(self.workers)

    # The connection comes and goes

    def connected(self) -> Session:
        """Begin a session: whatever the last one still had to say is worked out anew."""
        self.session = Session(self)
        self._was_connected = True
        if self._untold is not None:
            self._update_moved(self._untold)
        return self.session

    def disconnected(self) -> None:
        self.session = None
        self._settle()

    def hello(self, results: list[wire.Result], running: list[wire.RunningTask]) -> wire.Hello:
        return {
            "boot_id": self.boot_id,
            "version": VERSION,
            "mode": self.mode,
            "drain_epoch": self.drain_epoch,
            "running": running,
            "results": results,
        }

    def changed(self) -> None:
        if self.session is not None:
            self.session.news.set()

    # What the control plane asks for

    def assigned(self, assign: wire.Assign, session: Session) -> None:
        """Start the task, or say why not. A task that is known already is confirmed, never started again."""
        task_id = assign["task_id"]
        if task_id in self.running or task_id in self.held:
            session.reply("task_accepted", {"task_id": task_id})
            if task_id in self.held:
                session.send_result(task_id)
        elif reason := self._refusal(assign):
            say(f"task {task_id} refused: {reason}")
            session.reply("task_rejected", {"task_id": task_id, "reason": reason})
        else:
            task = Task(assign, self.changed)
            self.running[task_id] = task  # the worker is taken from here on
            say(f"task {task.id} taken on worker {self._label(task)}: {assign['app']}")
            job = asyncio.create_task(self._run(task, self.workers[assign["worker_id"]]))
            self._jobs.add(job)
            job.add_done_callback(self._jobs.discard)

    def acknowledged(self, task_id: str) -> None:
        if task_id in self.held:
            self._state.drop(task_id)
            del self.held[task_id]
            self.last_updates.pop(task_id, None)
            self.changed()
            self._settle()

    def cancelled(self, task_id: str) -> None:
        if task := self.running.get(task_id):
            say(f"task {task_id} is being cancelled")
            task.end("cancelled")

    def drain(self, epoch: int) -> None:
        """Take nothing new from now on. It may be asked again, after each reconnect."""
        if epoch != self.drain_epoch:
            self.drain_epoch = epoch
            say(f"drain asked ({count(len(self.running), 'task')} running)")
            self._say_waiting()
        self._show_mode()

    def drained(self) -> None:
        """The report was sent: from here on the control plane may let go."""
        say("drained, waiting for the control plane to let go")

    def shut_down(self, epoch: int) -> None:
        """The control plane has recorded the drain. Obeyed only for the drain that this engine obeyed."""
        if not self.drain_epoch or epoch != self.drain_epoch:
            say(f"told to shut down for drain {epoch}, which is not the one obeyed: ignored")
            return
        self._shut_down = True
        self._settle()

    def update(self, update: wire.Update) -> None:
        """Get another version ready while the work goes on. It may be asked again, after each reconnect."""
        if self.stopping or self.ending:
            say(f"update {update['epoch']} is left alone: this engine is going")
        else:
            self._updates.ask(update)

    def restart(self, epoch: int) -> None:
        """The control plane has recorded the drain that an update asked for: go on as the new version."""
        if not self.drain_epoch or epoch != self.drain_epoch:
            say(f"told to restart for drain {epoch}, which is not the one obeyed: ignored")
            return
        self._restart = True
        self._settle()

    def stay(self, error: str) -> None:
        """Work on as the old version: the new one could not take over."""
        say(f"the update failed, {VERSION} takes tasks again: {error}")
        if self.gone.done():
            self.gone = asyncio.get_running_loop().create_future()
        epoch, self.drain_epoch, self._restart = self.drain_epoch, 0, False
        self._updates.fail(error, epoch)
        self._show_mode()

    # What happens on this host

    def stop(self) -> None:
        """Finish what runs, take nothing new, deliver the results, go."""
        self.stopping = True
        self.hurry.set()
        self._updates.drop()  # what this host asks for goes before an update
        say(f"asked to stop ({count(len(self.running), 'task')} running): taking nothing new; again to force")
        self._say_waiting()
        self._show_mode()
        self._settle()

    async def ended(self) -> None:
        """Return when nothing works in the background any more. What was prepared and not used is removed."""
        self._updates.drop()
        self.warm.end()
        await self._updates.ended()
        await self.warm.ended()

    def cut(self) -> None:
        """End the running tasks: the grace of a local stop is over."""
        for task in self.running.values():
            say(f"task {task.id} is ended: the time to finish it is over")
            task.end("shut down", LAST_PATIENCE_SECONDS)

    def force(self) -> None:
        """Kill the running tasks and go at once."""
        for task in self.running.values():
            say(f"task {task.id} is killed after {task.seconds:.1f} s")
            task.kill()
        self._leave(FORCED)

    def give_up(self, code: int) -> None:
        """Never connect again: finish what runs, then go with `code`. Results stay on disk."""
        self._exit_code = code
        self.warm.end()
        self._say_waiting()
        self._settle()

    # Inside

    def _refusal(self, assign: wire.Assign) -> str:
        if self.mode == "draining":
            return "engine_draining"
        if assign["worker_id"] not in self.workers:
            return "worker_unknown"
        if any(task.worker_id == assign["worker_id"] for task in self.running.values()):
            return "worker_busy"
        return "" if assign["app"] in NAMES else "unknown_app"

    async def _run(self, task: Task, worker: wire.Worker) -> None:
        try:
            process = await self.warm.process(task.assign["app"], worker)
            self._started(task)
            result = await task.run(process)
        except Exception as error:  # one of the two process loops: a task must end in a result
            task.kill()
            result = task.failed(f"the engine could not run it: {type(error).__name__}: {error}")
        held = Held(worker_id=task.worker_id, result=result)
        try:
            await asyncio.to_thread(self._state.keep, held)
        except OSError as error:
            say(f"task {task.id}: the result could not be put on disk, it is kept in memory only: {error}")
        self._ended(task, held)

    def _started(self, task: Task) -> None:
        if self.session is not None:
            self.session.reply("task_accepted", {"task_id": task.id})

    def _ended(self, task: Task, held: Held) -> None:
        del self.running[task.id]
        self.held[task.id] = held
        if (update := task.last_update()) is not None:
            self.last_updates[task.id] = update
        error = held["result"]["error"]
        how = {"completed": "finished", "failed": "failed", "cancelled": "was cancelled"}[held["result"]["status"]]
        say(f"task {task.id} {how} in {task.seconds:.1f} s{': ' + error if error else ''}")
        if self.session is not None:
            self.session.send_result(task.id)
        if self.mode == "draining":
            self._say_waiting()
        elif worker := self.workers.get(task.worker_id):
            self.warm.keep(task.assign["app"], worker)
        self._settle()

    def _label(self, task: Task) -> str:
        worker = self.workers.get(task.worker_id, {})
        return f"{worker.get('index', '?')} ({task.worker_id})"

    def _say_waiting(self) -> None:
        if self.running:
            names = ", ".join(
                f"{task.id} ({task.assign['app']}, {task.progress:.0%})" for task in self.running.values()
            )
            say(f"waiting for {count(len(self.running), 'task')}: {names}")

    def _show_mode(self) -> None:
        if self.mode == "draining":
            self.warm.end()
        if self.session is not None:
            self.session.beat()

    def _warm_changed(self) -> None:
        if self.session is not None:
            self.session.beat_soon()

    def _settle(self) -> None:
        """Go, if there is nothing left to wait for."""
        if self.running or self.gone.done():
            return
        if self._exit_code is not None:
            self._leave(self._exit_code)
        elif (self._let_go and not self.held) or (self.stopping and not self._owes()):
            self._leave(DONE)
        elif self._restart and not self.held:
            self._swap()
        elif self.stopping and self._giving_up is None:
            loop = asyncio.get_running_loop()
            self._giving_up = loop.call_later(self._delivery_seconds, self._leave, DONE)

    @property
    def _let_go(self) -> bool:
        """Whether the control plane has recorded a drain after which this process ends."""
        return self._shut_down or (self._restart and self.stopping)

    def _swap(self) -> None:
        try:
            version = self._updates.swap()
        except Unfit as error:
            self.stay(str(error))
        else:
            say(f"{version} is in place")
            self._leave(RESTART)

    def _update_moved(self, status: wire.UpdateStatus) -> None:
        self._untold = None if self.session else status
        if self.session is not None:
            self.session.reply("update_status", status)

    def _owes(self) -> bool:
        """Whether the control plane is owed something before a local stop is complete."""
        return self._was_connected and bool(self.held or (self.drain_epoch and self.session is not None))

    def _leave(self, code: int) -> None:
        if self.gone.done():
            return
        if self.held:
            results = count(len(self.held), "result")
            say(f"{results} not acknowledged: on disk, delivered when this engine starts again")
        self.gone.set_result(code)
