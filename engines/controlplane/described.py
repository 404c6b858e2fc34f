"""/openapi.json: what ninja makes of the routes, with what it cannot know: formats, headers, examples, the socket."""

import json
from collections.abc import Iterator
from typing import Any

from ninja import NinjaAPI

from engines import wire
from engines.controlplane import codes, formats, idempotency, streams
from engines.controlplane.auth import Bearer
from engines.controlplane.codes import Asked
from engines.controlplane.examples import EXAMPLES
from engines.controlplane.problems import from_status

Document = dict[str, Any]

VERSION_HEADER = {
    "name": formats.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "enum": ["1", "2"]},
    "description": "2: the bare objects described here. 1, or none: the same in an envelope.",
}
IDEMPOTENCY_HEADER = {
    "name": idempotency.HEADER,
    "in": "header",
    "required": False,
    "schema": {"type": "string", "minLength": 1, "maxLength": idempotency.LONGEST, "pattern": "^[!-~]+$"},
    "description": "The same request again under the same key is answered as the first time, not done again.",
}
# What answers carry beside their body.
REQUEST_ID, RETRY, CHALLENGE = "X-Request-ID", "Retry-After", "WWW-Authenticate"
LEFT, RESET = "X-RateLimit-Remaining", "X-RateLimit-Reset"
HEADERS = {
    REQUEST_ID: ("string", "Names this request in the server's log, too. One that was sent is taken over."),
    RETRY: ("integer", "Seconds after which to ask again."),
    CHALLENGE: ("string", "`Bearer`."),
    LEFT: ("integer", "How many such requests the key may send before the reset."),
    RESET: ("integer", "When that is, in seconds since 1970."),
    idempotency.REPLAYED: ("string", "`true`: this is the answer of the first request under the Idempotency-Key."),
}
OLD_PROBLEM = {
    "type": "object",
    "required": ["success", "status", "error"],
    "properties": {
        "success": {"const": False},
        "status": {"type": "integer"},
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "meta": {"type": "object"}},
        },
        "request_id": {"type": "string"},
    },
}


class Described(NinjaAPI):
    """A NinjaAPI whose document tells the whole truth."""

    def get_openapi_operation_id(self, operation: Any) -> str:
        return str(operation.view_func.__name__)

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        document = super().get_openapi_schema(*args, **kwargs)
        for path, method, known in self._operations():
            operation = document["paths"][path][method]
            _complete(operation, path, _asked(operation, known))
        document["paths"]["/engines/{engine_id}/ws"] = {"get": SOCKET}
        document["components"] |= {"headers": _headers(), "examples": dict(_examples())}
        return document

    def _operations(self) -> Iterator[tuple[str, str, Any]]:
        for router in self._get_bound_routers():
            for path, view in router.path_operations.items():
                shown = [operation for operation in view.operations if operation.include_in_schema]
                yield from ((path, method.lower(), operation) for operation in shown for method in operation.methods)


def _asked(operation: Document, known: Any) -> Asked:
    scopes = [auth.scope for auth in known.auth_callbacks if isinstance(auth, Bearer)]
    takes_key = getattr(known.view_func, idempotency.HEEDS, False)
    return Asked(operation["operationId"], scopes[0] if scopes else None, takes_key)


def _complete(operation: Document, path: str, asked: Asked) -> None:
    if path != "/healthz":
        operation.setdefault("parameters", []).append(VERSION_HEADER)
    if asked.takes_key:
        operation["parameters"].append(IDEMPOTENCY_HEADER)
    if asked.scope:
        operation["security"] = [{name: [asked.scope] for name in each} for each in operation["security"]]
        operation["description"] = f"{operation.get('description', '')}\n\nScope: `{asked.scope}`.".strip()
    body = operation.get("requestBody")
    if body:
        _exemplify(body["content"])
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            answer |= _problem(asked, int(status), answer["content"]["application/json"]["schema"])
        elif path.endswith("/stream") or path == "/events":
            answer["content"] = _stream(answer["content"]["application/json"]["schema"], named=path == "/events")
        elif "content" in answer:
            _exemplify(answer["content"])
        answer["headers"] = {name: {"$ref": f"#/components/headers/{name}"} for name in _headers_of(asked, int(status))}


