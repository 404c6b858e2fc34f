"""Many engines at once: a page that says what would happen to each, and one that says what became of it."""

import contextlib
from typing import Any

from django.contrib import messages
from django.db import IntegrityError
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from engines.bulk import MOST, SHARE, Plan, outcomes, plan, start, stop_the_rest
from engines.clock import now as db_now
from engines.enums import OPEN, State, Verb
from engines.filters import FleetFilter
from engines.forms import BulkForm
from engines.models import Batch, Engine, Operation
from engines.operations.moves import Decider
from engines.tickets import BulkTicket
from portal.accounts.access import may
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of, without

PAGE = 100
SHOWN = 20  # names of one group that the plan lists


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: PortalRequest, verb: Verb) -> HttpResponse:
    """GET shows the plan for the selection in the address; POST carries out the plan that was shown."""
    filters = FleetFilter(request.GET, queryset=Engine.objects.of(request.team))
    within = request.GET.get("guard") == "keep"
    role = request.membership.role
    rows = selected(request, filters)
    made = plan(verb, rows, team=request.team, user=request.user, role=role, within_guard=within)
    if request.method != "POST":
        return shown(request, made, filters, form_for(request, made))
    form = BulkForm(request.POST, about=(verb, request.team.pk, request.user), guarded=bool(made.breaches))
    if not form.is_valid():
        return shown(request, made, filters, form, status=422)
    ticket: BulkTicket = form.cleaned_data["ticket"]
    if Batch.objects.of(request.team).filter(pk=ticket.batch_id).exists():
        return redirect("batch", pk=ticket.batch_id)
    if ticket.fingerprint != made.fingerprint:
        return shown(request, made, filters, form_for(request, made, request.POST), status=422, has_changed=True)
    with contextlib.suppress(IntegrityError):  # the same form a moment ago: one batch
        start(
            made,
            batch_id=ticket.batch_id,
            team=request.team,
            user=request.user,
            origin=Origin.of(request),
            reason=form.cleaned_data["reason"],
            deadline=form.cleaned_data["deadline"],
            despite=bool(made.breaches),
            now=db_now(),
        )
    messages.success(request, f"{verb.label} of {len(made.will)} engines is on its way.")
    return redirect("batch", pk=ticket.batch_id)


def selected(request: PortalRequest, filters: FleetFilter) -> QuerySet[Engine]:
    """The engines that were ticked, or all that the filters show."""
    if request.GET.get("all"):
        rows: QuerySet[Engine] = filters.qs
        return rows if filters.form.cleaned_data.get("status") else rows.exclude(status="deleted")
    return Engine.objects.of(request.team).filter(uid__in=request.GET.getlist("uid")[:MOST])


def form_for(request: PortalRequest, made: Plan, data: Any = None) -> BulkForm:
    about = (made.verb, request.team.pk, request.user)
    ticket = BulkTicket.issue(*about, made.fingerprint)
    if data is not None:
        data = data.copy()
        data["ticket"] = ticket
    return BulkForm(data, initial={"ticket": ticket}, about=about, guarded=bool(made.breaches))


def shown(
    request: PortalRequest, made: Plan, filters: FleetFilter, form: BulkForm, status: int = 200, **extra: Any
) -> HttpResponse:
    context = {
        "plan": made,
        "verb": made.verb,
        "form": form,
        "names": made.will[:SHOWN],
        "more": max(0, len(made.will) - SHOWN),
        "reasons": [(why, len(rows), rows[:SHOWN], max(0, len(rows) - SHOWN)) for why, rows in made.reasons()],
        "chips": chips(filters, request.GET) if request.GET.get("all") else [],
        "share": int(SHARE * 100),
        "most": MOST,
        "guarded_url": without(request.GET, guard="keep"),
        **extra,
    }
    return render(request, "engines/many.html", context, status=status)


@require_safe
@vary_on_htmx
def batch(request: PortalRequest, pk: str) -> HttpResponse:
    found = get_object_or_404(Batch.objects.of(request.team), pk=pk)
    rows = Operation.objects.of(request.team).filter(batch=found).select_related("engine")
    page, bad_cursor = page_of(request, rows, ("engine_name", "id"), PAGE)
    numbers = outcomes(found)
    waiting = numbers.get(State.REQUESTED, 0)
    context = {
        "batch": found,
        "page": links(page, request.GET),
        "bad_cursor": bad_cursor,
        "outcomes": [(state, State(state).label, number) for state, number in numbers.items()],
        "total": sum(numbers.values()),
        "open": sum(number for state, number in numbers.items() if state in OPEN),
        "waiting": waiting,
        "may_stop": may(request.membership.role, "batch-stop"),
    }
    fragment = request.htmx and request.htmx.target == "batch"
    return render(request, "operations/_batch.html" if fragment else "operations/batch.html", context)


@require_POST
def stop(request: PortalRequest, pk: str) -> HttpResponse:
    found = get_object_or_404(Batch.objects.of(request.team), pk=pk)
    stopped = stop_the_rest(found, by=Decider(request.user, Origin.of(request)), now=db_now())
    messages.success(request, f"{stopped} that were not sent yet are cancelled. What was sent goes on.")
    return redirect(reverse("batch", args=[found.pk]))
