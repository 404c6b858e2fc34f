"""Ask for an operation: GET shows what it would do, POST records the wish."""

import uuid
from datetime import timedelta
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods
from django_htmx.http import HttpResponseClientRedirect

from engines import paid_clock
from engines.access import engine_for, key_of, why_not
from engines.enums import OPEN, EngineStatus, State, Verb
from engines.forms import DEADLINES, ConfirmForm, UpdateForm, form_of
from engines.models import Engine, Operation
from engines.money.choices import zone_of
from engines.operations.behaviour import DEADLINE, INSIST, PATIENCE
from engines.operations.request import Busy, Changed, Wish, tried
from engines.operations.request import request as ask
from engines.operations.verbs import VERBS, behind, takes_the_place_of, those, waits_for
from engines.paid_clock import Overrun
from engines.releases import releases_of
from engines.seen import differences, facts, open_on
from engines.snapshots import STALE_AFTER, seen_at
from engines.tickets import Ticket
from engines.workers import workers_of
from portal import clock
from portal.accounts.confirmed import must_confirm
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx

ICONS = {verb: VERBS[verb].icon for verb in Verb}
STEP_UP = those(lambda verb: verb.is_final)


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def operate(request: PortalRequest, uid: str, verb: Verb) -> HttpResponse:
    engine = engine_for(request, uid)
    if request.method != "POST":
        return dialog(request, engine, verb, fresh_form(request, engine, verb))
    form = form_of(verb)(request.POST, verb=verb, engine=engine, user=request.user)
    is_valid, ticket = form.is_valid(), form.cleaned_data.get("ticket")
    changed = differences(ticket.seen, facts(verb, engine), zone_of(request)) if ticket else []
    if ticket is None or not is_valid:
        form = renewed(form, request, engine, verb)
        return dialog(request, engine, verb, form, status=422, differences=changed)
    if running := asked_before(request, engine, verb, form):
        messages.info(request, f"{running} is under way already: you asked for it before. Nothing was asked again.")
        return to(request, running)
    refused = refusal(request, engine, verb)
    # Asked after that: what a second click of the same form has just recorded is no objection to it.
    sent_before = Operation.objects.of(request.team).filter(pk=ticket.operation_id).exists()
    if not sent_before and refused:
        return dialog(request, engine, verb, form, status=409, why_not=refused)
    if not sent_before and changed:
        form = renewed(form, request, engine, verb)
        return dialog(request, engine, verb, form, status=409, differences=changed)
    if not sent_before and "told" not in request.POST and overrun(request, engine, verb, form):
        return dialog(request, engine, verb, form, status=409)
    if not sent_before and verb in STEP_UP and must_confirm(request):
        return dialog(request, engine, verb, form, status=409, confirm_refused=True)
    return confirm(request, engine, verb, form)


def confirm(request: PortalRequest, engine: Engine, verb: Verb, form: ConfirmForm) -> HttpResponse:
    """Record the wish. The same form sent twice leads to the same operation."""
    wish = Wish(
        id=form.cleaned_data["ticket"].operation_id,
        verb=verb,
        reason=form.cleaned_data["reason"],
        deadline=form.cleaned_data["deadline"],
        parameters=form.parameters(),
        retry_of=earlier_try(request, engine, verb),
    )
    key = key_of(request, engine.connection)
    try:
        if key is None:
            return dialog(request, engine, verb, form, status=409, why_not=refusal(request, engine, verb))
        origin = Origin.of(request)
        operation = ask(wish, engine=engine, user=request.user, key=key, origin=origin, now=clock.now())
    except Busy as busy:
        return dialog(request, engine, verb, form, status=409, why_not=str(busy))
    except Changed:
        form.add_error(None, "This form was sent before with other words. Close it and open it again.")
        return dialog(request, engine, verb, form, status=422)
    messages.success(request, f"{verb.label} of {engine.name} {on_its_way(operation)}.")
    return to(request, operation)


def on_its_way(operation: Operation) -> str:
    if operation.behind:
        return f"is queued behind the {operation.behind.verb} that {operation.behind.requested_name} asked for"
    return "waits for it" if operation.state == State.WAITING else "is on its way"


def to(request: PortalRequest, operation: Operation) -> HttpResponse:
    url = reverse("operation", args=[operation.pk])
    return HttpResponseClientRedirect(url) if request.htmx else redirect(url)


def asked_before(request: PortalRequest, engine: Engine, verb: Verb, form: ConfirmForm) -> Operation | None:
    """Return the same wish of the same person, if it is under way: another tab of theirs was open on an older page."""
    same = {"verb": verb, "requested_by": request.user, "parameters": form.parameters()}
    rows = Operation.objects.of(request.team).filter(engine=engine, state__in=OPEN, **same)
    return rows.exclude(pk=form.cleaned_data["ticket"].operation_id).first()