def _headers_of(asked: Asked, status: int) -> Iterator[str]:
    yield REQUEST_ID
    if status == 401:
        yield CHALLENGE
    elif asked.scope is not None:
        yield from (LEFT, RESET)
    if status == 429 or (status == 409 and asked.takes_key):
        yield RETRY
    if asked.takes_key and status < 300:
        yield idempotency.REPLAYED


def _headers() -> Document:
    return {name: {"schema": {"type": kind}, "description": text} for name, (kind, text) in HEADERS.items()}


def _stream(schema: Document, *, named: bool) -> Document:
    """Three events and a heartbeat in each form, as examples."""
    objects = [(name, EXAMPLES[name]) for name in ("EngineOut", "TaskOut") if named or name == _schema_name(schema)]
    content = {}
    for kind, write in streams.FORMS.items():
        events = [
            write({"EngineOut": "engines", "TaskOut": "tasks"}[name] if named else "", one) for name, one in objects
        ]
        example = b"".join([*events, write("", None)]).decode()
        content[kind] = {"schema": {"type": "string"}, "x-event-schema": schema, "example": example}
    return content


def _exemplify(content: Document) -> None:
    for media in content.values():
        name = _schema_name(media["schema"])
        if name in EXAMPLES:
            media["example"] = EXAMPLES[name]


def _schema_name(schema: Document) -> str:
    if "items" in schema:
        return "[" + _schema_name(schema["items"]) + "]"
    # An optional body is written as "this or null".
    choices = [schema, *schema.get("anyOf", [])]
    return next((str(choice["$ref"]).rpartition("/")[2] for choice in choices if "$ref" in choice), "")


def _problem(asked: Asked, status: int, schema: Document) -> Document:
    """Problems of version 2 and of none, and of version 1: each code with an example."""
    names = list(codes.of(asked, status))
    kinds = {formats.PROBLEM_JSON: (schema, ""), "application/json": (OLD_PROBLEM, "_v1")}
    return {
        "description": f"{from_status(status).title}: {', '.join(f'`{name}`' for name in names)}.",
        "content": {
            kind: {
                "schema": shape,
                "examples": {name: {"$ref": f"#/components/examples/{status}_{name}{suffix}"} for name in names},
            }
            for kind, (shape, suffix) in kinds.items()
        },
    }


def _examples() -> Iterator[tuple[str, Document]]:
    for status, code in codes.EXAMPLES:
        for version, suffix in (("2", ""), ("1", "_v1")):
            body, _ = formats.failure(version, codes.example(status, code), "9f0c8f7be2a94d0f")
            yield f"{status}_{code}{suffix}", {"value": json.loads(body)}


_SOCKET = Asked("engine_socket", "engines:write")
SOCKET: Document = {
    "operationId": "engine_socket",
    "tags": ["engines"],
    "summary": "Engine Socket",
    "description": "An engine's WebSocket, for engines only: the engine's own key with engines:write, subprotocol "
    f'`{wire.SUBPROTOCOL}`, text frames `{{"type": …, "data": {{…}}}}`. From the engine: '
    f"{', '.join(wire.ENGINE_FRAMES)}. To the engine: {', '.join(wire.SERVER_FRAMES)}.",
    "parameters": [
        {"name": "engine_id", "in": "path", "required": True, "schema": {"type": "string"}},
        {
            "name": "Sec-WebSocket-Protocol",
            "in": "header",
            "required": True,
            "schema": {"type": "string", "const": wire.SUBPROTOCOL},
        },
    ],
    "security": [{"Bearer": ["engines:write"]}],
    "responses": {
        "101": {"description": "The socket is open: say hello."},
        **{
            str(status): {
                **_problem(_SOCKET, status, {"$ref": "#/components/schemas/ProblemOut"}),
                "headers": {name: {"$ref": f"#/components/headers/{name}"} for name in headers},
            }
            for status, headers in {
                400: [REQUEST_ID],
                401: [REQUEST_ID, CHALLENGE],
                403: [REQUEST_ID],
                404: [REQUEST_ID],  # one that is no WebSocket handshake, too
                429: [REQUEST_ID, RETRY],
                500: [REQUEST_ID],
            }.items()
        },
    },
}
