"""Reading an app's input: named fields, a range each, and words that say what was expected."""

import math
from collections.abc import Sequence
from typing import Any


class BadInput(Exception):
    """The input is not what the app takes. The text names the field."""


class Given:
    """The input of a task. Fields that no reader asked for are refused by `finish`."""

    def __init__(self, fields: dict[str, Any]) -> None:
        self._fields = dict(fields)

    def number(self, name: str, *, least: float, most: float, default: float | None = None) -> float:
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise BadInput(f"{name} must be a number")
        if not least <= value <= most:
            raise BadInput(f"{name} must be between {least:g} and {most:g}, not {value:g}")
        return value

    def whole(self, name: str, *, least: int, most: int, default: int | None = None) -> int:
        value = self.number(name, least=least, most=most, default=default)
        if value != int(value):
            raise BadInput(f"{name} must be a whole number")
        return int(value)

    def one_of(self, name: str, choices: Sequence[str], *, default: str) -> str:
        value = self._take(name, default)
        if value not in choices:
            raise BadInput(f"{name} must be one of {', '.join(choices)}")
        return str(value)

    def text(self, name: str, *, default: str, longest: int = 200) -> str:
        value = self._take(name, default)
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or len(value) > longest:
            raise BadInput(f"{name} must be a text of at most {longest} characters")
        return value

    def finish(self) -> None:
        """Raise BadInput if a field is left that the app does not know: a typing error, most likely."""
        if self._fields:
            raise BadInput(f"unknown field {', '.join(sorted(self._fields))}")

    def _take(self, name: str, default: object) -> Any:
        value = self._fields.pop(name, default)
        if value is None:
            raise BadInput(f"{name} is missing")
        return value
