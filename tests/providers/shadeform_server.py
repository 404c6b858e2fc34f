"""A stand-in for Shadeform: the documented wire format over real HTTP, with a truth of its own and faults on demand."""

import contextlib
import json
import socket
import struct
import threading
import uuid
from collections import deque
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "shade-do-not-show-me"

INSTANCE_TYPE = {
    "cloud": "hyperstack",
    "shade_instance_type": "A6000",
    "cloud_instance_type": "gpu_1x_a6000",
    "hourly_price": 210,
    "deployment_type": "vm",
    "configuration": {"memory_in_gb": 12, "num_gpus": 1, "gpu_type": "A6000", "os_options": ["ubuntu22.04"]},
    "availability": [
        {"region": "canada-1", "available": False, "display_name": "Toronto"},
        {"region": "canada-2", "available": True, "display_name": "Montreal"},
    ],
    "boot_time": {"min_boot_in_sec": 180, "max_boot_in_sec": 300},
}


class Refusal(Exception):
    def __init__(self, status: int, error: str) -> None:
        self.status, self.error = status, error


class ShadeformStandIn:
    """The faults of an operation are used up one a request: a status that refuses, or a word of two parts.

    The first part says how (500, cut, reset, half, slow), the second whether the operation is done all the same
    (before, after).
    """

    def __init__(self) -> None:
        self.instances: dict[str, dict[str, Any]] = {}
        self.requests: list[tuple[str, str, dict[str, str], Any]] = []  # method, path, headers, body
        self.restarts: list[str] = []
        self.answers: dict[str, bytes] = {}  # by operation: what to answer instead, once it is done
        self.words = ""  # what an error says
        self.released = threading.Event()
        self._faults: dict[str, deque[str | int]] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"api": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @contextlib.contextmanager
    def running(self) -> Iterator["ShadeformStandIn"]:
        thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield self
        finally:
            self.released.set()
            self._server.shutdown()
            self._server.server_close()
            thread.join()

    def fault(self, operation: str, *faults: str | int) -> None:
        self._faults.setdefault(operation, deque()).extend(faults)

    def next_fault(self, operation: str) -> str | int:
        waiting = self._faults.get(operation)
        return waiting.popleft() if waiting else ""

    def sent(self, operation: str) -> list[Any]:
        """The bodies of all requests for this operation."""
        return [body for _, path, _, body in self.requests if path.split("?")[0].endswith("/" + operation)]

    # What it does

    def types(self, _: Any) -> Any:
        return {"instance_types": [INSTANCE_TYPE]}

    def instances_list(self, _: Any) -> Any:
        return {"instances": [one for one in self.instances.values() if one["status"] != "deleted"]}

    def create(self, body: Any) -> Any:
        for name in ("cloud", "region", "shade_instance_type", "shade_cloud", "name"):
            if name not in body:
                raise Refusal(400, f"{name} is required")
        machine_id = str(uuid.uuid4())
        kept = ("name", "cloud", "region", "shade_instance_type", "shade_cloud", "launch_configuration", "tags")
        self.instances[machine_id] = {
            "id": machine_id,
            **{name: body[name] for name in kept if name in body},
            "cloud_instance_type": "gpu_1x_a6000",
            "cloud_assigned_id": "13b057d7",
            "configuration": INSTANCE_TYPE["configuration"],
            "ip": "",
            "ssh_user": "shadeform",
            "ssh_port": 22,
            "status": "creating",
            "cost_estimate": "0",
            "hourly_price": INSTANCE_TYPE["hourly_price"],
            "envs": [{"name": "SECRET", "value": "of the machine"}],
            "auto_delete": body.get("auto_delete", {}),
            "created_at": datetime.now(UTC).isoformat(),
            "deleted_at": "0001-01-01T00:00:00Z",
        }
        return {"id": machine_id, "cloud_assigned_id": "13b057d7"}

    def info(self, _: Any, machine_id: str) -> Any:
        return self._existing(machine_id)

    def update(self, body: Any, machine_id: str) -> None:
        machine = self._existing(machine_id)
        for name, value in body.items():
            if isinstance(value, dict):
                merged = {**(machine.get(name) or {}), **value}
                machine[name] = {part: given for part, given in merged.items() if given is not None}
            else:
                machine[name] = value

    def delete(self, _: Any, machine_id: str) -> None:
        self._existing(machine_id)["status"] = "deleting"

    def restart(self, _: Any, machine_id: str) -> None:
        if self._existing(machine_id)["status"] != "active":
            raise Refusal(409, "instance is not active")
        self.restarts.append(machine_id)

    def _existing(self, machine_id: str) -> dict[str, Any]:
        if machine_id not in self.instances or self.instances[machine_id]["status"] == "deleted":
            raise Refusal(404, "instance not found")
        return self.instances[machine_id]


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    api: ShadeformStandIn

    def do_GET(self) -> None:
        self._serve("GET")

    def do_POST(self) -> None:
        self._serve("POST")

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _serve(self, method: str) -> None:
        text = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        body = json.loads(text) if text else None
        self.api.requests.append((method, self.path, dict(self.headers), body))
        operation, arguments = self._operation(method)
        fault = self.api.next_fault(operation)
        if isinstance(fault, int):
            return self._answer(fault, {"error": self.api.words})
        if not fault.endswith("_before"):
            status, answer = self._done(operation, body, arguments)
            fault = fault if status < 400 else ""
        if not fault:
            return self._answer(status, answer, self.api.answers.get(operation))
        return self._fail(fault.rpartition("_")[0])

    def _operation(self, method: str) -> tuple[str, tuple[str, ...]]:
        parts = self.path.partition("?")[0].removeprefix("/v1/instances").strip("/").split("/")
        match (method, *parts):
            case ("GET", ""):
                return "instances_list", ()
            case ("GET", "types") | ("POST", "create"):
                return parts[0], ()
            case ("GET", machine_id, "info") | ("POST", machine_id, "update" | "delete" | "restart"):
                return parts[1], (machine_id,)
        return "", ()

    def _done(self, operation: str, body: Any, arguments: tuple[str, ...]) -> tuple[int, Any]:
        if self.headers.get("X-API-KEY") != KEY:
            return 401, {"error": "invalid API key"}
        if not operation:
            return 404, {"error": "no such path"}
        try:
            return 200, getattr(self.api, operation)(body, *arguments)
        except Refusal as refusal:
            return refusal.status, {"error": refusal.error}

    def _fail(self, how: str) -> None:
        self.close_connection = True
        if how == "500":
            self._answer(500, {"error": "internal error"})
        elif how == "slow":
            self.api.released.wait(60)
        elif how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif how == "half":
            self.wfile.write(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"id": "')

    def _answer(self, status: int, answer: Any, instead: bytes | None = None) -> None:
        body = b"" if answer is None else json.dumps(answer).encode()
        body = body if instead is None else instead
        self.send_response(status)
        if status in (301, 302, 307):
            self.send_header("Location", f"{self.api.url}/instances/elsewhere")
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
