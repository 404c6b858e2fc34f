"""Pages read a team's rows through its team alone."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
# People and what is theirs are found by themselves, memberships by their person, a team as a whole; workers have none.
NO_TEAM = {"Membership", "User", "Team", "Automation", "Session", "UserSession", "Authenticator", "Identity"}
ELSEWHERE = ("engines/controlplane", "engines/agent", "engines/api")  # no pages
# What a page may do beyond: for each, why.
ALLOWED = {
    ("portal/accounts/invitations.py", "Invitation.objects.select_related"): "by its signed link, by whoever has that",
    ("portal/accounts/invitations.py", "Invitation.objects.select_for_update"): "the same row, locked",
    ("engines/filters.py", "Operation.objects.filter"): "of the engine around it, by OuterRef",
}


def of_a_page(path):
    """Say whether the module is handed requests, or filters what a page shows."""
    text = path.read_text()
    return "PortalRequest" in text or "HttpRequest" in text or path.name == "filters.py"


SOURCES = [path for room in ("portal", "engines") for path in sorted((ROOT / room).rglob("*.py"))]
PAGES = [
    path for path in SOURCES if not any(path.is_relative_to(ROOT / other) for other in ELSEWHERE) and of_a_page(path)
]


def unscoped(source):
    """Every `Model.objects.<name>` whose name is not `of`, and every bare model that an id is looked up in."""
    return [found for node in ast.walk(ast.parse(source)) if (found := _past_the_team(node) or _bare(node))]


def _past_the_team(node):
    if not (isinstance(node, ast.Attribute) and isinstance(node.value, ast.Attribute)):
        return None
    model, manager = node.value.value, node.value.attr
    if manager not in ("objects", "_base_manager", "_default_manager") or not isinstance(model, ast.Name):
        return None
    return None if model.id in NO_TEAM or node.attr == "of" else f"{model.id}.{manager}.{node.attr}"


def _bare(node):
    if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Name)):
        return None
    if node.func.id not in ("get_object_or_404", "get_list_or_404") or not isinstance(node.args[0], ast.Name):
        return None
    bound = {"team", "user"} & {keyword.arg for keyword in node.keywords}
    return None if bound or not node.args[0].id[0].isupper() else f"{node.func.id}({node.args[0].id})"


def test_the_scan_finds_what_it_is_for():
    assert unscoped("Engine.objects.filter(uid=uid)") == ["Engine.objects.filter"]
    assert unscoped("get_object_or_404(Engine, uid=uid)") == ["get_object_or_404(Engine)"]
    assert unscoped("Engine.objects.of(team).filter(uid=uid)") == []
    assert unscoped("get_object_or_404(Engine.objects.of(team), uid=uid)") == []
    assert unscoped("get_object_or_404(Membership, team=team, pk=member)") == []


def test_it_looks_at_all_that_pages_are_made_of():
    scanned = {str(path.relative_to(ROOT)) for path in PAGES}
    views = {str(path.relative_to(ROOT)) for path in SOURCES if path.name == "views.py" or path.parent.name == "views"}
    others = {"inviting", "joining", "invitations", "members", "account", "sso/identities"}
    assert {f"portal/accounts/{name}.py" for name in others} <= scanned
    assert {"engines/access.py", "engines/filters.py", "portal/audit/export.py", "portal/audit/filters.py"} <= scanned
    assert {path for path in views - scanned if "__init__" not in path and "controlplane" not in path} == set()


@pytest.mark.parametrize("path", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pages_name_the_team_first(path):
    name = str(path.relative_to(ROOT))
    assert [found for found in unscoped(path.read_text()) if (name, found) not in ALLOWED] == []


def test_every_exception_is_still_made():
    made = {(name, found) for name, _ in ALLOWED for found in unscoped((ROOT / name).read_text())}
    assert set(ALLOWED) <= made
