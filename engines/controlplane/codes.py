"""Every code that a refusal can have, with an example of it, and the operations that answer with it."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from engines.controlplane.problems import CODES, Problem, from_status


@dataclass(frozen=True)
class Asked:
    """What of an operation decides which refusals it has."""

    name: str
    scope: str | None  # None: it needs no key
    takes_key: bool = False  # an Idempotency-Key


Known = tuple[int, str]  # status and code


@dataclass(frozen=True)
class Example:
    detail: str
    meta: dict[str, Any] = field(default_factory=dict)


EXAMPLES: dict[Known, Example] = {
    (400, "invalid_request"): Example("The body is not a JSON object that can be stored."),
    (400, "validation_error"): Example("additional_hours must be a number greater than 0: a second or more."),
    (400, "extend_failed"): Example("Its machine is deleting, not active."),
    (400, "create_failed"): Example("The cloud refused: no machines today. Nothing was spent."),
    (401, "unauthorized"): Example("This key is not valid. It may have been revoked or have expired."),
    (402, "payment_required"): Example(
        "This costs $4.80, and $1.20 can be spent. Nothing was changed.",
        {"needed_microcents": 480_000_000, "available_microcents": 120_000_000},
    ),
    (403, "insufficient_scope"): Example(
        "This key lacks the scope engines:write.", {"required_scope": "engines:write"}
    ),
    (403, "forbidden"): Example("This socket is for engines, not for browsers."),
    (404, "not_found"): Example("There is no such engine."),
    (405, "method_not_allowed"): Example(from_status(405).detail),
    (409, "conflict"): Example("The engine rack-3 is draining. Nothing was changed."),
    (409, "engine_offline"): Example("The engine rack-3 is not connected. Nothing was changed."),
    (409, "restart_unsupported"): Example("Only the machine of a cloud engine can be restarted from here."),
    (409, "invalid_transition"): Example("The task has ended. Nothing was changed."),
    (409, "request_in_progress"): Example("The same request is under way. Ask again in a moment.", {"retry_after": 1}),
    (409, "outcome_unknown"): Example(
        "The first request with this Idempotency-Key ended without an answer. Read what it was to change, then decide."
    ),
    (409, "shown_once"): Example("The request with this Idempotency-Key was carried out; its answer is shown once."),
    (413, "payload_too_large"): Example("The body may have 1048576 bytes."),
    (422, "validation_error"): Example(
        "app: Input should be a valid string",
        {"fields": [{"field": "app", "message": "Input should be a valid string"}]},
    ),
    (429, "rate_limited"): Example("You may send 1200 such requests in 60 s. Ask again in 17 s.", {"retry_after": 17}),
    (500, "internal_error"): Example("Something went wrong here. The log knows it by the request id."),
    (502, "provider_unclear"): Example(
        "The cloud gave no clear answer. Read the engine again, and do not repeat this."
    ),
    (502, "releases_unavailable"): Example("The place where releases are kept does not answer."),
}

# Beyond what any operation may answer.
CONFLICT, OFFLINE, UNCLEAR, PAYMENT = (
    (409, "conflict"),
    (409, "engine_offline"),
    (502, "provider_unclear"),
    (402, "payment_required"),
)
LIST = ((400, "validation_error"),)
OWN: dict[str, tuple[Known, ...]] = {
    "list_engines": LIST,
    "read_engines": LIST,
    "list_tasks": LIST,
    "list_keys": LIST,
    "list_transactions": LIST,
    "create_engine": ((400, "create_failed"), PAYMENT, UNCLEAR),
    "delete_engine": (CONFLICT,),
    "drain_engine": (OFFLINE, CONFLICT),
    "update_engine": (OFFLINE, CONFLICT),
    "extend_engine": ((400, "validation_error"), (400, "extend_failed"), PAYMENT, CONFLICT, UNCLEAR),
    "stop_engine": (OFFLINE, CONFLICT),
    "restart_engine": (OFFLINE, CONFLICT, (409, "restart_unsupported")),
    "transfer_engine": (CONFLICT,),
    "get_releases": ((502, "releases_unavailable"),),
    "cancel_task": ((409, "invalid_transition"),),
    "create_key": ((409, "shown_once"),),
    "instance_types": (UNCLEAR,),
    "engine_socket": ((403, "forbidden"),),
}
HEEDED: tuple[Known, ...] = ((409, "request_in_progress"), (409, "outcome_unknown"))


def of(asked: Asked, status: int) -> Iterator[str]:
    """Yield the codes that the operation has with this status, its own ones first."""
    found = [code for own, code in OWN.get(asked.name, ()) if own == status]
    found += [code for heeded, code in HEEDED if asked.takes_key and heeded == status]
    usual = "insufficient_scope" if status == 403 else CODES.get(status, "internal_error")
    if status not in (409, 502) or not found:
        found.append(usual)
    yield from dict.fromkeys(found)


def example(status: int, code: str) -> Problem:
    known = EXAMPLES[status, code]
    return Problem(status, code, known.detail, **known.meta)
