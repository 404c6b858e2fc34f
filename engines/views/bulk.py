"""Many engines at once: a page that says what would happen to each, and one that says what became of it."""

import uuid
from collections import defaultdict
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import urlencode

from django.contrib import messages
from django.core.exceptions import PermissionDenied
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.template.response import TemplateResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_safe

from engines import paid_clock
from engines.bulk import Plan, call, failed, in_vain, outcomes, plan, price, start, stop_the_rest
from engines.capacity import PERCENT
from engines.enums import MONEY, OPEN, UNSENT, State, Verb
from engines.filters import FleetFilter
from engines.forms import DEADLINES, BulkForm
from engines.models import Batch, Engine, Operation
from engines.money import amounts, choices, many
from engines.money.amounts import PaidTime
from engines.money.approve import NotApproved, wanted
from engines.money.machine import order_of
from engines.operations.moves import Decider
from engines.operations.verbs import VERBS
from engines.paid_clock import Overrun
from engines.tickets import BulkTicket
from engines.views.decide import Decision, deciding, go, reason_form
from engines.views.extend import BALANCE_SECONDS, balance
from engines.views.operate import ICONS, STEP_UP
from engines.views.rent import asked_again
from portal import clock
from portal.accounts.access import may
from portal.accounts.confirmed import must_confirm
from portal.accounts.models import Team
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.query import chips, links, page_of, without
from portal.vault.keys import current_keys
from portal.vault.models import Connection

PAGE = 100
SHOWN = 20  # names of one group that the plan lists
NOT_ASKED = 200  # lines of one page
TICKED = 1000  # engines that an address can name


@require_http_methods(["GET", "HEAD", "POST"])
def confirm(request: PortalRequest, verb: Verb) -> HttpResponse:
    """GET shows the plan for the selection in the address; POST carries out the plan that was shown."""
    filters = FleetFilter(request.GET, queryset=Engine.objects.of(request.team))
    earlier = earlier_batch(request, verb)
    rows = selected(request, filters, earlier)
    if request.method == "POST":
        with transaction.atomic():
            # Of two who confirm at once, the second finds what the first has taken of the guard's room.
            Team.objects.select_for_update(no_key=True).get(pk=request.team.pk)
            return confirmed(request, planned(request, verb, rows, earlier), filters, earlier)
    made = planned(request, verb, rows, earlier)
    return shown(request, made, filters, form_for(request, made, earlier=earlier))


def confirmed(request: PortalRequest, made: Plan, filters: FleetFilter, earlier: Batch | None) -> HttpResponse:
    """Carry it out if it is what was shown, and show it again with the difference if not."""
    form = BulkForm(request.POST, plan=made, team_id=request.team.pk, user=request.user)
    is_valid = form.is_valid()
    ticket: BulkTicket | None = form.cleaned_data.get("ticket")
    if ticket and Batch.objects.of(request.team).filter(pk=ticket.batch_id).exists():
        return redirect("batch", pk=ticket.batch_id)
    if ticket and ticket.fingerprint != made.fingerprint:
        differences = made.differences(ticket.marks) or ["What the guard says has changed."]
        again = form_for(request, made, request.POST)
        return shown(request, made, filters, again, status=422, differences=differences)
    if made.forbidden or not made.will:
        return shown(request, made, filters, form, status=409)
    if ticket is None or not is_valid:
        again = form_for(request, made, request.POST) if ticket is None else form
        return shown(request, made, filters, again, status=422)
    told = request.POST.get("told", "")
    if overruns(request, made, form) and (told not in DEADLINES or int(told) < hours_of(form)):
        return shown(request, made, filters, form, status=409)
    if weighs_much(made) and must_confirm(request):
        return shown(request, made, filters, form, status=409, confirm_refused=True)
    start(
        made,
        form.words,
        batch_id=ticket.batch_id,
        team=request.team,
        user=request.user,
        origin=Origin.of(request),
        now=clock.now(),
        retry_of=earlier,
    )
    number = len(made.will)
    messages.success(request, f"{made.verb.label} of {number} engine{'' if number == 1 else 's'} is on its way.")
    return redirect("batch", pk=ticket.batch_id)


def overruns(request: PortalRequest, made: Plan, form: BulkForm) -> list[Overrun]:
    """What to know of the paid time of those that are given until the form's deadline to finish."""
    now = clock.now()
    until = now + timedelta(hours=hours_of(form))
    return paid_clock.before_all(made.verb, made.will, until, now, request.membership.role)


