"""The log as a file: exactly the entries that the filter names, oldest first, streamed in bounded memory."""

import csv
import io
import json
import unicodedata
from collections.abc import AsyncIterator, Iterator
from typing import Any

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.db.models import QuerySet
from django.http import HttpResponse, StreamingHttpResponse
from django.utils import timezone
from django.views.decorators.http import require_POST

from portal.audit.filters import EntryFilter
from portal.audit.log import record
from portal.audit.models import Entry
from portal.audit.origin import Origin
from portal.audit.rows import row_of
from portal.http import PortalRequest

BATCH = 1000
COLUMNS = (
    "number", "at", "actor_name", "role", "address", "action", "target_type", "target_id", "target_name", "outcome",
    "reason", "before", "after", "detail", "request_id", "operation_id", "prev_hash", "hash",
)  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "\0")
TYPES = {"csv": "text/csv; charset=utf-8", "jsonl": "application/jsonl"}


@require_POST
def export(request: PortalRequest) -> HttpResponse | StreamingHttpResponse:
    """Stream what the address filters. The export itself is audited, with its filter, before the first byte."""
    kind = request.POST.get("format", "csv")
    filters = EntryFilter(request.GET, queryset=Entry.objects.of(request.team), request=request)
    if kind not in TYPES or not filters.is_valid():
        return HttpResponse("This filter or format is not valid: nothing was exported.", status=400)
    used = {name: request.GET[name] for name in filters.form.fields if request.GET.get(name)}
    entry = record(
        team=request.team,
        actor=request.user,
        action="audit.exported",
        target=request.team,
        origin=Origin.of(request),
        filter=used,
        format=kind,
    )
    parts = _parts(filters.qs.filter(number__lt=entry.number), kind)
    name = f"audit-{request.team.slug}-{timezone.now():%Y%m%d-%H%M%S}.{kind}"
    headers = {"Content-Disposition": f'attachment; filename="{name}"', "Cache-Control": "no-store"}
    streamed = _in_turns(parts) if isinstance(request, ASGIRequest) else parts
    return StreamingHttpResponse(streamed, content_type=TYPES[kind], headers=headers)


def safe(cell: str) -> str:
    """The cell as text for every spreadsheet: what one would take for a formula gets a leading apostrophe."""
    # NFKC makes ASCII of full-width forms, as some spreadsheets do when they read the file.
    bare = unicodedata.normalize("NFKC", cell[:1])
    return f"'{cell}" if bare.startswith(FORMULA) else cell


def _parts(rows: QuerySet[Entry], kind: str) -> Iterator[str]:
    if kind == "csv":
        yield _csv([list(COLUMNS)])
    last = 0
    while batch := list(rows.filter(number__gt=last).order_by("number")[:BATCH]):
        last = batch[-1].number
        yield _csv([_cells(entry) for entry in batch]) if kind == "csv" else "".join(row_of(e).line() for e in batch)


def _cells(entry: Entry) -> list[str]:
    return [safe(_text(getattr(entry, name))) for name in COLUMNS]


def _text(value: Any) -> str:
    if isinstance(value, dict):
        return json.dumps(value, sort_keys=True, ensure_ascii=False) if value else ""
    return str(value.isoformat()) if hasattr(value, "isoformat") else str(value)


def _csv(rows: list[list[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


async def _in_turns(parts: Iterator[str]) -> AsyncIterator[str]:
    """One batch at a time, each read in the request's own thread: the server would collect a plain iterator whole."""

    def following() -> str | None:
        return next(parts, None)

    while (part := await sync_to_async(following)()) is not None:
        yield part
