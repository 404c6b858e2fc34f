"""The audit log as auditors read it: newest first, filtered by the address, a page at a time, never counted."""

import json
from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_safe

from portal.audit.filters import EntryFilter
from portal.audit.labels import label
from portal.audit.models import Entry, Head
from portal.http import PortalRequest
from portal.keyset import BadCursor, paginate
from portal.query import chips, without

PAGE = 50


@require_safe
def log(request: PortalRequest) -> HttpResponse:
    filters = EntryFilter(request.GET, queryset=Entry.objects.of(request.team))
    cursor, bad_cursor = request.GET.get("cursor", ""), False
    try:
        page = paginate(filters.qs, order=("-number",), cursor=cursor, limit=PAGE, salt="audit")
    except BadCursor:
        page, bad_cursor = paginate(filters.qs, order=("-number",), cursor="", limit=PAGE, salt="audit"), True
    context = {
        "rows": [{"entry": row, "sentence": label(row.action)} for row in page.rows],
        "next": without(request.GET, cursor=page.next) if page.next else None,
        "previous": without(request.GET, cursor=page.previous) if page.previous else None,
        "bad_cursor": bad_cursor,
        "filter": filters,
        "chips": chips(filters, request.GET),
        "head": Head.objects.filter(team=request.team).first(),
    }
    fragment = request.htmx and request.htmx.target == "audit"
    return render(request, "audit/_table.html" if fragment else "audit/list.html", context)


@require_safe
def entry(request: PortalRequest, number: int) -> HttpResponse:
    rows = Entry.objects.of(request.team)
    found = get_object_or_404(rows, number=number)
    context = {
        "entry": found,
        "sentence": label(found.action),
        "changes": changes(found),
        "detail": json.dumps(found.detail, indent=2, ensure_ascii=False) if found.detail else "",
        "newer": rows.filter(number=number + 1).values_list("number", flat=True).first(),
        "older": rows.filter(number=number - 1).values_list("number", flat=True).first(),
    }
    return render(request, "audit/entry.html", context)


def changes(found: Entry) -> list[tuple[str, Any, Any]]:
    """Return what differs between before and after, field by field."""
    names = sorted({*found.before, *found.after})
    pairs = [(name, found.before.get(name, ""), found.after.get(name, "")) for name in names]
    return [(name, old, new) for name, old, new in pairs if old != new]
