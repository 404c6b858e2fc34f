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
from portal.audit.names import actors


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
    actor = django_filters.CharFilter(label="Who", method="by", max_length=100)
    action = django_filters.ChoiceFilter(
        label="Action", choices=[(name, name) for name in sorted(LABELS)], empty_label="Any action"
    )
    target = django_filters.CharFilter(label="Engine or other target, by id", field_name="target_id", max_length=64)
    outcome = django_filters.ChoiceFilter(label="Outcome", choices=Entry.Outcome.choices, empty_label="Any outcome")
    since = MomentFilter(label="From (UTC)", method="from_then_on")
    until = MomentFilter(label="Until (UTC)", method="up_to_then")

    class Meta:
        model = Entry
        fields: list[str] = []

    def by(self, rows: QuerySet[Entry], name: str, value: str) -> QuerySet[Entry]:
        return rows.filter(actor_name__in=actors(self.request.team, value))

    # Time never runs backwards along the numbers: a period is a run of them, and pages go by number.
    def from_then_on(self, rows: QuerySet[Entry], name: str, value: datetime) -> QuerySet[Entry]:
        first = self.first_at(value)
        return rows.none() if first is None else rows.filter(number__gte=first)

    def up_to_then(self, rows: QuerySet[Entry], name: str, value: datetime) -> QuerySet[Entry]:
        first = self.first_at(value)
        return rows if first is None else rows.filter(number__lt=first)

    def first_at(self, moment: datetime) -> int | None:
        later = Entry.objects.of(self.request.team).filter(at__gte=moment).order_by("at", "number")
        return later.values_list("number", flat=True).first()

    def search(self, rows: QuerySet[Entry], name: str, value: str) -> QuerySet[Entry]:
        if self.is_id(value):
            return rows.filter(Q(request_id=value) | Q(operation_id=value))
        words = Q(reason__icontains=value) | Q(target_name__icontains=value) | Q(actor_name__icontains=value)
        return rows.filter(words)

    def is_id(self, value: str) -> bool:
        """Whether it is a request's or an operation's id in this log: those are looked up, words are searched."""
        of_team = Entry.objects.of(self.request.team)
        return of_team.filter(request_id=value).exists() or of_team.filter(operation_id=value).exists()

    def searches(self) -> bool:
        """Whether rows have to be read to know if they match."""
        words = self.form.cleaned_data.get("q") if self.is_bound and self.errors is not None else ""
        return bool(words) and not self.is_id(words)
