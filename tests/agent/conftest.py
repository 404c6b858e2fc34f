from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.agent.process import AgentProcess
from tests.agent.scripted import Connection, ScriptedControlPlane


@pytest.fixture(scope="session")
def listening() -> Iterator[ScriptedControlPlane]:
    """One server for all tests: each starts with an engine of its own, which is what takes time."""
    plane = ScriptedControlPlane().start()
    yield plane
    plane.stop()


@pytest.fixture
def plane(listening: ScriptedControlPlane) -> ScriptedControlPlane:
    listening.forget()
    return listening


@pytest.fixture
def fleeting() -> Iterator[ScriptedControlPlane]:
    """A server that the test may stop."""
    plane = ScriptedControlPlane().start()
    yield plane
    plane.stop()


@pytest.fixture
def start(plane: ScriptedControlPlane, tmp_path: Path) -> Iterator[Callable[..., AgentProcess]]:
    """Starts an engine against `plane`; all of one test share a state directory. Beats quickly, to be seen."""
    (tmp_path / "engine.toml").write_text("heartbeat_seconds = 0.05\n")
    started: list[AgentProcess] = []

    def start(*flags: str, key: str | None = None, url: str = plane.url) -> AgentProcess:
        flags = ("--config", str(tmp_path / "engine.toml"), *flags)
        process = AgentProcess(url, tmp_path / "state", *flags, **({"key": key} if key else {}))
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture
def engine(start: Callable[..., AgentProcess]) -> AgentProcess:
    return start()


@pytest.fixture
def line(engine: AgentProcess, plane: ScriptedControlPlane) -> Connection:
    """The first connection of `engine`."""
    return plane.connection()
