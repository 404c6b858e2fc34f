"""The smallest thing that the local cloud takes for an engine. Its name says how it behaves.

It writes how it was started into its state directory, and "ready" once it would hear a signal.
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

flags = dict(argument.removeprefix("--").split("=", 1) for argument in sys.argv[2:])
state = Path(flags["state-dir"])
state.mkdir(exist_ok=True)


def note(what, **more):
    with open(state / "notes", "a") as file:
        file.write(json.dumps({"what": what, "pid": os.getpid(), **more}) + "\n")


def stop(*_):
    note("stopped")
    sys.exit(0)


name = flags["name"]
signal.signal(signal.SIGTERM, (lambda *_: note("heard")) if "stubborn" in name else stop)
note("ready", arguments=sys.argv, environment=dict(os.environ))
if "drained" in name:
    sys.exit(0)
if "crashing" in name:
    sys.exit(3)
while True:
    time.sleep(60)
