"""A small Engines API for tests: a real HTTP server that answers in the format it is told to, and keeps a log."""

import base64
import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY, READER_KEY = "inf_full-access", "inf_only-reading"
SCOPES = {KEY: [], READER_KEY: ["engines:read"]}


@dataclass
class Api:
    """What the contract suite needs to know of the API that it runs against."""

    base_url: str
    key: str
    reader_key: str  # engines:read only
    running: str  # an engine that is connected
    drainable: str  # one more, that a test may drain
    offline: str  # one that is not connected
    total: int


class Problem(Exception):
    def __init__(self, status: int, code: str, detail: str, **meta: Any) -> None:
        self.status, self.code, self.detail, self.meta = status, code, detail, meta


def engine(number: int, status: str) -> dict[str, Any]:
    return {
        "id": f"eng_{number}",
        "name": f"engine-{number}",
        "status": status,
        "config": {"name": f"engine-{number}", "api_key": ""},
        "workers": None if number % 2 else [None, {"id": f"w{number}", "status": "idle", "gpus": None}],
        "capabilities": None,
    }


@dataclass
class Fleet:
    format: str = "v2"
    engines: dict[str, dict[str, Any]] = field(default_factory=dict)
    seen: list[tuple[str, str, dict[str, str], bytes]] = field(default_factory=list)

    def answer(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Any:
        self.seen.append((method, path, headers, body))
        scopes = self._scopes(headers)
        match method, *path.strip("/").split("/"):
            case "GET", "me":
                return {"id": "user_1", "team_id": "team_1", "key": {"name": "k", "scopes": scopes}}
            case "POST", "engines", "list":
                return self._page(json.loads(body or b"{}"))
            case "GET", "engines", uid:
                return self._engine(uid)
            case "POST", "engines", uid, "drain":
                return self._drain(uid, scopes)
            case "GET", "tasks", "task_1":
                return {"id": "task_1", "status": 10, "output": {"sum": 3}}
        raise Problem(404, "not_found", "there is no such route")

    def _scopes(self, headers: dict[str, str]) -> list[str]:
        key = headers.get("authorization", "").removeprefix("Bearer ")
        if key not in SCOPES:
            raise Problem(401, "unauthorized", "the key is not known")
        return SCOPES[key]

    def _engine(self, uid: str) -> dict[str, Any]:
        if uid not in self.engines:
            raise Problem(404, "not_found", f"there is no engine {uid}")
        return self.engines[uid]

    def _page(self, asked: dict[str, Any]) -> dict[str, Any]:
        try:
            start = int(base64.b64decode(asked.get("cursor") or base64.b64encode(b"0"), validate=True))
        except ValueError:
            raise Problem(400, "invalid_request", "the cursor is not one of ours") from None
        end = start + asked.get("limit", 20)
        more = end < len(self.engines)
        cursor = base64.b64encode(str(end).encode()).decode() if more else None
        return {"items": list(self.engines.values())[start:end] or None, "next_cursor": cursor, "has_next": more}

    def _drain(self, uid: str, scopes: list[str]) -> Any:
        if scopes and "engines:write" not in scopes:
            raise Problem(403, "insufficient_scope", "the key may only read", required_scope="engines:write")
        found = self._engine(uid)
        if found["status"] not in ("running", "draining"):
            raise Problem(409, "engine_offline", "the engine is offline.")
        found["status"] = "draining"
        return found

    def success(self, data: Any) -> Any:
        match self.format:
            case "v1":
                return {"success": True, "status": 200, "data": data}
            case "v3":
                return {"data": data, "messages": [{"level": "warning", "code": "note", "message": "mind the gap"}]}
        return data

    def failure(self, problem: Problem) -> Any:
        if self.format == "v1":
            error = {"code": problem.code, "message": problem.detail, "meta": problem.meta}
            return {"success": False, "status": problem.status, "error": error}
        kind = f"https://api.inference.sh/errors/{problem.code}"
        return {
            "type": kind,
            "title": problem.code,
            "status": problem.status,
            "detail": problem.detail,
            "meta": problem.meta,
        }


def _handler(fleet: Fleet) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def handle_any(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            headers = {name.lower(): value for name, value in self.headers.items()}
            try:
                status, answer = 200, fleet.success(fleet.answer(self.command, self.path, headers, body))
            except Problem as problem:
                status, answer = problem.status, fleet.failure(problem)
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = handle_any  # noqa: N815 (names of the standard library)

        def log_message(self, *_: Any) -> None:
            pass

    return Handler


@contextlib.contextmanager
def serving(fleet: Fleet) -> Iterator[str]:
    """Serve the fleet on a free port of this machine; yield its address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(fleet))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
