"""The filters of the fleet and operations pages. All of them live in the address."""

from typing import Any

import django_filters
from django.core.validators import MaxLengthValidator, ProhibitNullCharactersValidator
from django.db.models import Exists, OuterRef, Q, QuerySet

from engines.enums import OPEN, EngineStatus, State, Verb
from engines.models import Engine, Operation

OPEN_STATES = sorted(OPEN)


class WordField(django_filters.fields.ChoiceField):
    """A choice that takes words beyond the known ones too: the API's vocabulary is open."""

    default_validators: list[Any] = [ProhibitNullCharactersValidator(), MaxLengthValidator(40)]

    def valid_value(self, value: Any) -> bool:
        return True


class WordFilter(django_filters.ChoiceFilter):
    field_class = WordField


class FleetFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(label="Search", method="search", max_length=100)
    status = WordFilter(
        label="Status", choices=[*EngineStatus.choices, ("deleted", "Deleted")], empty_label="Any status"
    )
    version = django_filters.CharFilter(label="Version", max_length=60)
    gpu = django_filters.CharFilter(label="GPU", lookup_expr="icontains", max_length=60)
    cloud = django_filters.ChoiceFilter(
        label="Where",
        method="where",
        empty_label="Anywhere",
        choices=[("self", "Self-hosted"), ("cloud", "Cloud")],
    )
    operation = django_filters.ChoiceFilter(
        label="Operation",
        method="under_way",
        empty_label="Any",
        choices=[("open", "Under way"), ("none", "None")],
    )

    class Meta:
        model = Engine
        fields: list[str] = []

    def search(self, rows: QuerySet[Engine], name: str, value: str) -> QuerySet[Engine]:
        return rows.filter(Q(name__icontains=value) | Q(hostname__icontains=value) | Q(uid=value) | Q(version=value))

    def where(self, rows: QuerySet[Engine], name: str, value: str) -> QuerySet[Engine]:
        return rows.filter(cloud="") if value == "self" else rows.exclude(cloud="")

    def under_way(self, rows: QuerySet[Engine], name: str, value: str) -> QuerySet[Engine]:
        found = Exists(Operation.objects.filter(engine=OuterRef("pk"), state__in=OPEN_STATES))
        return rows.filter(found) if value == "open" else rows.exclude(found)


class OperationFilter(django_filters.FilterSet):
    q = django_filters.CharFilter(label="Search", method="search", max_length=100)
    verb = django_filters.ChoiceFilter(label="Action", choices=Verb.choices, empty_label="Any action")
    state = django_filters.ChoiceFilter(
        label="State",
        method="in_state",
        empty_label="Any state",
        choices=[("open", "Under way"), *State.choices],
    )

    class Meta:
        model = Operation
        fields: list[str] = []

    def search(self, rows: QuerySet[Operation], name: str, value: str) -> QuerySet[Operation]:
        return rows.filter(
            Q(engine_name__icontains=value)
            | Q(reason__icontains=value)
            | Q(requested_name__icontains=value)
            | Q(request_id=value)
            | Q(engine__uid=value)
        )

    def in_state(self, rows: QuerySet[Operation], name: str, value: str) -> QuerySet[Operation]:
        return rows.filter(state__in=OPEN_STATES) if value == "open" else rows.filter(state=value)