def hours_of(form: BulkForm) -> int:
    chosen = form["deadline"].value() if "deadline" in form.fields else ""
    return int(chosen if chosen in DEADLINES else "1")


def weighs_much(made: Plan) -> bool:
    """Say whether it is asked only by somebody who has just proved who they are, as for a single engine."""
    return made.verb in STEP_UP or (made.offer is not None and made.offer.needs_approval)


def planned(request: PortalRequest, verb: Verb, rows: QuerySet[Engine], earlier: Batch | None) -> Plan:
    within = request.GET.get("guard") == "keep"
    role = request.membership.role
    made = plan(verb, rows, team=request.team, user=request.user, role=role, within_guard=within)
    if verb == Verb.EXTEND:
        at = clock.now()
        price(made, until(request, at), team=request.team, user=request.user, now=at, retry_of=earlier)
        for engine in made.will:
            show: Any = engine
            show.quote = made.offer.quotes[engine.pk] if made.offer else None
    if verb == Verb.RENAME:
        made = call(made, request.GET.get("pattern", ""), retry_of=earlier)
        for engine in made.will:
            show = engine
            show.new_name = made.names.new.get(engine.pk) if made.names else None
    return made


def until(request: PortalRequest, at: datetime) -> Callable[[PaidTime], datetime]:
    """Return until when the address wants an engine to be paid, by until when it is paid now: +24 h if it does not say.

    What was typed wrongly raises ValueError there, with words for people.
    """
    zone, name, hours = choices.zone_of(request), request.GET.get("to", ""), request.GET.get("hours", "")
    if hours and name not in choices.LABELS:
        return lambda paid: amounts.after(paid.threshold, amounts.hours_of(hours))
    return lambda paid: choices.target(name if name in choices.LABELS else "day", paid, at, zone)


def earlier_batch(request: PortalRequest, verb: Verb) -> Batch | None:
    """Return the batch whose failed ones are tried again. Raises Http404 for one that is not the team's."""
    asked = request.GET.get("retry", "")
    if not asked:
        return None
    try:
        pk = uuid.UUID(asked)
    except ValueError:
        raise Http404 from None
    return get_object_or_404(Batch.objects.of(request.team), pk=pk, verb=verb)


def selected(request: PortalRequest, filters: FleetFilter, earlier: Batch | None) -> QuerySet[Engine]:
    """The engines that failed in an earlier batch, or that were ticked, or all that the filters show.

    Raises Http404 if any that was ticked is not the team's: what was meant is not known then, and nothing is done.
    """
    if earlier:
        return failed(earlier)
    if request.GET.get("all"):
        # Without a filter that was meant there would be more of them.
        rows: QuerySet[Engine] = filters.qs if filters.form.is_valid() else filters.queryset.none()
        return rows if filters.form.cleaned_data.get("status") else rows.exclude(status="deleted")
    ticked = set(request.GET.getlist("uid")[:TICKED])
    found: QuerySet[Engine] = Engine.objects.of(request.team).filter(uid__in=ticked)
    if any("\0" in uid for uid in ticked) or ticked - set(found.values_list("uid", flat=True)):
        raise Http404
    return found


def form_for(request: PortalRequest, made: Plan, data: Any = None, earlier: Batch | None = None) -> BulkForm:
    """Return a form with a ticket for the plan as it is now, and the person's words as they were."""
    ticket = BulkTicket.issue(made.verb, request.team.pk, request.user, made.marks, made.fingerprint)
    if data is not None:
        data = data.copy()
        data["ticket"] = ticket
    initial = {"ticket": ticket, **(said_before(earlier) if earlier else {})}
    return BulkForm(data, initial=initial, plan=made, team_id=request.team.pk, user=request.user)


def said_before(earlier: Batch) -> dict[str, Any]:
    first = Operation.objects.of(earlier.team).filter(batch=earlier).first()
    kept = first.parameters if first else {}
    return {"reason": earlier.reason, **{name: kept[name] for name in VERBS[earlier.verb].asks if name in kept}}


