"""The operations pages: what is under way, what became of it, and what only a person can decide."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from engines.access import operation_for
from engines.api.advice import WentWrong, went_wrong
from engines.enums import MONEY, OPEN, UNSENT, State, Verb
from engines.filters import OperationFilter
from engines.models import QUEUED, LedgerEntry, Operation
from engines.money import reconcile
from engines.money.buy import next_try
from engines.money.choices import zone_of
from engines.money.machine import order_of
from engines.operations import alarms
from engines.operations import decide as decisions
from engines.operations.moves import Decider, Moved
from engines.operations.verbs import takes_the_place_of
from engines.paid_clock import Overrun, meanwhile
from engines.views.decide import Decision, deciding, go, reason_form
from engines.views.fleet import automation_silence
from engines.views.operate import STEP_UP
from engines.views.rent import asked_again
from portal import clock
from portal.accounts.access import may
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of

PAGE = 50
MOMENTS = 100
UNCLEAR = "Nothing yet: readings settle what became of it. Do not ask for it again meanwhile."
SETTLE = "Find out in the API’s own ledger, and say here whether it was charged. Do not ask for it again before."
NOT_KNOWN = "Whether the engine got it is not known: look at the engine before you ask anything of it again."
CLOSED = "Nothing more of it is sent, and nobody watches the engine for it any more. The engine is not told."


@dataclass(frozen=True)
class Step:
    """What a person can decide about an operation, and the words for it."""

    label: str
    button: str
    icon: str
    carry_out: Callable[..., None]
    consequences: tuple[str, ...]


STEPS = {
    "cancel": Step(
        "Cancel", "Cancel it", "ban", decisions.cancel, ("Nothing more of it is sent. What was sent stays sent.",)
    ),
    "keep-waiting": Step(
        "Keep waiting 2 hours",
        "Keep waiting",
        "hourglass",
        decisions.keep_waiting,
        ("It is watched for two more hours. If it is not finished then, you are asked again.",),
    ),
    "send-again": Step(
        "Send again",
        "Send it again",
        "send",
        decisions.send_again,
        ("The engine is read first. If the effect does not show, the same is asked of it once more.",),
    ),
    "close": Step("Stop watching", "Stop watching it", "eye", decisions.close, ("It ends as failed.", CLOSED)),
}
OFFERS = {
    State.WAITING: ("cancel",),
    State.REQUESTED: ("cancel",),
    State.ACCEPTED: ("close",),
    State.WORKING: ("close",),
    State.UNKNOWN: ("close",),
    State.LOST_CONTACT: ("close",),
    State.STUCK: ("keep-waiting", "close"),
    State.NEEDS_ATTENTION: ("send-again", "close"),
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
        "wrong": answered(found),
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
    return {
        "is_to_settle": reconcile.is_to_settle(found),
        "entry": entry,
        "may_settle": may_settle,
        "why_not_settle": why_not,
    }


def answered(found: Operation) -> WentWrong | None:
    """Return what the API's last answer to it means for a person; its words are in the note already."""
    wrong = went_wrong(found.answer)
    return replace(wrong, words="", advice=how_to_go_on(found, wrong.advice)) if wrong else None


def how_to_go_on(found: Operation, how: str) -> str:
    """Return what a person can do; "" while nothing is to be done. `how` is what the API's answer by itself asks for.

    Of what may have happened nobody is told to try again.
    """
    match found.state:
        case State.REFUSED | State.FAILED:
            return how
        case State.UNKNOWN:
            return UNCLEAR
        case State.NEEDS_ATTENTION:
            return SETTLE if found.verb in MONEY else how
    return ""


def overrun(request: PortalRequest, found: Operation) -> Overrun | None:
    if found.engine is None or found.state not in OPEN:
        return None
    return meanwhile(found, found.engine, clock.now(), request.membership.role)


def timeline(found: Operation) -> dict[str, Any]:
    """Return the latest moments in their order, and whether there were earlier ones: a flapping engine makes many."""
    latest = list(found.moments.order_by("-id")[: MOMENTS + 1])
    return {"moments": latest[:MOMENTS][::-1], "has_earlier": len(latest) > MOMENTS}


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def decide(request: PortalRequest, pk: str, step: str) -> HttpResponse:
    found = operation_for(request, pk)
    url = reverse("operation", args=[found.pk])

    def carry_out(by: Decider) -> HttpResponse:
        try:
            STEPS[step].carry_out(found, by=by, now=clock.now())
        except (Moved, ValueError):
            messages.warning(
                request, "The operation has moved on meanwhile; nothing was done. This is how it stands now."
            )
        except decisions.NotYours as error:
            messages.warning(request, str(error))
        return go(request, url)

    asked = STEPS[step]
    decision = Decision(
        title=f"{label_of(step, found)}: {found}",
        button=asked.button,
        place=str(found),
        back=url,
        icon=asked.icon,
        about=f"Asked by {found.requested_name}: {found.reason}",
        consequences=(*asked.consequences, NOT_KNOWN) if found.state == State.UNKNOWN else asked.consequences,
        why_not=closed(request, found, step) if request.method != "POST" else "",
        weighs_much=step == "send-again" and found.verb in STEP_UP,
    )
    return deciding(request, decision, reason_form(request), carry_out)


def label_of(step: str, found: Operation) -> str:
    if step == "close" and found.state == State.NEEDS_ATTENTION:
        return "Close without success"
    return STEPS[step].label


def closed(request: PortalRequest, found: Operation, step: str) -> str:
    """Say why this cannot be decided about it as it stands; "" if it can."""
    if found.verb in MONEY or step not in OFFERS.get(State(found.state), ()):
        return f"The operation stands at “{found.get_state_display()}”, where there is nothing of this kind to decide."
    return decisions.not_yours(found, request.user) if step == "send-again" else ""


def actions(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return what a person can decide in this state, with the reason where they may not."""
    if found.verb in MONEY:
        return purchase_actions(request, found)
    shown = dialogs(request, found)
    for step in OFFERS.get(State(found.state), ()):
        why_not = closed(request, found, step)
        if not may(request.membership.role, f"operation-{step}"):
            why_not = f"Your role ({request.membership.get_role_display()}) may not do this."
        url = reverse(f"operation-{step}", args=[found.pk])
        shown.append({"label": label_of(step, found), "url": url, "enabled": not why_not, "why_not": why_not})
    return shown


def purchase_actions(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return the decisions about money that are no forms of their own: to take it back, or to order it once more."""
    offers = []
    if found.state in UNSENT:
        offers.append(("Cancel", "cloud-time-cancel", reverse("cloud-time-cancel", args=[found.pk])))
    if (
        found.verb == Verb.CREATE
        and found.state not in OPEN
        and found.extension.may_try_again
        and not next_try(found.extension)
    ):
        url = asked_again(found.new_at_id, order_of(found), retry_of=found.pk)
        offers.append(("Order again", "engine-create", url))
    role = request.membership
    return [
        {
            "label": label,
            "url": url,
            "enabled": may(role.role, name),
            "why_not": f"Your role ({role.get_role_display()}) may not do this.",
            "is_page": name == "engine-create",
        }
        for label, name, url in offers
    ]


def dialogs(request: PortalRequest, found: Operation) -> list[dict[str, Any]]:
    """Return what a person can ask for instead: the same once more, or, where it does not end, a stop."""
    offers: list[tuple[Verb, str, str]] = []
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
        }
        for verb, label, query in offers
    ]
