"""What went wrong, in words a person can act on: for every code that an Engines API is known to give."""

import ast
from pathlib import Path

import pytest

from engines.api.advice import ADVICE, advice

CONTROL_PLANE = Path(__file__).resolve().parents[2] / "engines" / "controlplane"
# Contract, section 5, in its order.
CONTRACT = [
    "unauthorized",
    "forbidden",
    "not_found",
    "invalid_request",
    "rate_limited",
    "internal_error",
    "extend_failed",
    "engine_draining",
    "insufficient_scope",
    "requires_sign_in",
    "person_required",
    "otp_required",
    "account_deactivated",
    "account_banned",
    "team_role_required",
    "limit_exceeded",
    "payment_method_required",
    "payment_required",
    "feature_not_available",
    "entitlement_unavailable",
    "invalid_transition",
    "app_maintenance",
    "requirements_not_met",
    "validation_error",
    "conflict",
    "name_conflict",
    "already_exists",
    "not_configured",
    "method_not_allowed",
    "WORKER_LEASED",
    "APP_MISMATCH",
    "VERSION_MISMATCH",
    "SESSION_NOT_FOUND",
    "SESSION_EXPIRED",
    "SESSION_ENDED",
    "remote_offline",
    "remote_timeout",
    "engine_offline",
    "restart_unsupported",
]


def raised():
    """Every code that our own control plane writes out: in the table of bare statuses, and where it says Problem."""
    from engines.controlplane import problems

    found = set(problems.CODES.values())
    for path in CONTROL_PLANE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and getattr(node.func, "id", getattr(node.func, "attr", "")) == "Problem":
                found |= {arg.value for arg in node.args[1:2] if isinstance(arg, ast.Constant)}
    return sorted(found)


@pytest.mark.parametrize("code", CONTRACT)
def test_the_contracts_code_has_words(code):
    assert code in ADVICE


@pytest.mark.parametrize("code", raised())
def test_our_own_control_planes_code_has_words(code):
    assert code in ADVICE


def test_the_walk_finds_the_codes():
    assert {"engine_offline", "provider_unclear", "request_in_progress", "payload_too_large"} <= set(raised())


@pytest.mark.parametrize("code", ADVICE)
def test_the_words_are_whole_sentences_and_name_no_code(code):
    words = ADVICE[code]
    assert words[0].isupper()
    assert words.endswith(".")
    assert "_" not in words


@pytest.mark.parametrize(
    ("code", "status", "like"),
    [
        ("engine_offline", 409, "engine_offline"),
        ("made_up", 403, "forbidden"),
        ("", 402, "payment_required"),
        ("made_up", 503, "internal_error"),
        ("", 418, "invalid_request"),
    ],
)
def test_an_unknown_code_is_answered_by_its_status(code, status, like):
    assert advice(code, status) == ADVICE[like]


def test_where_nothing_came_back_there_is_nothing_to_explain():
    assert advice("", 0) == ""