def shown(
    request: PortalRequest, made: Plan, filters: FleetFilter, form: BulkForm, status: int = 200, **extra: Any
) -> HttpResponse:
    hours = request.GET.get("hours", "")
    kept = [(name, values) for name, values in request.GET.lists() if name not in ("to", "hours", "pattern")]
    listed = made.will if made.names else made.will[:SHOWN]
    context = {
        "plan": made,
        "verb": made.verb,
        "icon": ICONS[made.verb],
        "must_confirm": weighs_much(made) and must_confirm(request),
        "form": form,
        "names": listed,
        "more": len(made.will) - len(listed),
        "replaced": [(engine, other) for engine in made.will for other in made.replaced.get(engine.pk, ())],
        "reasons": [
            (kind.label, why, len(rows), rows[:SHOWN], max(0, len(rows) - SHOWN)) for kind, why, rows in made.reasons()
        ],
        "chips": chips(filters, request.GET) if request.GET.get("all") else [],
        "bad_filters": [*filters.form.errors.values()] if request.GET.get("all") else [],
        "share": PERCENT,
        "most": len(made.will) + len(made.wont),
        "guarded_url": without(request.GET, guard="keep"),
        "terms": [
            (label, without(request.GET, "hours", to=name), name == request.GET.get("to", "" if hours else "day"))
            for name, label in choices.LABELS.items()
        ],
        **told_first(request, made, form),
        "balances": partial(balances, request, made),
        "hours": hours,
        "kept": [(name, value) for name, values in kept for value in values],
        **extra,
    }
    # Rendered when the transaction of a confirmation is over: no API is asked under its lock.
    return TemplateResponse(request, "engines/many.html", context, status=status)


def balances(request: PortalRequest, made: Plan) -> list[dict[str, Any]]:
    """Return each connection's cost, and its balance before and after, as far as the APIs say.

    It waits for one that hangs, not for several: those after it are not asked. Empty where no API has one.
    """
    if not made.offer or made.forbidden:
        return []
    costs: dict[Connection, int] = defaultdict(int)
    for engine in made.will:
        costs[engine.connection] += made.offer.quotes[engine.pk].cost
    keys = {key.connection_id: key for key in current_keys(request.team).filter(user=request.user)}
    until = clock.boot() + BALANCE_SECONDS
    found = []
    for connection, cost in sorted(costs.items(), key=lambda each: each[0].name):
        said = balance(keys.get(connection.pk), cost) if clock.boot() < until else {}
        found.append({"connection": connection, "cost": cost, **said})
    return found if any("balance" in each or "no_balance" in each for each in found) else []


def told_first(request: PortalRequest, made: Plan, form: BulkForm) -> dict[str, Any]:
    """Return whose paid time may end before their tasks do, until when that was looked at, and where to extend them."""
    found = overruns(request, made, form)
    asked = urlencode([("uid", each.engine.uid) for each in found[: VERBS[Verb.EXTEND].most]])  # what ends first
    return {
        "overruns": found,
        "overruns_more": max(0, len(found) - SHOWN),
        "told": hours_of(form),
        "extend_url": f"{reverse('bulk-extend')}?{asked}",
        "zone": choices.zone_of(request),
    }


@require_safe
@vary_on_htmx
def batch(request: PortalRequest, pk: str) -> HttpResponse:
    """One outcome for each engine, a page at a time, of one outcome if the address says which."""
    found = get_object_or_404(Batch.objects.of(request.team).select_related("retry_of"), pk=pk)
    rows = Operation.objects.of(request.team).filter(batch=found).select_related("engine")
    outcome = request.GET.get("outcome", "")
    if outcome in State.values:
        rows = rows.filter(state=outcome)
    page, bad_cursor = page_of(request, rows, ("engine_name", "id"), PAGE)
    numbers = outcomes(found)
    again, now = in_vain(found).count(), clock.now()
    proposals = many.waiting(found, now) if found.verb in MONEY else []
    waiting = sum(numbers.get(state, 0) for state in UNSENT) + len(proposals)
    role = request.membership.role
    context = {
        "batch": found,
        "page": links(page, request.GET),
        "bad_cursor": bad_cursor,
        "outcomes": [
            (state, State(state).label, number, without(request.GET, outcome=state))
            for state, number in numbers.items()
        ],
        "outcome": outcome,
        "total": sum(numbers.values()),
        "open": sum(number for state, number in numbers.items() if state in OPEN),
        "waiting": waiting,
        "again": again,
        "retries": found.retries.all(),
        "may_stop": may_stop(role, found),
        "again_url": again_at(found) if may(role, again_by(found)) else "",
        "proposals": [(each, wanted(each)) for each in proposals],
        "lapsed": many.lapsed(found, now) if found.verb in MONEY else 0,
        "proposed_cost": many.cost_of(proposals),
        "may_approve": may(role, "batch-approve") and found.requested_by_id != request.user.pk,
        "not_asked": found.not_asked[:NOT_ASKED],
        "not_asked_more": max(0, len(found.not_asked) - NOT_ASKED),
    }
    fragment = request.htmx and request.htmx.target == "batch"
    return render(request, "operations/_batch.html" if fragment else "operations/batch.html", context)


