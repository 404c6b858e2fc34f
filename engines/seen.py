"""What a dialog showed of an engine, and in words how that differs from what is so now: one comparison for all verbs.

The facts travel signed in the dialog's form. Whoever confirms agreed to these, and to no others.
"""

import hashlib
from collections.abc import Callable
from datetime import datetime, tzinfo
from typing import Any

from engines.enums import OPEN, Verb
from engines.models import Engine, Operation
from engines.money import amounts
from engines.operations.verbs import VERBS, behind, takes_the_place_of
from engines.workers import workers_of
from portal.templatetags.portal_ui import both_clocks

Facts = dict[str, Any]  # JSON


def facts(verb: Verb, engine: Engine) -> Facts:
    """Return what matters for the verb, as the portal last read it."""
    paid = amounts.paid_time(engine)
    running = sorted(worker.task_id or worker.name for worker in workers_of(engine) if worker.busy)
    may_be_cut = VERBS[verb].cuts(engine)
    every: dict[str, Callable[[], Any]] = {
        "status": lambda: engine.status,
        "tasks": lambda: len(running),
        "cut": lambda: hashlib.sha256("\n".join(running).encode()).hexdigest()[:16] if may_be_cut else "",
        "version": lambda: engine.version,
        "process": lambda: engine.wire.get("boot_id") or "",
        "name": lambda: engine.name,
        "price": lambda: paid.price if paid else 0,  # cents an hour
        "ends": lambda: paid.threshold.isoformat() if paid else "",
        "replaces": lambda: _replaced(verb, engine),
        "behind": lambda: _behind(verb, engine),
    }
    return {name: every[name]() for name in VERBS[verb].matters}


def differences(shown: Facts, now: Facts, zone: tzinfo) -> list[str]:
    """Say what has changed since the dialog was shown, with times on the viewer's clock and in UTC."""
    changed = {name: (shown.get(name), value) for name, value in now.items() if shown.get(name) != value}
    if "tasks" in changed:
        changed.pop("cut", None)  # said already
    return [_sentence(name, *values, zone) for name, values in changed.items()]


def _sentence(name: str, was: Any, now: Any, zone: tzinfo) -> str:
    match name:
        case "status":
            return f"When you opened this the engine was {was}; now it is {now}."
        case "tasks":
            return f"{_tasks(was)} running when you looked, {now or 'none'} now."
        case "cut":
            return "Other tasks run on it now than when you looked."
        case "version":
            return f"It ran {was or 'an unknown version'} when you opened this; now it runs {now or 'an unknown one'}."
        case "process":
            return "Another process of it answers than when you opened this: it was started again meanwhile."
        case "name":
            return f"It was called {was} when you opened this; now it is called {now}."
        case "price":
            return f"The price was {_price(was)} when you opened this; now it is {_price(now)}."
        case "ends":
            return f"It was paid until {_end(was, zone)} when you opened this; now it is until {_end(now, zone)}."
    what = "What it waits for" if name == "behind" else "What it takes the place of"
    return f"{what} has changed: " + (f"now it is {now}." if now else "nothing is under way any more.")


def _tasks(number: Any) -> str:
    return f"{number or 'No'} task{'' if number == 1 else 's'}"


def _price(cents: Any) -> str:
    return f"{amounts.dollars(cents * amounts.MICROCENTS_PER_CENT)} an hour" if cents else "not known"


def _end(text: Any, zone: tzinfo) -> str:
    return both_clocks(datetime.fromisoformat(text), zone) if text else "an unknown time"


def _replaced(verb: Verb, engine: Engine) -> str:
    others = [other for other in open_on(engine) if takes_the_place_of(verb, other)]
    return " and ".join(_named(other) for other in others)


def _behind(verb: Verb, engine: Engine) -> str:
    first = behind(verb, open_on(engine))
    return _named(first) if first else ""


def _named(operation: Operation) -> str:
    return f"the {operation.verb} that {operation.requested_name} asked for: {operation.reason}"


def open_on(engine: Engine) -> list[Operation]:
    """Return what is open on the engine, what is queued last."""
    rows = Operation.objects.of(engine.team).filter(engine=engine, state__in=OPEN)
    return sorted(rows, key=lambda operation: operation.is_queued)
