"""A worker process that sends one operation: `python -m tests.money.worker ID`. NOW is its clock's time."""

import os
import sys
from datetime import datetime

import django
import httpcore

django.setup()

from engines.operations.send import send  # noqa: E402
from portal import clock  # noqa: E402


def die(*_, **__):
    os._exit(137)


def main():
    clock.now = lambda: datetime.fromisoformat(os.environ["NOW"])
    if os.environ["FAILPOINTS"] == "half":  # the head of the purchase has left, its body has not
        real = httpcore.HTTP11Connection._send_request_body
        httpcore.HTTP11Connection._send_request_body = lambda self, request: (
            die() if request.method == b"POST" else real(self, request)
        )
    send(sys.argv[1], clock.now())


main()