def again_by(found: Batch) -> str:
    """Return the name of the page where what failed of it is tried again."""
    return "engine-create" if found.verb == Verb.CREATE else f"bulk-{found.verb}"


def again_at(found: Batch) -> str:
    """Return that page's address: for machines, what as many of them cost now, which are ordered anew."""
    if found.verb != Verb.CREATE:
        return f"{reverse(again_by(found))}?retry={found.pk}"
    rows = list(in_vain(found).order_by("engine_name", "pk"))
    if not rows:
        return ""
    one = order_of(rows[0])
    more: dict[str, Any] = {"retry_of": [row.pk for row in rows]}
    if len(rows) > 1:  # they are numbered anew
        more |= {"number": len(rows), "name": one.given_name.rpartition("-")[0]}
    return asked_again(rows[0].new_at_id, one, **more)


def may_stop(role: str, found: Batch) -> bool:
    """Whoever may cancel such operations, or ask for them, may stop what was not sent yet."""
    cancel = "cloud-time-cancel" if found.verb in MONEY else "operation-cancel"
    return may(role, cancel) or may(role, f"bulk-{found.verb}")


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def stop(request: PortalRequest, pk: str) -> HttpResponse:
    found = get_object_or_404(Batch.objects.of(request.team), pk=pk)
    if not may_stop(request.membership.role, found):
        raise PermissionDenied

    def carry_out(by: Decider) -> HttpResponse:
        stopped = stop_the_rest(found, by=by, now=clock.now())
        messages.success(request, f"{stopped} that were not sent yet are cancelled. What was sent goes on.")
        return go(request, reverse("batch", args=[found.pk]))

    asked = of_batch(
        found,
        title=f"Stop the rest: {found}",
        button="Stop the rest",
        icon="ban",
        consequences=("What was not sent yet is cancelled. What was sent goes on.",),
    )
    return deciding(request, asked, reason_form(request), carry_out)


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def approve(request: PortalRequest, pk: str) -> HttpResponse:
    """Approve all of a batch that waits for a second person, as it was shown to them."""
    found = get_object_or_404(Batch.objects.of(request.team), pk=pk)
    proposals = many.waiting(found, clock.now())

    def carry_out(by: Decider) -> HttpResponse:
        try:
            lost = many.approve_all(proposals, request.POST.get("digest", ""), by=by, now=clock.now())
        except NotApproved as refused:
            messages.warning(request, str(refused))
        else:
            words = f"{len(proposals) - len(lost)} of {len(proposals)} are approved and on their way."
            messages.success(request, words)
            for name, why in lost[:SHOWN]:
                messages.warning(request, f"{name}: {why}")
        return go(request, reverse("batch", args=[found.pk]))

    cost = amounts.dollars(many.cost_of(proposals))
    asked = of_batch(
        found,
        title=f"Approve all {len(proposals)} for {cost}",
        button=f"Approve all {len(proposals)} for {cost}",
        icon="circle-check",
        consequences=("Each is bought with the key of who asked, once its price and the limits are looked at again.",),
        why_not="" if proposals or request.method == "POST" else "None of it waits for a second person any more.",
        weighs_much=True,
        kept={"digest": request.POST.get("digest", many.digest(proposals))},
        details="operations/_proposed.html",
        facts={"proposed": [(each, wanted(each)) for each in proposals]},
    )
    return deciding(request, asked, reason_form(request), carry_out)


def of_batch(found: Batch, **words: Any) -> Decision:
    asked = f"Asked by {found.requested_name}: {found.reason}"
    return Decision(place=str(found), back=reverse("batch", args=[found.pk]), about=asked, **words)
