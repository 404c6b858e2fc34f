"""Frames from the control plane, read with care and handed to the engine."""

import json
from collections.abc import Callable
from typing import Any

from engines.agent.engine import Engine
from engines.agent.say import say
from engines.agent.session import Session

LONGEST_ID = 200
LONGEST_URL = 2000


class BadFrame(Exception):
    """A frame that does not say what its type promises. The text names what is wrong."""


def receive(message: str | bytes, engine: Engine, session: Session) -> None:
    """Act on one frame. A type from a newer control plane is left alone. Raises BadFrame."""
    try:
        frame = json.loads(message)
    except ValueError as error:
        raise BadFrame("a frame is not JSON") from error
    if not isinstance(frame, dict) or not isinstance(frame.get("type"), str):
        raise BadFrame("a frame has no type")
    data = frame.get("data") or {}
    if not isinstance(data, dict):
        raise BadFrame(f"the data of {frame['type']!r} is not an object")
    if act := ACTIONS.get(frame["type"]):
        act(data, engine, session)
    else:
        say(f"a frame of type {frame['type']!r} is not understood here and left alone")


def _welcome(data: dict[str, Any], engine: Engine, session: Session) -> None:
    session.welcome()


def _task(data: dict[str, Any], engine: Engine, session: Session) -> None:
    given = data.get("input")
    if given is not None and not isinstance(given, dict):
        raise BadFrame("the input of a task is not an object")
    engine.assigned(
        {
            "task_id": _text(data, "task_id"),
            "worker_id": _text(data, "worker_id"),
            "app": _text(data, "app"),
            "input": given or {},
        },
        session,
    )


def _result_ack(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.acknowledged(_text(data, "task_id"))


def _cancel(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.cancelled(_text(data, "task_id"))


def _drain(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.drain(_epoch(data))
    session.drain()


def _shutdown(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.shut_down(_epoch(data))


def _update(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.update(
        {
            "epoch": _epoch(data),
            "version": _text(data, "version"),
            "manifest_url": _text(data, "manifest_url", LONGEST_URL),
        }
    )


def _restart(data: dict[str, Any], engine: Engine, session: Session) -> None:
    engine.restart(_epoch(data))


def _text(data: dict[str, Any], name: str, longest: int = LONGEST_ID) -> str:
    value = data.get(name)
    if not isinstance(value, str) or not 0 < len(value) <= longest:
        raise BadFrame(f"{name} is not a text of 1 to {longest} characters")
    return value


def _epoch(data: dict[str, Any]) -> int:
    value = data.get("epoch")
    if not isinstance(value, int) or value < 1:
        raise BadFrame("epoch is not a whole number from 1 on")
    return value


ACTIONS: dict[str, Callable[[dict[str, Any], Engine, Session], None]] = {
    "welcome": _welcome,
    "task": _task,
    "result_ack": _result_ack,
    "cancel": _cancel,
    "drain": _drain,
    "shutdown": _shutdown,
    "update": _update,
    "restart": _restart,
}
