"""The contract's SystemInfo (ENGINES_API.md 3.5): what an engine says about its host, complete.

Clients expect every member. What an engine leaves out, or sends as another type, is its type's zero.
"""

from typing import Any

# A list has one element here: what each of its elements must have.
SHAPE: dict[str, Any] = {
    "hostname": "",
    "engine_version": "",
    "ipv4": "",
    "ipv6": "",
    "mac_address": "",
    "os": "",
    "docker": {
        "binary_path": "",
        "installed": False,
        "socket_path": "",
        "socket_available": False,
        "running": False,
        "version": "",
    },
    "wsl2": {"installed": False, "enabled": False, "version": ""},
    "cpus": [
        {
            "name": "",
            "vendor_id": "",
            "family": "",
            "model": "",
            "cores": 0,
            "frequency": "",
            "usage": 0.0,
            "normalized_usage": 0.0,
        }
    ],
    "ram": {
        "total": 0,
        "available": 0,
        "used": 0,
        "free": 0,
        "usage": 0.0,
        "total_physical": 0,
        "total_usable": 0,
        "bootloader_usage": 0,
        "swap_total": 0,
        "swap_used": 0,
        "swap_free": 0,
        "swap_usage": 0.0,
    },
    "volumes": [{"name": "", "size": 0, "used": 0, "free": 0, "usage": 0.0}],
    "hf_cache": {"cache_dir": "", "repos": [], "size_on_disk": 0, "warnings": []},
    "gpus": [
        {
            "id": "",
            "name": "",
            "index": 0,
            "cuda_version": "",
            "driver_version": "",
            "memory_used": 0,
            "memory_total": 0,
            "temperature": 0,
        }
    ],
}


def complete(given: dict[str, Any]) -> dict[str, Any]:
    """Return what was given with all that is missing. Members that the contract does not know stay."""
    found: dict[str, Any] = _filled(given, SHAPE)
    return found


def _filled(given: Any, shape: Any) -> Any:
    if isinstance(shape, dict):
        known = given if isinstance(given, dict) else {}
        return {**known, **{name: _filled(known.get(name), part) for name, part in shape.items()}}
    if isinstance(shape, list):
        rows = given if isinstance(given, list) else []
        return [_filled(row, part) for row in rows for part in shape] if shape else rows
    fits = type(given) is type(shape) or (isinstance(shape, float) and type(given) is int)
    return given if fits else shape
