"""The process of an app, as it is started for a worker."""

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process

from engines import wire
from engines.agent import installed

# The process gets these and no others: above all not the API key.
PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR", "TZ", "LD_LIBRARY_PATH")


async def start(app: str, worker: wire.Worker, *words: str) -> Process:
    """Start `app` with the worker's GPUs; it takes its input on stdin. Raises OSError if that cannot be."""
    return await asyncio.create_subprocess_exec(
        # -P: what happens to lie in the current directory is not imported.
        *(sys.executable, "-P", "-m", "engines.agent.apps", app, str(os.getpid()), *words),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
        limit=wire.FRAME_LIMIT,
        pass_fds=installed.DESCRIPTORS,
        env=environment(worker),
        # A group of its own: Ctrl-C in the terminal is for the engine, which decides about its tasks.
        start_new_session=True,
    )


def environment(worker: wire.Worker) -> dict[str, str]:
    passed = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
    gpus = [str(gpu["gpu_id"]) for gpu in worker.get("gpus") or [] if "gpu_id" in gpu]
    own = {"PYTHONPATH": installed.ROOT, "PYTHONUNBUFFERED": "1"}
    return {**passed, **own, "CUDA_VISIBLE_DEVICES": ",".join(gpus)}
