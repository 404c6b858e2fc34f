"""The query string as a page's state: chips that take a filter off, links that keep the rest."""

from typing import Any

import django_filters
from django import forms
from django.http import QueryDict


def chips(filters: django_filters.FilterSet, query: QueryDict) -> list[dict[str, str]]:
    """Return one {label, url} per filter in use; the url is the page without it."""
    found = []
    for name, field in filters.form.fields.items():
        value = query.get(name)
        if not value:
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
