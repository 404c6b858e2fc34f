"""The query string as a page's state: chips that take a filter off, links that keep the rest."""

from typing import Any

import django_filters
from django import forms
from django.db.models import QuerySet
from django.http import QueryDict

from portal.http import PortalRequest
from portal.keyset import BadCursor, Page, paginate


def chips(filters: django_filters.FilterSet, query: QueryDict) -> list[dict[str, str]]:
    """Return one {label, url} per filter in use; the url is the page without it."""
    found = []
    for name, field in filters.form.fields.items():
        value = query.get(name)
        if not value or name in filters.form.errors:  # a filter that was left out is not in use
            continue
        choices: Any = field.choices if isinstance(field, forms.ChoiceField) else ()
        shown = dict(choices).get(value, value)
        found.append({"label": f"{field.label}: {shown}", "url": without(query, name)})
    return found


def without(query: QueryDict, *names: str, **changed: str) -> str:
    """Return the query string without these names and the cursor, and with the changed values."""
    kept = query.copy()
    for name in ("cursor", *names):
        kept.pop(name, None)
    for name, value in changed.items():
        kept[name] = value
    return "?" + kept.urlencode()


def links(page: Page[Any], query: QueryDict) -> dict[str, Any]:
    """Return the page's rows with ready addresses of its neighbours, None where there is none."""
    return {
        "rows": page.rows,
        "next": without(query, cursor=page.next) if page.next else None,
        "previous": without(query, cursor=page.previous) if page.previous else None,
    }


def page_of(request: PortalRequest, rows: QuerySet[Any], order: tuple[str, ...], limit: int) -> tuple[Page[Any], bool]:
    """Return the page that the address names, and whether its cursor was no good: then it is the first page.

    Cursors are bound to the team and the table.
    """
    salt, cursor = f"{rows.model._meta.label_lower}:{request.team.pk}", request.GET.get("cursor", "")
    try:
        return paginate(rows, order=order, cursor=cursor, limit=limit, salt=salt), False
    except BadCursor:
        return paginate(rows, order=order, cursor="", limit=limit, salt=salt), True
