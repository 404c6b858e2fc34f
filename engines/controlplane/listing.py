"""The contract's lists: filters, search, sort and cursor over an allowlist of fields (ENGINES_API.md section 4)."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from django.db import connections
from django.db.models import Model, Q, QuerySet
from django.utils.dateparse import parse_datetime

from engines.controlplane import problems
from engines.controlplane.models import DATABASE
from engines.controlplane.schemas import Filter, ListIn, Search, in_the_calendar
from portal.keyset import BadCursor, paginate

M = TypeVar("M", bound=Model)

DEFAULT_LIMIT, MOST = 20, 100
LONGEST_VALUE = 500
MOST_WILDCARDS = 5
MOST_VALUES = 100
INTEGERS = range(-(2**63), 2**63)


@dataclass(frozen=True)
class Listable:
    """What a list offers. `fields`: name on the wire → (column, type); `sorts` must be columns without NULL."""

    name: str
    fields: Mapping[str, tuple[str, type]]
    sorts: frozenset[str]
    searched: tuple[str, ...]


def page(rows: QuerySet[M], asked: ListIn, offer: Listable, shown: Callable[[M], dict[str, Any]]) -> dict[str, Any]:
    """Return the contract's cursor page. Raises Problem 400 or 422."""
    for wish in asked.filters or []:
        rows = rows.filter(condition(wish, offer))
    if asked.search and asked.search.term:
        rows = rows.filter(_found(asked.search, offer))
    limit = min(asked.limit or DEFAULT_LIMIT, MOST)
    try:
        found = paginate(rows, order=_order(asked, offer), cursor=asked.cursor or "", limit=limit, salt=offer.name)
    except BadCursor as error:
        raise problems.invalid_request(str(error)) from error
    return {
        "items": [_only(shown(row), asked.fields_) for row in found.rows],
        "next_cursor": found.next or "",
        "prev_cursor": found.previous or "",
        "has_next": found.next is not None,
        "has_previous": found.previous is not None,
        "items_per_page": limit,
    }


def _only(item: dict[str, Any], names: list[str] | None) -> dict[str, Any]:
    return {name: item[name] for name in ("id", *names) if name in item} if names else item


def _order(asked: ListIn, offer: Listable) -> list[str]:
    order: list[str] = []
    for wish in asked.sort or []:
        if wish.field not in offer.sorts:
            raise problems.unknown_field(f"{wish.field!r} cannot be sorted by; {_choice(offer.sorts)} can.")
        order.append(("-" if wish.dir == "desc" else "") + offer.fields[wish.field][0])
    columns = {name.removeprefix("-") for name in order}
    if "id" in columns:
        return order[: next(i for i, name in enumerate(order) if name.endswith("id")) + 1]
    return [*order, "-id"] if order else ["-created_at", "-id"]


def _found(search: Search, offer: Listable) -> Q:
    how = "" if search.exact else "__icontains"
    found = Q()
    for column in offer.searched:
        found |= Q(**{column + how: search.term})
    return found


def condition(wish: Filter, offer: Listable) -> Q:
    """Return one filter as a condition. Raises Problem 400 on an unknown field or operator, 422 on a bad value."""
    if wish.field not in offer.fields:
        raise problems.unknown_field(f"{wish.field!r} cannot be filtered by; {_choice(offer.fields)} can.")
    column, kind = offer.fields[wish.field]
    if wish.operator in ("in", "not_in"):
        found = Q(**{f"{column}__in": _values(wish, kind)})
    elif wish.operator in ("is_null", "is_not_null"):
        found = Q(**{f"{column}__isnull": True})
    elif wish.operator in ("is_empty", "is_not_empty"):
        found = Q(**{column: ""}) if kind is str else Q(**{f"{column}__isnull": True})
    elif wish.operator in LOOKUPS:
        found = Q(**{f"{column}__{LOOKUPS[wish.operator]}": _value(wish.field, wish.value, kind)})
    elif wish.operator in TEXT_LOOKUPS and kind is str:
        found = _matches(wish, column)
    else:
        raise problems.unknown_field(f"{wish.operator!r} is no operator for {wish.field!r}.")
    return ~found if wish.operator in NEGATED else found


