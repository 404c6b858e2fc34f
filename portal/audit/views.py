"""The audit log as auditors read it: newest first, filtered by the address, a page at a time, never counted."""

from typing import Any

from django.contrib import messages
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_POST, require_safe

from portal.audit.filters import EntryFilter
from portal.audit.labels import label
from portal.audit.models import Check, Entry, Head, SavedFilter
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of, without

SHOWN = (
    *("number", "at", "actor_id", "actor_name", "role", "action", "target_type", "target_id", "target_name", "reason"),
    *("outcome", "request_id", "detail"),
)
OUTCOMES = dict(Entry.Outcome.choices)
PAGE = 50
SEARCHED = 50_000
SAVED_LIMIT = 50


@require_safe
@vary_on_htmx
def log(request: PortalRequest) -> HttpResponse:
    filters = EntryFilter(request.GET, queryset=Entry.objects.of(request.team), request=request)
    head = Head.objects.of(request.team).first()
    rows, searched = filters.qs, None
    if filters.searches() and head:
        searched = window(request, head)
        rows = rows.filter(number__gte=searched["first"], number__lte=searched["last"])
    page, bad_cursor = page_of(request, listed(rows), ("-number",), PAGE)
    context = {
        "page": links(page, request.GET) | {"rows": [in_words(row) for row in page.rows]},
        "bad_cursor": bad_cursor,
        "filter": filters,
        "chips": chips(filters, request.GET),
        "head": head,
        "searched": searched,
        "check": Check.objects.of(request.team).first(),
        "query": without(request.GET, "before") if request.GET else "",
        "saved": _saved(request).order_by("name"),
    }
    fragment = request.htmx and request.htmx.target == "audit"
    return render(request, "audit/_table.html" if fragment else "audit/list.html", context)


def listed(rows: QuerySet[Entry]) -> QuerySet[Entry, Any]:
    """What the list shows of the rows, as named tuples: models would take most of the time of reading them."""
    return rows.values_list(*SHOWN, named=True)


def window(request: PortalRequest, head: Head) -> dict[str, Any]:
    """Return the run of entries that words are searched in, and the address that searches the run before it.

    No index helps with a part of a word: a rare one would make the database read the whole log for one page.
    """
    before = request.GET.get("before", "")
    last = int(before) - 1 if before.isdecimal() and before.isascii() and len(before) < 16 else head.number
    last = min(last, head.number)
    first = max(last - SEARCHED + 1, 1)
    older = without(request.GET, before=str(first)) if first > 1 else None
    return {"first": first, "last": last, "older": older}


@require_POST
def save(request: PortalRequest) -> HttpResponse:
    """Keep the address's filter under a name, for this person alone. The same name again replaces it."""
    name, query = request.POST.get("name", "").replace("\0", "").strip()[:60], without(request.GET, "before")
    if not name or len(query) > 1000:
        messages.error(request, "A filter needs a name." if not name else "This filter is too long to keep.")
    elif _saved(request).count() >= SAVED_LIMIT:
        messages.error(request, f"You have {SAVED_LIMIT} saved filters. Delete one first.")
    else:
        SavedFilter.objects.of(request.team).update_or_create(
            team=request.team, user=request.user, name=name, defaults={"query": query}
        )
        messages.success(request, f"Saved the filter “{name}”.")
    return redirect(reverse("audit") + query)


@require_POST
def forget(request: PortalRequest, number: int) -> HttpResponse:
    """Delete one of the person's own filters."""
    found = get_object_or_404(_saved(request), pk=number)
    found.delete()
    messages.success(request, f"Deleted the filter “{found.name}”.")
    return redirect("audit")


def _saved(request: PortalRequest) -> QuerySet[SavedFilter]:
    return SavedFilter.objects.of(request.team).filter(user=request.user)


@require_safe
def entry(request: PortalRequest, number: int) -> HttpResponse:
    rows = Entry.objects.of(request.team)
    found = get_object_or_404(rows, number=number)
    context = {
        **in_words(found),
        "operation_url": address("operation", found.operation_id),
        "changes": changes(found),
        "detail": [(readable(name), shown(value)) for name, value in sorted(flat(found.detail).items())],
        "newer": rows.filter(number=number + 1).values_list("number", flat=True).first(),
        "older": rows.filter(number=number - 1).values_list("number", flat=True).first(),
    }
    return render(request, "audit/entry.html", context)


def in_words(found: Any) -> dict[str, Any]:
    """The entry, or what the list shows of it, in words. What people did to themselves needs no object."""
    to_self = (found.target_type, found.target_id) == ("accounts.user", str(found.actor_id))
    return {
        "entry": found,
        "sentence": label(found.action),
        "outcome": OUTCOMES.get(found.outcome, found.outcome),
        "target_name": "" if to_self else found.target_name,
        "target_url": target_url(found),
    }


def changes(found: Entry) -> list[tuple[str, str, str]]:
    """Return what differs between before and after, field by field, as people read it."""
    before, after = flat(found.before), flat(found.after)
    pairs = [(name, before.get(name), after.get(name)) for name in sorted({*before, *after})]
    return [(readable(name), shown(old), shown(new)) for name, old, new in pairs if old != new]


def flat(value: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The fields inside fields too, each under the names that lead to it."""
    fields: dict[str, Any] = {}
    for name, inner in value.items():
        fields |= flat(inner, f"{prefix}{name}: ") if isinstance(inner, dict) and inner else {f"{prefix}{name}": inner}
    return fields


def readable(name: str) -> str:
    return name.replace("_", " ").capitalize()


def shown(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(shown(one) for one in value)
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "" if value is None or value == {} else str(value)


def target_url(found: Entry) -> str:
    """Return where the target is shown; "" for targets without a page."""
    page = {"engines.engine": "engine", "engines.batch": "batch"}.get(found.target_type)
    return address(page, found.target_id) if page else ""


def address(name: str, argument: str) -> str:
    """Return the page's address; "" if there is none. Ids in the log are text from elsewhere: any may be odd."""
    try:
        return reverse(name, args=[argument])
    except NoReverseMatch:
        return ""