def refusal(request: PortalRequest, engine: Engine, verb: Verb) -> str:
    key = key_of(request, engine.connection)
    return why_not(verb, engine, role=request.membership.role, key=key, opened=open_on(engine), may_wait=True)


def overrun(request: PortalRequest, engine: Engine, verb: Verb, form: ConfirmForm) -> Overrun | None:
    """What to know of its paid time, if it is given until the deadline that the form has."""
    now = clock.now()
    chosen = form["deadline"].value()
    hours = int(chosen if chosen in DEADLINES else "1")
    return paid_clock.before(verb, engine, now + timedelta(hours=hours), now, request.membership.role)


def fresh_form(request: PortalRequest, engine: Engine, verb: Verb) -> ConfirmForm:
    ticket = {"ticket": Ticket.issue(verb, engine, request.user)}
    earlier = earlier_try(request, engine, verb)
    initial = ticket | (words_of(earlier) if earlier else {})
    return form_of(verb)(initial=initial, verb=verb, engine=engine, user=request.user)


def earlier_try(request: PortalRequest, engine: Engine, verb: Verb) -> Operation | None:
    """Return the ended operation that the address names as tried again; None where it names none of this engine."""
    try:
        pk = uuid.UUID(request.GET.get("retry_of", ""))
    except ValueError:
        return None
    return tried(engine, verb).filter(pk=pk).first()


def words_of(earlier: Operation) -> dict[str, Any]:
    """Return what was filled in then. A name that was typed to be sure is typed again."""
    hours = str(earlier.parameters.get(DEADLINE) or (earlier.deadline_at - earlier.requested_at) // timedelta(hours=1))
    said = {"reason": earlier.reason, "deadline": hours if hours in DEADLINES else None}
    said |= {name: earlier.parameters.get(name) for name in ("name", "version", INSIST)}
    said["patience"] = earlier.parameters.get(PATIENCE)
    return {name: value for name, value in said.items() if value}


def renewed(form: ConfirmForm, request: PortalRequest, engine: Engine, verb: Verb) -> ConfirmForm:
    """The same words with a fresh ticket, where the old one is of no use any more."""
    if "ticket" in form.cleaned_data and form.cleaned_data["ticket"].seen == facts(verb, engine):
        return form
    data = form.data.copy()  # type: ignore[attr-defined]  # a QueryDict
    data["ticket"] = Ticket.issue(verb, engine, request.user)
    errors = form.errors
    form = form_of(verb)(data, verb=verb, engine=engine, user=request.user)
    form.full_clean()
    if "ticket" in errors:
        form.add_error(None, errors["ticket"].as_data())
    return form


def dialog(
    request: PortalRequest, engine: Engine, verb: Verb, form: ConfirmForm, status: int = 200, **extra: Any
) -> HttpResponse:
    no_releases = None
    if isinstance(form, UpdateForm):
        releases, no_releases = releases_of(key_of(request, engine.connection))
        form.offer(releases)
    workers = workers_of(engine)
    running = [worker for worker in workers if worker.busy]
    seen = seen_at(engine, engine.connection)
    opened = open_on(engine)
    first = behind(verb, opened)
    context = {
        "engine": engine,
        "workers": workers,
        "running": running,
        "cuts": engine.status == EngineStatus.DISCONNECTED and VERBS[verb].cuts(engine),
        "idle": len(workers) - len(running),
        "verb": verb,
        "icon": ICONS[verb],
        "consequences": VERBS[verb].consequences(engine, len(running)),
        "replaced": [other for other in opened if takes_the_place_of(verb, other)],
        "behind": first,
        "action": action(verb, engine, first),
        "form": form,
        "seen_at": seen,
        "overrun": overrun(request, engine, verb, form),
        "zone": zone_of(request),
        "is_stale": clock.now() - seen > STALE_AFTER,
        "why_not": "" if request.method == "POST" else refusal(request, engine, verb),
        "must_confirm": verb in STEP_UP and must_confirm(request),
        "no_releases": no_releases,
        **extra,
    }
    return render(request, "engines/_dialog.html" if request.htmx else "engines/operate.html", context, status=status)


def action(verb: Verb, engine: Engine, first: Operation | None) -> str:
    """Return what the dialog and its button say before the engine's name."""
    if first:
        return f"Queue {verb} of"
    return "Drain when back:" if waits_for(verb, engine) else verb.label
