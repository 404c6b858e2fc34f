import venv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from engines.agent import package
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

    def start(*flags: str, url: str = plane.url, **how: Any) -> AgentProcess:
        flags = ("--config", str(tmp_path / "engine.toml"), *flags)
        process = AgentProcess(url, tmp_path / "state", *flags, **how)
        started.append(process)
        return process

    yield start
    for process in started:
        process.end()


@pytest.fixture(scope="session")
def bare_python(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A Python with nothing installed."""
    folder = tmp_path_factory.mktemp("bare")
    venv.create(folder)
    return str(folder / "bin" / "python")


@pytest.fixture(scope="session")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A release tree with v1.2.3 at its head."""
    tree = tmp_path_factory.mktemp("dist")
    package.build("v1.2.3", tree)
    return tree


@pytest.fixture
def engine(start: Callable[..., AgentProcess]) -> AgentProcess:
    return start()


@pytest.fixture
def line(engine: AgentProcess, plane: ScriptedControlPlane) -> Connection:
    """The first connection of `engine`."""
    return plane.connection()
