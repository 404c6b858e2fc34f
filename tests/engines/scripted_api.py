"""A stand-in for an Engines API that can be told to misbehave. It speaks the contract over real HTTP.

It keeps its own truth: which engines it has, and every request that reached it.
"""

import json
import socket
import struct
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# The status that an engine has once its API has taken the request.
EFFECTS = {"drain": "draining", "update": "running", "stop": "stopping", "restart": "restarting"}


class ScriptedApi:
    def __init__(self):
        self.engines = {}
        self.listed = {}  # what its list shows in place of these
        self.requests = []
        self.bodies = {}  # the last body of each verb
        self.headers = {}  # the last headers of each request
        self.trouble = {}  # "POST /engines/eng_1/drain" -> (status, code) | "reset" | "reset after" | "silence"
        self.scopes = ["engines:read", "engines:write"]
        self.page = 100
        self.pages = None  # lists of engines that its list shows in place of these
        self.expired = False  # whether its cursors are
        self.ended = threading.Event()
        self.refused = set()  # keys
        self.key_id = None  # the calling key's, if the API says
        self.releases = None
        self.types = None  # machines that it rents
        self.ahead = 0  # seconds by which its clock is ahead
        server = self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        server.daemon_threads = True
        server.api = self
        self.url = f"http://127.0.0.1:{server.server_port}"
        self._thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
        self._thread.start()

    def close(self):
        self.ended.set()
        self._server.shutdown()
        self._server.server_close()

    def sent(self, method, path):
        return [request for request in self.requests if request == f"{method} {path}"]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def date_time_string(self, timestamp=None):
        return formatdate(time.time() + self.server.api.ahead, usegmt=True)

    def do_GET(self):
        self._serve("GET")

    def do_POST(self):
        self._serve("POST")

    def do_DELETE(self):
        self._serve("DELETE")

    def _serve(self, method):
        api = self.server.api
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length) or b"{}") if length else {}
        asked = f"{method} {self.path.split('?')[0]}"
        trouble = api.trouble.get(asked)
        if trouble == "reset":
            return self._reset()
        if (self.headers["Authorization"] or "").removeprefix("Bearer ") in api.refused:
            return self._problem(401, "unauthorized")
        api.requests.append(asked)
        api.headers[asked] = self.headers
        if trouble == "silence":
            return api.ended.wait(10)
        if isinstance(trouble, tuple):
            status, code, *more = trouble
            return self._problem(status, code, **dict(more))
        if api.pages and body.get("cursor") and api.expired:
            return self._problem(400, "invalid_request")
        answer = self._answer(method, asked.split("/")[1:], body)
        if trouble == "reset after":
            return self._reset()
        return self._problem(404, "not_found") if answer is None else self._json(200, answer)

    def _answer(self, method, path, body):
        api = self.server.api
        match path:
            case ["me"]:
                return {"key": {"scopes": api.scopes} | ({"id": api.key_id} if api.key_id else {})}
            case ["apikeys", uid] if method == "DELETE" and uid == api.key_id:
                return {}
            case ["engines", "list"] if api.pages:
                number = int(body.get("cursor") or 0)
                more = number + 1 < len(api.pages)
                items, cursor = api.pages[number], str(number + 1) if more else None
                return {"items": items, "next_cursor": cursor, "has_next": more}
            case ["engines", "list"]:
                start = int(body.get("cursor") or 0)
                items = list((api.engines | api.listed).values())
                more = start + api.page < len(items)
                return {
                    "items": items[start : start + api.page],
                    "next_cursor": str(start + api.page) if more else None,
                    "has_next": more,
                }
            case ["engines", "releases"]:
                return api.releases
            case ["instances", "types"]:
                return api.types
            case ["engines", uid] if method == "DELETE":
                return api.engines.pop(uid, None)
            case ["engines", uid] if method == "POST" and uid in api.engines:
                api.engines[uid] = api.engines[uid] | body
                return api.engines[uid]
            case ["engines", uid]:
                return api.engines.get(uid)
            case ["engines", uid, verb] if uid in api.engines and verb in EFFECTS:
                api.bodies[verb] = body
                api.engines[uid] = {**api.engines[uid], "status": EFFECTS[verb]}
                return api.engines[uid]
        return None

    def _json(self, status, body, content_type="application/json", headers=()):
        payload = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(payload)))
        for name, value in dict(headers).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(payload)

    def _problem(self, status, code, **headers):
        body = {"type": f"https://api.inference.sh/errors/{code}", "title": code, "status": status, "detail": code}
        self._json(status, body, "application/problem+json", headers)

    def _reset(self):
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.connection.close()
        self.close_connection = True
