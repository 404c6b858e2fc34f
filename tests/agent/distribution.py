"""A host that releases are fetched from: a real HTTP server whose every answer a test may change."""

import hashlib
import http.server
import io
import json
import tarfile
import threading
from pathlib import Path
from typing import Any

from engines.agent.release import host_platform
from tests.agent.scripted import PATIENCE

Handler = http.server.BaseHTTPRequestHandler


class Distribution:
    """Serves the release tree `tree`. `answers` has bytes, or a function of the request, in place of a file."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self.answers: dict[str, Any] = {}
        self.asked: list[str] = []
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def stop(self) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(PATIENCE)

    def offer(self, version: str, program: bytes, **build: Any) -> str:
        """Release any program as `version`; return the address of the manifest. `build` changes what that says."""
        name = f"engine-{version}-{host_platform()}"
        archive = packed(name, program)
        said = {"url": f"/{name}.tar.gz", "binaryName": name, "sha256": hashlib.sha256(archive).hexdigest()}
        self.answers[f"/{name}.tar.gz"] = archive
        return self.manifest(version, {host_platform(): {**said, **build}})

    def manifest(self, version: str, builds: Any) -> str:
        self.answers["/made.json"] = json.dumps({"version": version, "builds": builds}).encode()
        return f"{self.url}/made.json"

    def _handler(self) -> type[Handler]:
        distribution = self

        class Answer(Handler):
            def do_GET(self) -> None:  # noqa: N802  # the base class calls it so
                distribution.asked.append(self.path)
                answer = distribution.answers.get(self.path)
                if callable(answer):
                    answer(self)
                    return
                file = distribution.tree / self.path.lstrip("/")
                if answer is None and not file.is_file():
                    self.send_error(404)
                    return
                respond(self, file.read_bytes() if answer is None else answer)

            def log_message(self, *words: Any) -> None:
                pass

        return Answer


def respond(request: Handler, content: bytes, length: int | None = None) -> None:
    request.send_response(200)
    request.send_header("Content-Length", str(len(content) if length is None else length))
    request.end_headers()
    request.wfile.write(content)


def packed(name: str, program: bytes) -> bytes:
    entry = tarfile.TarInfo(name)
    entry.size = len(program)
    target = io.BytesIO()
    with tarfile.open(fileobj=target, mode="w:gz") as file:
        file.addfile(entry, io.BytesIO(program))
    return target.getvalue()
