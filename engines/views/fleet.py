"""The fleet page: the team's engines as last read, searchable, filterable, a page at a time."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.db.models import Count, Max, QuerySet
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from engines.access import why_not
from engines.enums import OPEN, EngineStatus, Verb
from engines.filters import FleetFilter
from engines.models import Automation, Engine, Operation
from engines.operations import alarms
from engines.operations.verbs import waits_for
from engines.restored import restored_at
from engines.snapshots import STALE_AFTER, seen_at
from engines.views.selection import selection
from engines.workers import workers_of
from portal import clock
from portal.accounts.access import may
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of, without
from portal.vault.keys import current_keys
from portal.vault.models import Connection, StoredKey

PAGE = 100
COLUMNS = {
    "name": "Engine",
    "status": "Status",
    "workers_busy": "Workers",
    "version": "Version",
    "changed_at": "Since",
}
DEFAULT_SORT = "name"


@require_safe
@vary_on_htmx
def fleet(request: PortalRequest) -> HttpResponse:
    now = clock.now()
    filters = FleetFilter(request.GET, queryset=Engine.objects.of(request.team))
    rows: QuerySet[Engine] = filters.qs
    if not filters.form.cleaned_data.get("status"):
        rows = rows.exclude(status="deleted")
    sort = sort_of(request.GET.get("sort", ""))
    page, bad_cursor = page_of(request, rows, (sort, "-id" if sort.startswith("-") else "id"), PAGE)
    connections = list(Connection.objects.of(request.team))
    keys = {key.connection_id: key for key in current_keys(request.team).filter(user=request.user)}
    prepare(page.rows, request, connections, keys, now)
    context = {
        "page": links(page, request.GET),
        "bad_cursor": bad_cursor,
        "filter": filters,
        "chips": chips(filters, request.GET),
        "counts": counts(request),
        "columns": columns(request, sort),
        "connections": connections,
        "key_missing": not keys and may(request.membership.role, "keys"),
        "silence": automation_silence(now),
        "alarms": alarms.banner(request.team, now),
        "restored": restored_at(request.team, now),
        "may_create": may(request.membership.role, "engine-new"),
        **selection(request),
    }
    fragment = request.htmx and request.htmx.target == "fleet"
    return render(request, "engines/_table.html" if fragment else "engines/list.html", context)


def sort_of(asked: str) -> str:
    """Only columns of the table; anything else is the default order."""
    return asked if asked.removeprefix("-") in COLUMNS else DEFAULT_SORT


def prepare(
    rows: list[Engine],
    request: PortalRequest,
    connections: list[Connection],
    keys: dict[int, StoredKey],
    now: datetime,
) -> None:
    """Give each row what the table shows beside its columns, in one query for the whole page."""
    by_pk = {connection.pk: connection for connection in connections}
    opened: dict[int, list[Operation]] = defaultdict(list)
    for operation in Operation.objects.of(request.team).filter(engine__in=rows, state__in=OPEN).order_by("verb"):
        opened[operation.engine_id or 0].append(operation)
    for row in rows:
        show: Any = row
        show.operation = next((each for each in opened[row.pk] if not each.is_queued), None)
        show.queued = next((each for each in opened[row.pk] if each.is_queued), None)
        show.seen_at = seen_at(row, by_pk[row.connection_id])
        show.is_stale = now - show.seen_at > STALE_AFTER
        show.running = [worker for worker in workers_of(row) if worker.busy]
        refused = why_not(
            Verb.DRAIN,
            row,
            role=request.membership.role,
            key=keys.get(row.connection_id),
            opened=opened[row.pk],
        )
        waits = waits_for(Verb.DRAIN, row) and not show.operation and may(request.membership.role, "engine-drain")
        show.drain = {
            "url": reverse("engine-drain", args=[row.uid]),
            "enabled": not refused,
            "why_not": refused,
            "waits": waits,
        }


def counts(request: PortalRequest) -> list[dict[str, Any]]:
    """Return how many engines each status has, under the other filters."""
    others = request.GET.copy()
    status = others.pop("status", [""])[-1]
    rows = FleetFilter(others, queryset=Engine.objects.of(request.team)).qs.order_by()
    numbers = dict(rows.values_list("status").annotate(Count("pk")).values_list("status", "pk__count"))
    known = [value for value in EngineStatus.values if value in numbers]
    return [
        {
            "value": value,
            "label": EngineStatus(value).label if value in EngineStatus.values else value,
            "number": numbers[value],
            "url": without(request.GET, "status") if value == status else without(request.GET, status=value),
            "active": value == status,
        }
        for value in [*known, *sorted(set(numbers) - set(known))]
    ]


def columns(request: PortalRequest, sort: str) -> list[dict[str, str]]:
    """Return the sortable headers; a second click turns the order."""
    found = []
    for key, label in COLUMNS.items():
        direction = {key: "asc", f"-{key}": "desc"}.get(sort, "")
        turned = f"-{key}" if direction == "asc" else key
        found.append({"key": key, "label": label, "url": without(request.GET, sort=turned), "direction": direction})
    return found


@dataclass(frozen=True)
class Silence:
    since: datetime | None  # when a worker was last seen at work; None: never


def automation_silence(now: datetime) -> Silence | None:
    """Return the silence of the workers; None if one was seen at work a moment ago."""
    seen = Automation.objects.aggregate(Max("seen_at"))["seen_at__max"]
    return None if seen and now - seen <= STALE_AFTER else Silence(seen)
