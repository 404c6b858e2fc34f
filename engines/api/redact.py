"""Blanks what must not be stored: keys and environments inside the API's objects, keys inside its texts."""

import contextlib
import json
import re
from functools import lru_cache
from typing import Any

RAW_LIMIT = 2000  # characters of an answer that are kept for people

SECRET_NAMES = frozenset({"key", "authorization", "base64_script"})
SECRET_ENDINGS = ("api_key", "access_key", "private_key", "secret", "token", "password")
TOKENS = re.compile(r"\b(inf_|Bearer\s+)[A-Za-z0-9._~+/=-]+")


def redact(value: Any) -> Any:
    """Blank the secrets inside, in place, and return the value. A fleet is read with this: it has to be quick."""
    if type(value) is dict:
        for name, item in value.items():
            kind = type(item)
            if name == "envs":  # names and values that people give to a machine
                value[name] = _blank_values(item)
            elif kind is dict or kind is list:
                redact(item)
            elif kind is str and item and _is_secret(name):
                value[name] = ""
    elif type(value) is list:
        for item in value:
            redact(item)
    return value


@lru_cache(maxsize=4096)
def _is_secret(name: str) -> bool:
    return name.lower() in SECRET_NAMES or name.lower().endswith(SECRET_ENDINGS)


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


def _blank_values(envs: Any) -> Any:
    if isinstance(envs, dict):
        return dict.fromkeys(envs, "")
    if isinstance(envs, list):
        return [{**env, "value": ""} if isinstance(env, dict) else "" for env in envs]
    return None if envs is None else ""
