"""/openapi.json: what ninja makes of the routes, with what it cannot know: formats, headers, examples, the socket."""

from typing import Any

from ninja import NinjaAPI

from engines import wire
from engines.controlplane import formats, idempotency
from engines.controlplane.examples import EXAMPLES
from engines.controlplane.problems import CODES, from_status

Document = dict[str, Any]

STREAMS = ("text/event-stream", "application/x-ndjson")
CHANGING = ("post", "delete")
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


class Described(NinjaAPI):
    """A NinjaAPI whose document tells the whole truth."""

    def get_openapi_operation_id(self, operation: Any) -> str:
        return str(operation.view_func.__name__)

    def get_openapi_schema(self, *args: Any, **kwargs: Any) -> Any:
        document = super().get_openapi_schema(*args, **kwargs)
        for path, operations in document["paths"].items():
            for method, operation in operations.items():
                _complete(operation, path, method)
        document["paths"]["/engines/{engine_id}/ws"] = {"get": SOCKET}
        return document


def _complete(operation: Document, path: str, method: str) -> None:
    if path != "/healthz":
        operation.setdefault("parameters", []).append(VERSION_HEADER)
    if method in CHANGING and operation.get("security"):
        operation["parameters"].append(IDEMPOTENCY_HEADER)
    body = operation.get("requestBody")
    if body:
        _exemplify(body["content"])
    for status, answer in operation["responses"].items():
        if int(status) >= 400:
            operation["responses"][status] = _problem(int(status), answer)
        elif path.endswith("/stream") or path == "/events":
            schema = answer["content"]["application/json"]["schema"]
            answer["content"] = {kind: {"schema": {"type": "string"}, "x-event-schema": schema} for kind in STREAMS}
        elif "content" in answer:
            _exemplify(answer["content"])


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


def _problem(status: int, answer: Document) -> Document:
    schema = answer["content"]["application/json"]["schema"]
    example = {
        "type": formats.TYPE + CODES.get(status, "internal_error"),
        "title": from_status(status).title,
        "status": status,
        "detail": from_status(status).detail,
        "request_id": "9f0c8f7be2a94d0f",
    }
    # Version 1 answers problems, too, as application/json.
    kinds = (formats.PROBLEM_JSON, "application/json")
    return {
        "description": from_status(status).title,
        "content": {
            kind: {"schema": schema if kind == formats.PROBLEM_JSON else {}, "example": example} for kind in kinds
        },
    }


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
    "security": [{"Bearer": []}],
    "responses": {
        "101": {"description": "The socket is open: say hello."},
        "404": {"description": "Not a WebSocket handshake, or no such engine."},
    },
}
