"""Paging by key: each page starts after the last row of the one before. No OFFSET and no COUNT, correct on ties."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from django.core import signing
from django.db.models import Model, Q, QuerySet

M = TypeVar("M", bound=Model)


class BadCursor(ValueError):
    """The cursor was altered, or was made for another list or order."""


@dataclass(frozen=True)
class Page(Generic[M]):
    rows: list[M]
    next: str | None
    previous: str | None


def paginate(queryset: QuerySet[M], *, order: Sequence[str], cursor: str, limit: int, salt: str) -> Page[M]:
    """Return the page that `cursor` names, "" for the first.

    `order` names columns without NULL, "-" for descending; the last one must be unique. Cursors are signed with
    `salt` and the order. Raises BadCursor.
    """
    backward, values = _read(cursor, order, salt) if cursor else (False, None)
    ordered = queryset.order_by(*(_turned(order) if backward else order))
    if values is not None:
        ordered = ordered.filter(_beyond(_turned(order) if backward else order, values))
    rows = list(ordered[: limit + 1])
    more, rows = len(rows) > limit, rows[:limit]
    if backward:
        rows.reverse()
    has_next, has_previous = (bool(cursor), more) if backward else (more, bool(cursor))
    return Page(
        rows,
        _sign(rows[-1], order, salt, backward=False) if rows and has_next else None,
        _sign(rows[0], order, salt, backward=True) if rows and has_previous else None,
    )


def _turned(order: Sequence[str]) -> list[str]:
    return [name[1:] if name.startswith("-") else f"-{name}" for name in order]


def _beyond(order: Sequence[str], values: Sequence[Any]) -> Q:
    """Rows after `values`: (a > x) or (a = x and b > y) …, each column in its own direction."""
    found, equal = Q(), Q()
    for name, value in zip(order, values, strict=True):
        column = name.removeprefix("-")
        found |= equal & Q(**{f"{column}__{'lt' if name.startswith('-') else 'gt'}": value})
        equal &= Q(**{column: value})
    # The first column alone, again: with it the database can start in the middle of the index.
    first = order[0].removeprefix("-")
    return Q(**{f"{first}__{'lte' if order[0].startswith('-') else 'gte'}": values[0]}) & found


def _sign(row: Model, order: Sequence[str], salt: str, *, backward: bool) -> str:
    values = [getattr(row, name.removeprefix("-")) for name in order]
    packed = [{"t": value.isoformat()} if isinstance(value, datetime) else _plain(value) for value in values]
    return signing.dumps([backward, list(order), packed], salt=f"keyset:{salt}", compress=True)


def _plain(value: Any) -> Any:
    return value if isinstance(value, int | str) else str(value)


def _read(cursor: str, order: Sequence[str], salt: str) -> tuple[bool, list[Any]]:
    try:
        backward, made_for, packed = signing.loads(cursor, salt=f"keyset:{salt}")
    except (signing.BadSignature, ValueError) as error:
        raise BadCursor("This page address is not valid any more. Start from the first page.") from error
    if made_for != list(order):
        raise BadCursor("This page address was made for another order. Start from the first page.")
    return backward, [datetime.fromisoformat(value["t"]) if isinstance(value, dict) else value for value in packed]