LOOKUPS = {"eq": "exact", "neq": "exact", "gt": "gt", "gte": "gte", "lt": "lt", "lte": "lte"}
TEXT_LOOKUPS = {"contains": "contains", "not_contains": "contains", "like": "regex", "ilike": "iregex"}
NEGATED = ("neq", "not_in", "is_not_null", "is_not_empty", "not_contains")


def _matches(wish: Filter, column: str) -> Q:
    value = _value(wish.field, wish.value, str)
    if wish.operator in ("like", "ilike"):
        if value.count("%") > MOST_WILDCARDS:
            raise problems.invalid_value(f"The value for {wish.field!r} has more than {MOST_WILDCARDS} wildcards.")
        value = _pattern(value)
    return Q(**{f"{column}__{TEXT_LOOKUPS[wish.operator]}": value})


def _pattern(like: str) -> str:
    """As a regular expression: the databases disagree on the case of LIKE, but not on that of one."""
    parts = ["".join("." if char == "_" else re.escape(char) for char in part) for part in like.split("%")]
    if len(parts) == 1:
        return f"^{parts[0]}$"
    # On SQLite it is Python's, which would try every way to fit the parts into a text, for hours. The first is enough.
    part = "(?>.*?{})" if connections[DATABASE].vendor == "sqlite" else ".*{}"
    return f"^{parts[0]}{''.join(part.format(each) for each in parts[1:-1])}.*{parts[-1]}$"


def _values(wish: Filter, kind: type) -> list[Any]:
    if not isinstance(wish.value, list) or len(wish.value) > MOST_VALUES:
        raise problems.invalid_value(f"{wish.operator} needs a list of at most {MOST_VALUES} values.")
    return [_value(wish.field, value, kind) for value in wish.value]


def _value(field: str, value: Any, kind: type) -> Any:
    if kind is datetime:
        return _moment(field, value)
    fits = isinstance(value, kind) and not isinstance(value, bool)
    if not fits or (kind is str and len(value) > LONGEST_VALUE) or (kind is int and value not in INTEGERS):
        raise problems.invalid_value(f"The value for {field!r} must be of type {kind.__name__}, and not too long.")
    return value


def _moment(field: str, value: Any) -> datetime:
    try:
        found = parse_datetime(value) if isinstance(value, str) else None
        if found is not None and found.tzinfo is not None:
            return in_the_calendar(found)
    except ValueError:
        pass
    raise problems.invalid_value(f"The value for {field!r} must be a time such as 2026-11-23T12:00:00Z.")


def _choice(names: Any) -> str:
    return ", ".join(sorted(names))


ENGINES = Listable(
    "engines",
    {
        "id": ("id", str),
        "name": ("name", str),
        "status": ("status", str),
        "engine_version": ("version", str),
        "api_url": ("api_url", str),
        "created_at": ("created_at", datetime),
        "updated_at": ("updated_at", datetime),
    },
    frozenset({"id", "name", "status", "engine_version", "created_at", "updated_at"}),
    ("id", "name"),
)
TASKS = Listable(
    "tasks",
    {
        "id": ("id", str),
        "status": ("status", int),
        "app": ("app", str),
        "engine_id": ("engine_id", str),
        "worker_id": ("worker_id", str),
        "error": ("error", str),
        "created_at": ("created_at", datetime),
        "updated_at": ("updated_at", datetime),
        "finished_at": ("finished_at", datetime),
    },
    frozenset({"id", "status", "app", "created_at", "updated_at"}),
    ("id", "app"),
)
KEYS = Listable(
    "apikeys",
    {
        "id": ("id", str),
        "name": ("name", str),
        "created_at": ("created_at", datetime),
        "expires_at": ("expires_at", datetime),
        "last_used_at": ("last_used_at", datetime),
    },
    frozenset({"id", "name", "created_at"}),
    ("id", "name"),
)
LEDGER = Listable(
    "transactions",
    {
        "id": ("id", str),
        "number": ("number", int),
        "kind": ("kind", str),
        "engine_id": ("engine_id", str),
        "amount": ("amount_microcents", int),
        "created_at": ("created_at", datetime),
    },
    frozenset({"id", "number", "created_at"}),
    ("id", "text"),
)
