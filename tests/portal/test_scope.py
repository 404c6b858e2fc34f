"""Views read a team's rows through its team alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# People are found by themselves, memberships by their person, a team is locked as a whole; workers belong to none.
NO_TEAM = {"Membership", "User", "Team", "Automation"}
VIEWS = sorted([*ROOT.glob("portal/**/views.py"), *ROOT.glob("engines/views/*.py"), ROOT / "engines/access.py"])


def unscoped(source):
    """Every `Model.objects.<name>` whose name is not `of`."""
    return [
        f"{node.value.value.id}.objects.{node.attr}"
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Attribute)
        and node.value.attr in ("objects", "_base_manager", "_default_manager")
        and isinstance(node.value.value, ast.Name)
        and node.value.value.id not in NO_TEAM
        and node.attr != "of"
    ]


def test_the_scan_finds_what_it_is_for():
    assert unscoped("Engine.objects.filter(uid=uid)") == ["Engine.objects.filter"]
    assert unscoped("Engine.objects.of(team).filter(uid=uid)") == []


@pytest.mark.parametrize("path", VIEWS, ids=lambda path: str(path.relative_to(ROOT)))
def test_views_name_the_team_first(path):
    assert unscoped(path.read_text()) == []
