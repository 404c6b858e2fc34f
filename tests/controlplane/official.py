"""The official Python package's types, made strict: it marks no member of any type as required.

A member may be absent where the package calls it Optional, or where the official JavaScript types mark it with `?`.
Members that neither names may be there: the package's types do not say what else a server sends.
"""

import types
import typing

import inferencesh.types as official
from pydantic import TypeAdapter
from typing_extensions import TypedDict, is_typeddict

# What @inferencesh/sdk 0.6.54 marks with `?` and the Python package does not call Optional.
OMITTED = {
    "ApiKeyDTO": {"source"},
    "InstanceDTO": {
        *("os", "ssh_key_id", "template_id", "volume_ids", "tags", "configuration", "launch_configuration"),
        *("auto_delete", "alert", "volume_mount", "envs"),
    },
    # `rental_type` and `options` are documented as set on offers only; of the base, the documented sample has the id.
    "InstanceTypeDTO": {
        *("cloud_logo_url", "rental_type", "options"),
        *("short_id", "created_at", "updated_at", "user_id", "team_id", "visibility"),
    },
    "InstanceTypeAvailability": {"hourly_price"},  # "set on spot entries only"
    "ScopePreset": {"summary", "hidden"},
    "TaskTimingEvent": {"duration", "duration_ms", "next_status"},
    "TaskTimingGroup": {"end_at"},
    "WorkerDTO": {"gpus", "cpus", "rams", "warm_apps"},
    "WorkerSummary": {"gpus", "cpus", "rams"},
}
# The contract calls these lists open: a self-hosted cloud or a scope of one's own is none of the official ones.
OPEN = (official.InstanceCloudProvider, official.Scope, official.ScopeGroup)


class Strict:
    """Types of the package with their required members marked."""

    def __init__(self):
        self._made = {}

    def of(self, hint):
        if is_typeddict(hint):
            return self._dict(hint)
        if hint in OPEN:
            return str
        parts = typing.get_args(hint)
        if not parts:
            return hint
        origin = typing.get_origin(hint)
        made = tuple(part if part is types.NoneType else self.of(part) for part in parts)
        return typing.Union[made] if origin is typing.Union else origin[made]  # noqa: UP007 (made at run time)

    def _dict(self, hint):
        name = hint.__name__
        if name not in self._made:
            self._made[name] = dict  # what a type that contains itself finds
            members = typing.get_type_hints(hint).items()
            self._made[name] = TypedDict(name, {member: self._member(name, member, what) for member, what in members})
        return self._made[name]

    def _member(self, name, member, what):
        may_lack = types.NoneType in typing.get_args(what) or member in OMITTED.get(name, ())
        return typing.NotRequired[self.of(what)] if may_lack else typing.Required[self.of(what)]


_strict = Strict()


def check(hint, body):
    """Raise pydantic's ValidationError unless the JSON text is one of these."""
    TypeAdapter(_strict.of(hint)).validate_json(body, strict=True)


def page(of):
    """The package's CursorListResponse of these: its own says `List[Any]`."""
    members = typing.get_type_hints(official.CursorListResponse)
    return TypedDict(f"Page of {of.__name__}", {**members, "items": list[of]}, total=False)
