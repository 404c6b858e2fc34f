"""The audit log as auditors read it: newest first, filtered by the address, a page at a time, never counted."""

from typing import Any

from django.http import HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_safe

from portal.audit.filters import EntryFilter
from portal.audit.labels import label
from portal.audit.models import Entry, Head
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of

PAGE = 50


@require_safe
@vary_on_htmx
def log(request: PortalRequest) -> HttpResponse:
    filters = EntryFilter(request.GET, queryset=Entry.objects.of(request.team))
    page, bad_cursor = page_of(request, filters.qs, ("-number",), PAGE)
    context = {
        "page": links(page, request.GET) | {"rows": [in_words(row) for row in page.rows]},
        "bad_cursor": bad_cursor,
        "filter": filters,
        "chips": chips(filters, request.GET),
        "head": Head.objects.of(request.team).first(),
    }
    fragment = request.htmx and request.htmx.target == "audit"
    return render(request, "audit/_table.html" if fragment else "audit/list.html", context)


@require_safe
def entry(request: PortalRequest, number: int) -> HttpResponse:
    rows = Entry.objects.of(request.team)
    found = get_object_or_404(rows, number=number)
    context = {
        **in_words(found),
        "operation_url": address("operation", found.operation_id),
        "changes": changes(found),
        "detail": [(readable(name), shown(value)) for name, value in sorted(found.detail.items())],
        "newer": rows.filter(number=number + 1).values_list("number", flat=True).first(),
        "older": rows.filter(number=number - 1).values_list("number", flat=True).first(),
    }
    return render(request, "audit/entry.html", context)


def in_words(found: Entry) -> dict[str, Any]:
    """The entry with what its sentence is made of. What people did to themselves needs no object."""
    to_self = (found.target_type, found.target_id) == ("accounts.user", str(found.actor_id))
    return {
        "entry": found,
        "sentence": label(found.action),
        "target_name": "" if to_self else found.target_name,
        "target_url": target_url(found),
    }


def changes(found: Entry) -> list[tuple[str, str, str]]:
    """Return what differs between before and after, field by field, as people read it."""
    names = sorted({*found.before, *found.after})
    pairs = [(name, found.before.get(name, ""), found.after.get(name, "")) for name in names]
    return [(readable(name), shown(old), shown(new)) for name, old, new in pairs if old != new]


def readable(name: str) -> str:
    return name.replace("_", " ").capitalize()


def shown(value: Any) -> str:
    return ", ".join(str(one) for one in value) if isinstance(value, list) else str(value)


def target_url(found: Entry) -> str:
    """Return where the target is shown; "" for targets without a page."""
    return address("engine", found.target_id) if found.target_type == "engines.engine" else ""


def address(name: str, argument: str) -> str:
    """Return the page's address; "" if there is none. Ids in the log are text from elsewhere: any may be odd."""
    try:
        return reverse(name, args=[argument])
    except NoReverseMatch:
        return ""
