"""A stand-in for an Engines API that sells time. It keeps its own books, and misbehaves as it is told, over real TCP.

`charges` is the truth that the portal's ledger is compared with.
"""

import contextlib
import json
import socket
import struct
import threading
from datetime import datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

PRICE = 250  # cents an hour


class PaidApi:
    """`faults` says what happens to the next extends, one each: a name of _Handler's `fault_…`, and its arguments.

    `reads` is a status for reads to fail with; `released` lets answers go that were held back.
    """

    def __init__(self, port=0):
        self.lock = threading.Lock()
        self.engines = {}
        self.charges = []
        self.requests = []
        self.connections = []  # the number of requests on each
        self.faults = []
        self.reads = None
        self.keys = []
        self.refused = set()
        self.balance = 100 * 10**8
        self.released = threading.Event()
        self.before_extend = lambda: None
        self.acts_on_halves = False
        server = self._server = _Server(("127.0.0.1", port), _Handler)
        server.api = self
        self.port = server.server_port
        self.url = f"http://127.0.0.1:{self.port}"
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self):
        self.released.set()
        self._server.shutdown()
        self._server.server_close()

    def add(self, uid, ends, price=PRICE, **more):
        instance = {"cloud": "memory", "hourly_price": price, "auto_delete": {"date_threshold": ends.isoformat()}}
        self.engines[uid] = {
            "id": uid,
            "name": uid,
            "status": "running",
            "created_at": "2026-11-01T00:00:00Z",
            "instance": instance,
            "workers": [],
        } | more

    def ends(self, uid):
        return datetime.fromisoformat(self.engines[uid]["instance"]["auto_delete"]["date_threshold"])

    def move_end(self, uid, by):
        """Somebody outside the portal changes the deadline."""
        self.engines[uid]["instance"]["auto_delete"]["date_threshold"] = (self.ends(uid) + by).isoformat()

    def extend(self, uid, hours):
        """Charge, and move the deadline: what an extend is."""
        with self.lock:
            price = self.engines[uid]["instance"]["hourly_price"]
            hours = Decimal(str(hours))
            self.charges.append((uid, hours, int(price * 10**6 * hours)))
            self.move_end(uid, timedelta(seconds=float(hours * 3600)))
            self.balance -= int(price * 10**6 * hours)

    @property
    def charged(self):
        return sum(microcents for _, _, microcents in self.charges)

    def posts(self):
        return [path for method, path in self.requests if method == "POST" and path.endswith("/extend")]


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_):
        pass  # clients that go away are what is being tested


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def setup(self):
        super().setup()
        self.number = len(self.server.api.connections)
        self.server.api.connections.append(0)

    def log_message(self, *_):
        pass

    def do_GET(self):
        api = self._begun("GET")
        path = self.path.split("?")[0].split("/")[1:]
        key = (self.headers["Authorization"] or "").removeprefix("Bearer ")
        if key in api.refused:
            return self.problem(401, "unauthorized")
        if path[0] == "me":
            return self.json(200, {"key": {"scopes": []}})
        if path == ["billing", "balance"]:
            return self.json(200, {"balance": api.balance, "held": 0, "currency": "usd", "status": "active"})
        if api.reads:
            return self.problem(api.reads, "internal")
        found = api.engines.get(path[1]) if path[0] == "engines" else None
        return self.json(200, found) if found else self.problem(404, "not_found")

    def do_POST(self):
        api = self._begun("POST")
        length, path = int(self.headers.get("Content-Length") or 0), self.path.split("/")[1:]
        text = self.rfile.read(length)
        if len(text) < length:  # the client died in the middle of it
            if api.acts_on_halves:
                api.extend(path[1], 3)
            self.close_connection = True
            return None
        body = json.loads(text or b"{}")
        if path == ["engines", "list"]:
            return self.json(200, {"items": list(api.engines.values()), "next_cursor": None, "has_next": False})
        api.keys.append(self.headers["Authorization"])
        api.before_extend()
        uid, hours = path[1], body["additional_hours"]
        name, *arguments = api.faults.pop(0) if api.faults else ("none",)
        return getattr(self, f"fault_{name}")(uid, hours, *arguments)

    def _begun(self, method):
        api = self.server.api
        api.connections[self.number] += 1
        if self.path != "/engines/list":  # the fleet's own readings are not what is counted
            api.requests.append((method, self.path.split("?")[0]))
        return api

    def fault_none(self, uid, hours):
        self.server.api.extend(uid, hours)
        self.json(200, self.server.api.engines[uid])

    def fault_status(self, uid, hours, status, code="trouble", applied=False, headers=()):
        if applied:
            self.server.api.extend(uid, hours)
        self.problem(status, code, headers)

    def fault_silence(self, uid, hours, applied=False):
        if applied:
            self.server.api.extend(uid, hours)
        self.server.api.released.wait(20)
        self.close_connection = True

    def fault_reset(self, uid, hours, applied=False):
        if applied:
            self.server.api.extend(uid, hours)
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True

    def fault_half(self, uid, hours):
        self.server.api.extend(uid, hours)
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(b'{"id": "eng')
        self.close_connection = True

    def fault_body(self, uid, hours, body, applied=True):
        if applied:
            self.server.api.extend(uid, hours)
        self.raw(200, body)

    def fault_wrong_end(self, uid, hours, by):
        self.server.api.extend(uid, hours)
        self.server.api.move_end(uid, by)
        self.json(200, self.server.api.engines[uid])

    def fault_redirect(self, uid, hours, to):
        self.raw(307, b"", [("Location", to)])

    def json(self, status, body, headers=()):
        self.raw(status, json.dumps(body).encode(), headers)

    def problem(self, status, code, headers=()):
        kind = f"https://api.inference.sh/errors/{code}"
        self.json(status, {"type": kind, "title": code, "status": status, "detail": f"{code} <b>"}, headers)

    def raw(self, status, payload, headers=()):
        with contextlib.suppress(OSError):
            self.send_response(status)
            for name, value in headers:
                self.send_header(name, value)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)
