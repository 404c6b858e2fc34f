"""Update an engine's binary: it fetches, checks and tries the new one while it works, is drained, and swaps.

`update_phase` says how far it is. Only a download that was checked and tried leads to a drain, so an update that
cannot work costs nothing.
"""

import re
from typing import Any

from engines.controlplane import frames, problems, states
from engines.controlplane.enums import EMPTYING, EngineState, FollowUp, UpdatePhase
from engines.controlplane.models import Engine, atomic

STABLE, CANARY = "stable", "canary"
TAG = re.compile(r"v\d{1,9}\.\d{1,9}\.\d{1,9}(-[0-9A-Za-z.-]{1,50})?")
PREPARING = (UpdatePhase.ASKED, UpdatePhase.FETCHING)


def request(engine_id: str, version: str) -> None:
    """Ask the engine for `version` ("" means stable). Again: no change.

    Once it runs, a tag pins the engine to it; stable and canary unpin. Raises Problem 422, 409 `engine_offline` or
    `conflict`.
    """
    wanted = version or STABLE
    if wanted not in (STABLE, CANARY) and not TAG.fullmatch(wanted):
        raise problems.invalid_value("version must be stable, canary or a tag such as v1.9.3", field="version")
    with atomic():
        engine = states.locked(engine_id)
        if _under_way(engine) and engine.update_asked == wanted:
            return
        if engine.state in (*EMPTYING, EngineState.RESTARTING):
            raise states.busy(engine)
        if engine.state != EngineState.RUNNING or not engine.online:
            raise states.offline(engine)
        states.move(
            engine,
            update_epoch=engine.update_epoch + 1,
            update_phase=UpdatePhase.ASKED,
            update_asked=wanted,
            update_version="",
            update_error="",
        )


def _under_way(engine: Engine) -> bool:
    if engine.state == EngineState.RUNNING:
        return engine.update_phase in PREPARING
    return engine.follow_up == FollowUp.UPDATE


def heard(engine: Engine, said: frames.UpdateStatus) -> None:
    """Record how far the engine says it is. The caller holds its lock."""
    if said.epoch != engine.update_epoch:
        return
    facts: dict[str, Any] = {"update_version": said.version or engine.update_version}
    if said.phase == "failed":
        _failed(engine, said.error or "the engine gave no reason", facts)
    elif engine.update_phase in PREPARING and said.phase == "ready":
        states.empty(engine, EngineState.DRAINING, FollowUp.UPDATE, update_phase=UpdatePhase.READY, **facts)
    elif engine.update_phase in PREPARING:
        facts |= {"pin": _pin(engine)} if said.phase == "current" else {}
        states.move(engine, update_phase=UpdatePhase(said.phase), **facts)


def _pin(engine: Engine) -> str:
    """Return the version that the engine, which runs what was asked for, is held at from now on."""
    return engine.update_asked if TAG.fullmatch(engine.update_asked) else ""


def _failed(engine: Engine, error: str, facts: dict[str, Any]) -> None:
    """The old version runs on. If it was drained for this, it takes tasks again."""
    facts |= {"update_phase": UpdatePhase.FAILED, "update_error": error[:2000]}
    if engine.follow_up == FollowUp.UPDATE and engine.state in (EngineState.DRAINING, EngineState.RESTARTING):
        facts |= {"state": EngineState.RUNNING, "follow_up": FollowUp.NOTHING, "mode": "running"}
    if engine.update_phase not in (UpdatePhase.DONE, UpdatePhase.FAILED) or "state" in facts:
        states.move(engine, **facts)


def came_back(engine: Engine) -> None:
    """A new process of an engine that was to be replaced has registered: say in memory what that means.

    One that was restarting goes on restarting until its hello; without a follow-up it is known to be back.
    """
    engine.follow_up = FollowUp.NOTHING
    if engine.state != EngineState.RESTARTING:
        engine.state = EngineState.RUNNING
    if engine.update_phase != UpdatePhase.READY:
        return
    if engine.version == engine.update_version:
        engine.update_phase, engine.pin = UpdatePhase.DONE, _pin(engine)
    else:
        engine.update_phase = UpdatePhase.FAILED
        engine.update_error = f"the engine came back as {engine.version or 'an unknown version'}"
