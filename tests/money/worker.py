"""A worker process that sends one operation, or a batch: `python -m tests.money.worker operation ID`.

NOW is its clock's time.
"""

import os
import resource
import sys
import uuid
from datetime import datetime

import django
import httpcore

django.setup()

from engines.money import send as money  # noqa: E402
from engines.operations.send import send  # noqa: E402
from engines.operations.together import send_batch  # noqa: E402
from portal import clock  # noqa: E402


def die(*_, **__):
    os._exit(137)


def fill_up():
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


def main():
    clock.now = lambda: datetime.fromisoformat(os.environ["NOW"])
    if os.environ["FAILPOINTS"] == "half":  # the head of the purchase has left, its body has not
        real = httpcore.HTTP11Connection._send_request_body
        httpcore.HTTP11Connection._send_request_body = lambda self, request: (
            die() if request.method == b"POST" else real(self, request)
        )
    if os.environ["FAILPOINTS"] == "full":  # from the arming on, no file can grow
        money.failpoint = lambda name: name == "extend.connected" and fill_up()
    what, id = sys.argv[1:]
    job = {"operation": send, "batch": send_batch}[what]
    job(uuid.UUID(id), clock.now())


main()
