"""What the engine tells the person who runs it: one line per event, with the time."""

import os
import sys
import time


def say(line: str) -> None:
    """Write one line to stdout. Never raises: a closed pipe must not cut a running task, nor change the exit code."""
    clean = "".join(c if c.isprintable() else " " for c in line)
    try:
        sys.stdout.write(f"{time.strftime('%Y-%m-%d %H:%M:%S')}  {clean}\n")
        sys.stdout.flush()
    except OSError:
        # What could not be written would be tried again at the end, and that failure would be the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def count(number: int, noun: str) -> str:
    """`1 task`, `2 tasks`, `no tasks`."""
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"
