"""What pages and verbs read of an engine, by its JSON type.

A member of another type is read as null: one odd engine must not hide a whole fleet.
"""

import re
from typing import Any

NUMBER = (int, float)
# An id is opaque, but it is part of addresses here and there.
SANE_ID = re.compile(r"(?!\.{1,2}$)[A-Za-z0-9._:~@-]{1,64}")

CPUS = [{"name": str, "cores": NUMBER}]
WORKER = {
    "index": NUMBER,
    "status": str,
    "task_id": str,
    "app_id": str,
    "gpus": [{"name": str, "type": str, "vram": NUMBER}],
    "cpus": CPUS,
    "rams": [{}],
}
ENGINE = {
    "name": str,
    "status": str,
    "engine_version": str,
    "engine_pin": str,
    "created_at": str,
    "instance": {"cloud": str, "region": str},
    "system_info": {"hostname": str, "os": str, "ram": {"total": NUMBER}, "cpus": CPUS, "gpus": [{"name": str}]},
    "workers": [WORKER],
    "capabilities": [str],
}


def fitted(value: Any, shape: Any) -> Any:
    """Return the value with null where a member is not of the shape. Lists lose such items; none reads as empty.

    What the shape does not name stays as it is.
    """
    if isinstance(shape, dict):
        if not isinstance(value, dict):
            return None
        named = [(name, inner) for name, inner in shape.items() if name in value or isinstance(inner, list)]
        return value | {name: fitted(value.get(name), inner) for name, inner in named}
    if isinstance(shape, list):
        items = value if isinstance(value, list) else []
        return [item for item in (fitted(item, shape[0]) for item in items) if item is not None]
    return value if isinstance(value, shape) and not isinstance(value, bool) else None
