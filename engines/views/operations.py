"""The operations pages: what is under way, what became of it, and what only a person can decide."""

import json
from collections.abc import Callable
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRedirect

from engines.access import operation_for
from engines.api.advice import advice
from engines.enums import MONEY, OPEN, State, Verb
from engines.filters import OperationFilter
from engines.models import QUEUED, LedgerEntry, Operation
from engines.money import reconcile
from engines.money.choices import zone_of
from engines.operations import alarms
from engines.operations import decide as decisions
from engines.operations.moves import Decider, Moved
from engines.operations.verbs import takes_the_place_of
from engines.paid_clock import Overrun, meanwhile
from engines.views.fleet import automation_silence
from engines.views.operate import STEP_UP
from portal import clock
from portal.accounts.access import may
from portal.accounts.confirmed import is_recent, must_confirm, to_confirm
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of

PAGE = 50
MOMENTS = 100
STEPS: dict[str, Callable[..., None]] = {
    "cancel": decisions.cancel,
    "keep-waiting": decisions.keep_waiting,
    "send-again": decisions.send_again,
    "close": decisions.close,
}


@require_safe
@vary_on_htmx
def operations(request: PortalRequest) -> HttpResponse:
    rows = Operation.objects.of(request.team).select_related("engine")
    filters = OperationFilter(request.GET, queryset=rows)
    page, bad_cursor = page_of(request, filters.qs, ("-requested_at", "id"), PAGE)
    context = {
        "page": links(page, request.GET),
        "bad_cursor": bad_cursor,
        "filter": filters,
        "chips": chips(filters, request.GET),
        "silence": automation_silence(clock.now()),
        "alarms": alarms.banner(request.team, clock.now()),
    }
    fragment = request.htmx and request.htmx.target == "operations"
    return render(request, "operations/_table.html" if fragment else "operations/list.html", context)


@require_safe
@vary_on_htmx
def operation(request: PortalRequest, pk: str) -> HttpResponse:
    found = operation_for(request, pk)
    context = {
        "operation": found,
        "engine": found.engine,
        **timeline(found),
        "answer": json.dumps(found.answer, indent=2, ensure_ascii=False) if found.answer else "",
        "advice": how_to_go_on(found),
        "actions": actions(request, found),
        "is_open": found.state in OPEN,
        "queued": found.followers.filter(QUEUED, state__in=OPEN).first(),
        "overrun": overrun(request, found),
        "zone": zone_of(request),
        "is_money": found.verb in MONEY,
        **settling(request, found),
        "silence": automation_silence(clock.now()),
    }
    fragment = request.htmx and request.htmx.target == "operation"
    return render(request, "operations/_operation.html" if fragment else "operations/detail.html", context)


def settling(request: PortalRequest, found: Operation) -> dict[str, Any]:
    """Return what is booked of a purchase, and whether this person may say what became of it, or why not."""
    may_settle = found.verb in MONEY and may(request.membership.role, "cloud-time-resolve")
    entry = LedgerEntry.objects.of(request.team).filter(operation_id=found.pk).first() if found.verb in MONEY else None
    why_not = reconcile.own_word(found, request.user) if may_settle else ""
    typed = request.GET.get("reason", "")[:500]
    confirm = must_confirm(request)
    return {
        "is_to_settle": reconcile.is_to_settle(found),
        "entry": entry,
        "may_settle": may_settle,
        "why_not_settle": why_not,
        "must_confirm": confirm,
        "settle_reason": typed,
    }


def how_to_go_on(found: Operation) -> str:
    """Return what a person can do after the API's no; "" while that is not the last word."""
    if found.state not in (State.REFUSED, State.FAILED):
        return ""
    return advice(str(found.answer.get("code") or ""), int(found.answer.get("status") or 0))


def overrun(request: PortalRequest, found: Operation) -> Overrun | None:
    if found.engine is None or found.state not in OPEN:
        return None
    return meanwhile(found, found.engine, clock.now(), request.membership.role)


def timeline(found: Operation) -> dict[str, Any]:
    """Return the latest moments in their order, and whether there were earlier ones: a flapping engine makes many."""
    latest = list(found.moments.order_by("-id")[: MOMENTS + 1])
    return {"moments": latest[:MOMENTS][::-1], "has_earlier": len(latest) > MOMENTS}


@require_POST
def decide(request: PortalRequest, pk: str, step: str) -> HttpResponse:
    found = operation_for(request, pk)
    if step == "send-again" and found.verb in STEP_UP and not is_recent(request):
        return to_confirm(request)
    try:
        STEPS[step](found, by=Decider(request.user, Origin.of(request)), now=clock.now())
    except (Moved, ValueError):
        messages.warning(request, "The operation has moved on meanwhile; nothing was done. This is how it stands now.")
    except decisions.NotYours as error:
        messages.warning(request, str(error))
    url = reverse("operation", args=[found.pk])
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


def actions(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return what a person can decide in this state, with the reason where their role may not."""
    offers = {
        State.WAITING: [("cancel", "Cancel")],
        State.REQUESTED: [("cancel", "Cancel")],
        State.WORKING: [("close", "Stop watching")],
        State.LOST_CONTACT: [("close", "Stop watching")],
        State.STUCK: [("keep-waiting", "Keep waiting 2 hours"), ("close", "Stop watching")],
        State.NEEDS_ATTENTION: [("send-again", "Send again"), ("close", "Close without success")],
    }
    sure = {"close": "It ends as failed, and nobody watches the engine for it any more. The engine is not told."}
    if found.verb in MONEY:
        return purchase_actions(request, found)
    shown = dialogs(request, found)
    for step, label in offers.get(State(found.state), []):
        why_not = ""
        if not may(request.membership.role, f"operation-{step}"):
            why_not = f"Your role ({request.membership.get_role_display()}) may not do this."
        elif step == "send-again":
            why_not = decisions.not_yours(found, request.user)
        shown.append(
            {
                "label": label,
                "url": reverse(f"operation-{step}", args=[found.pk]),
                "enabled": not why_not,
                "why_not": why_not,
                "confirm": sure.get(step, ""),
            }
        )
    return shown


def purchase_actions(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return the one decision about money that is no form of its own: to take it back before it is sent."""
    if found.state not in (State.REQUESTED, State.CHECKING):
        return []
    role = request.membership
    return [
        {
            "label": "Cancel",
            "url": reverse("cloud-time-cancel", args=[found.pk]),
            "enabled": may(role.role, "cloud-time-cancel"),
            "why_not": f"Your role ({role.get_role_display()}) may not do this.",
        }
    ]


def dialogs(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return what a person can ask for instead: the same once more, or, where it does not end, a stop."""
    offers: list[tuple[Verb, str, str]] = []
    if found.verb == Verb.CREATE:  # what is ordered anew is chosen anew
        return []
    if found.state in (State.REFUSED, State.FAILED, State.CANCELLED):
        offers.append((Verb(found.verb), "Try again", f"?retry_of={found.pk}"))
    if found.state == State.STUCK and takes_the_place_of(Verb.STOP, found):
        offers.append((Verb.STOP, "Stop the engine", ""))
    role = request.membership
    return [
        {
            "label": label,
            "url": reverse(f"engine-{verb}", args=[found.uid]) + query,
            "enabled": may(role.role, f"engine-{verb}"),
            "why_not": f"Your role ({role.get_role_display()}) may not {verb} engines.",
            "dialog": True,
        }
        for verb, label, query in offers
    ]
