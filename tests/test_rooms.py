"""Which room may import which: the table of the architecture, held."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAY_NAME_ENGINES = {"urls.py", "asgi.py", "settings.py", "up.py"}
PORTAL_PIECES = ("portal.counting", "portal.env", "portal.failpoints", "portal.http", "portal.logs", "portal.keyset")
CONTROL_PLANE_MAY = ("engines.wire", "engines.enums", *PORTAL_PIECES)
AGENT_MAY = ("engines.wire",)


def imports(path):
    """Every module that the file imports, as written out."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def files(room, *without):
    return [
        path
        for path in sorted((ROOT / room).rglob("*.py"))
        if not any(path.is_relative_to(ROOT / other) for other in without)
    ]


def starts(name, *prefixes):
    return any(name == prefix or name.startswith(prefix + ".") for prefix in prefixes)


def offences(paths, forbidden, allowed=()):
    return [
        f"{path.relative_to(ROOT)} imports {name}"
        for path in paths
        for name in imports(path)
        if starts(name, *forbidden) and not starts(name, *allowed)
    ]


def test_the_portal_knows_nothing_of_engines():
    paths = [path for path in files("portal") if path.name not in MAY_NAME_ENGINES]
    assert offences(paths, ["engines"]) == []


def test_the_fleet_knows_the_control_plane_only_over_http():
    paths = files("engines", "engines/controlplane", "engines/agent")
    assert offences(paths, ["engines.controlplane", "engines.agent"]) == []


@pytest.mark.parametrize("room", ["engines/api", "engines/agent"])
def test_client_and_agent_need_no_django(room):
    assert offences(files(room), ["django"]) == []


def test_the_wire_needs_no_django():
    assert offences([ROOT / "engines/wire.py"], ["django", "portal"]) == []


def test_the_control_plane_could_be_moved_out():
    own = (*CONTROL_PLANE_MAY, "engines.controlplane")
    assert offences(files("engines/controlplane"), ["engines", "portal"], own) == []


def test_the_agent_could_be_moved_out():
    assert offences(files("engines/agent"), ["engines", "portal"], (*AGENT_MAY, "engines.agent")) == []


def test_only_one_function_assigns_an_operations_state():
    sources = [path for path in files("engines", "engines/controlplane", "engines/agent") if path.name != "moves.py"]
    assert [path.name for path in sources if ".state = " in path.read_text()] == []


def test_nobody_asks_for_a_task_result():
    words = ("AsyncResult", "countdown=", "eta=")
    found = [
        (path.name, word)
        for path in [*files("portal"), *files("engines")]
        for word in words
        if word in path.read_text()
    ]
    assert found == []
