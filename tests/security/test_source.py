"""ASVS 1.2.4, 12.3.2: what a reading of the source rules out, for all inputs at once."""

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FILES = [path for room in ("portal", "engines") for path in sorted((ROOT / room).rglob("*.py"))]
# Where SQL is put together: of our own words alone, as a look at each has shown. All values are parameters.
PUT_TOGETHER = {
    "portal/audit/guard.py": "triggers, for tables that the code names",
    "portal/audit/rows.py": "the two databases' words for the same columns",
    "portal/accounts/expired.py": "the name of a setting's table",
    "engines/controlplane/dispatch.py": "the statuses of an enum, and a mark for each parameter",
    "engines/controlplane/keys.py": "one of two ends of the same statement",
    "engines/controlplane/statements.py": "statements of the two files above, and the columns of a model",
}


def calls(path):
    """Every call in the file, with the last word of its name."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield getattr(node.func, "attr", getattr(node.func, "id", "")), node


def is_constant(node):
    return isinstance(node, ast.Constant) or (isinstance(node, ast.Name) and node.id.isupper())


def test_nothing_is_asked_of_the_database_in_words_of_its_own():
    """No RawSQL or extra at all; and what a database is asked as text is never put together from what came in."""
    words = {"RawSQL", "extra"}
    found = [f"{path.relative_to(ROOT)}: {name}" for path in FILES for name, _ in calls(path) if name in words]
    assert found == []
    built = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        if "migrations" not in path.parts and str(path.relative_to(ROOT)) not in PUT_TOGETHER
        for name, node in calls(path)
        if name in ("execute", "raw") or ast.unparse(node.func) == "statements.ask"
        if node.args and not is_constant(node.args[0])
    ]
    assert built == []


def test_no_certificate_is_taken_on_trust():
    words = re.compile(r"verify\s*=\s*False|CERT_NONE|_create_unverified_context|check_hostname\s*=\s*False")
    assert [str(path) for path in FILES if words.search(path.read_text())] == []


def test_whoever_locks_a_team_lets_others_write_rows_that_name_it():
    """An audit entry names its team: who holds the log’s end would wait for who holds the team and wants the log."""
    held = [
        f"{path.relative_to(ROOT)}:{node.lineno}"
        for path in FILES
        for name, node in calls(path)
        if name == "select_for_update" and ast.unparse(node.func).startswith("Team.objects")
        if "no_key=True" not in ast.unparse(node)
    ]
    assert held == []
