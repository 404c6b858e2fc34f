"""The engine page: what it runs, what it is, what was done to it."""

import shlex
from typing import Any

from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_safe

from engines.access import engine_for, key_of, why_not
from engines.enums import OPEN, Verb
from engines.models import Change, Engine, Operation
from engines.money.choices import zone_of
from engines.operations.verbs import behind, waits_for
from engines.paid_clock import meanwhile
from engines.snapshots import STALE_AFTER, seen_at
from engines.views.fleet import automation_silence
from engines.views.operate import ICONS
from engines.workers import GIB, workers_of
from portal import clock
from portal.accounts.access import may
from portal.http import PortalRequest, vary_on_htmx

RECENT = 10


@require_safe
@vary_on_htmx
def engine(request: PortalRequest, uid: str) -> HttpResponse:
    found = engine_for(request, uid)
    operations = Operation.objects.of(request.team).filter(engine=found).order_by("-requested_at")
    opened = sorted(operations.filter(state__in=OPEN), key=lambda each: each.is_queued)
    open_now = next(iter(opened), None)
    seen = seen_at(found, found.connection)
    context = {
        "engine": found,
        "seen_at": seen,
        "is_stale": clock.now() - seen > STALE_AFTER,
        "connections": [found.connection],
        "workers": workers_of(found),
        "operation": open_now,
        "queued": next((each for each in opened if each.is_queued), None),
        "overrun": meanwhile(open_now, found, clock.now(), request.membership.role) if open_now else None,
        "zone": zone_of(request),
        "operations": operations[:RECENT],
        "changes": Change.objects.of(request.team).filter(engine=found).order_by("-id")[:RECENT],
        "facts": facts(found),
        "actions": (offered := actions(request, found, opened)),
        "denied": [action for action in offered if action["denied"]],
        "cli": cli(found),
        "silence": automation_silence(clock.now()),
    }
    fragment = request.htmx and request.htmx.target == "engine"
    return render(request, "engines/_engine.html" if fragment else "engines/detail.html", context)


def actions(request: PortalRequest, found: Engine, opened: list[Operation]) -> list[dict[str, Any]]:
    """Return every verb with its address, and why this person cannot use it now."""
    key = key_of(request, found.connection)
    shown = []
    for verb in [verb for verb in Verb if verb != Verb.CREATE]:
        refused = why_not(verb, found, role=request.membership.role, key=key, opened=opened, may_wait=True)
        url = reverse(f"engine-{verb}", args=[found.uid])
        shown.append(
            {
                "verb": verb,
                "label": label(verb, found, opened),
                "url": url,
                "enabled": not refused,
                "denied": not may(request.membership.role, f"engine-{verb}"),
                "why_not": refused,
                "icon": ICONS[verb],
            }
        )
    return shown


def label(verb: Verb, found: Engine, opened: list[Operation]) -> str:
    if behind(verb, opened):
        return f"Queue {verb}"
    return "Drain when it comes back" if waits_for(verb, found) else verb.label


def facts(found: Engine) -> list[tuple[str, str]]:
    """Return what is known of version and hardware, as label and text; what the API does not say is left out."""
    wire = found.wire
    system = wire.get("system_info") or {}
    memory = (system.get("ram") or {}).get("total") or 0
    instance = wire.get("instance") or {}
    pairs = {
        "Engine id": found.uid,
        "Version": found.version,
        "Pinned to": wire.get("engine_pin") or "",
        "Connection": found.connection.name,
        "Where": " · ".join(filter(None, [instance.get("cloud"), instance.get("region")])) or "Cloud"
        if instance
        else "Self-hosted",
        "Host": found.hostname,
        "Operating system": system.get("os") or "",
        "Processor": cpu(system.get("cpus") or []),
        "Memory": f"{memory / GIB:.1f} GB" if memory else "",
        "GPUs": ", ".join(gpu.get("name") or "?" for gpu in system.get("gpus") or []) or "None reported",
    }
    return [(label, str(text)) for label, text in pairs.items() if text]


def cpu(cpus: list[dict[str, Any]]) -> str:
    cores = sum(int(item.get("cores") or 0) for item in cpus)
    return f"{cpus[0].get('name') or 'CPU'}, {cores} cores" if cpus else ""


def cli(found: Engine) -> str:
    """Return the API call that equals the Drain button, without the key."""
    headers = "-H 'Authorization: Bearer '\"$INFERENCE_API_KEY\" -H 'X-API-Version: 2'"
    return f"curl -X POST {shlex.quote(f'{found.connection.base_url}/engines/{found.uid}/drain')} {headers}"
