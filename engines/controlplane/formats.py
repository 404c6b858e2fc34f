"""The contract's three formats (ENGINES_API.md 1.3 and 1.6), spelled once for HTTP and for the socket's handshake.

`version` is the X-API-Version header: "1" is the old envelope, "2" bare objects and problem+json, anything else a
superset that every generation of clients reads.
"""

import json
from collections.abc import Iterable
from typing import Any

from engines.controlplane.problems import Problem

HEADER = "X-API-Version"
PROBLEM_JSON = "application/problem+json"
TYPE = "https://api.inference.sh/errors/"


def success(version: str, status: int, body: bytes, messages: Iterable[dict[str, str]] = ()) -> bytes:
    """Return the answer around `body`, a JSON document, which is not parsed again."""
    if version == "2":
        return body
    said = b"" if version == "1" else b',"messages":' + json.dumps(list(messages)).encode()
    return b'{"success":true,"status":%d,"data":%s%s}' % (status, body or b"null", said)


def failure(version: str, problem: Problem, request_id: str) -> tuple[bytes, str]:
    """Return body and content type."""
    error: dict[str, Any] = {"code": problem.code, "message": problem.detail}
    if problem.meta:
        error["meta"] = problem.meta
    if version == "1":
        old = {"success": False, "status": problem.status, "error": error, "request_id": request_id}
        return json.dumps(old).encode(), "application/json"
    document: dict[str, Any] = {
        "type": TYPE + problem.code,
        "title": problem.title,
        "status": problem.status,
        "detail": problem.detail,
        "request_id": request_id,
    }
    if problem.meta:
        document["meta"] = problem.meta
    if version != "2":
        document |= {"success": False, "error": error}
    return json.dumps(document).encode(), PROBLEM_JSON
