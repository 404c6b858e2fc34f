"""Blanks what must not be stored: keys and environments inside the API's objects, keys inside its texts."""

import contextlib
import json
import re
from typing import Any

RAW_LIMIT = 2000  # characters of an answer that are kept for people

SECRET_NAMES = frozenset({"key", "authorization", "base64_script"})
SECRET_ENDINGS = ("api_key", "access_key", "private_key", "secret", "token", "password")
TOKENS = re.compile(r"\b(inf_|Bearer\s+)[A-Za-z0-9._~+/=-]+")


def redact(value: Any) -> Any:
    """Return a copy with secrets blanked, by the names that the contract and its neighbours use."""
    if isinstance(value, dict):
        return {name: _member(str(name), item) for name, item in value.items()}
    if isinstance(value, list):
        return [redact(item) for item in value]
    return value


def mask(text: str) -> str:
    """Return the text with whatever looks like a key masked."""
    return TOKENS.sub(r"\1••••", text)


def raw_for_people(text: str) -> str:
    """Return an answer's text, redacted and cut."""
    with contextlib.suppress(ValueError, RecursionError):  # not JSON: the mask alone has to do
        text = json.dumps(redact(json.loads(text)), ensure_ascii=False)
    return mask(storable(text))[:RAW_LIMIT]


def storable(text: str) -> str:
    """Return the text without what PostgreSQL cannot hold: NUL, and halves of surrogate pairs."""
    return text.replace("\0", "").encode(errors="replace").decode()


def _member(name: str, item: Any) -> Any:
    if name == "envs":  # names and values that people give to a machine
        return _blank_values(item)
    if isinstance(item, str) and (name.lower() in SECRET_NAMES or name.lower().endswith(SECRET_ENDINGS)):
        return ""
    return redact(item)


def _blank_values(envs: Any) -> Any:
    if isinstance(envs, dict):
        return dict.fromkeys(envs, "")
    if isinstance(envs, list):
        return [{**env, "value": ""} if isinstance(env, dict) else "" for env in envs]
    return None if envs is None else ""
