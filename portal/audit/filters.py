"""The filters of the audit page. All of them live in the address."""

from datetime import UTC, datetime
from typing import Any

import django_filters
from django.core.exceptions import ValidationError
from django.db.models import Q, QuerySet
from django.forms import DateTimeInput
from django_filters.fields import IsoDateTimeField

from portal.audit.labels import LABELS
from portal.audit.models import Entry


class MomentField(IsoDateTimeField):
    """A point in time that a database can hold, whatever zone it was written in."""

    widget = DateTimeInput(attrs={"type": "datetime-local"})

    def clean(self, value: Any) -> datetime | None:
        moment: datetime | None = super().clean(value)
        try:
            return moment and moment.astimezone(UTC)
        except OverflowError as error:
            raise ValidationError("Enter a date in this era.") from error


class MomentFilter(django_filters.Filter):
    field_class = MomentField


class EntryFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(label="Search", method="search", max_length=100)
    actor = django_filters.CharFilter(label="Who", field_name="actor_name", lookup_expr="icontains", max_length=100)
    action = django_filters.ChoiceFilter(
        label="Action", choices=[(name, name) for name in sorted(LABELS)], empty_label="Any action"
    )
    target = django_filters.CharFilter(label="Engine or other target, by id", field_name="target_id", max_length=64)
    outcome = django_filters.ChoiceFilter(label="Outcome", choices=Entry.Outcome.choices, empty_label="Any outcome")
    since = MomentFilter(label="From (UTC)", field_name="at", lookup_expr="gte")
    until = MomentFilter(label="Until (UTC)", field_name="at", lookup_expr="lt")

    class Meta:
        model = Entry
        fields: list[str] = []

    def search(self, rows: QuerySet[Entry], name: str, value: str) -> QuerySet[Entry]:
        return rows.filter(
            Q(reason__icontains=value)
            | Q(target_name__icontains=value)
            | Q(actor_name__icontains=value)
            | Q(request_id=value)
            | Q(operation_id=value)
        )
