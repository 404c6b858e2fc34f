"""The cloud time page: which engine's paid time ends when, what more would cost, and what was spent by whom."""

from collections import defaultdict
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

from django.contrib import messages
from django.db.models import F, Q, Sum
from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from engines.access import operation_for
from engines.enums import MONEY, OPEN, UNSENT, State, Verb
from engines.forms import EvidenceForm
from engines.models import DayCheck, Engine, LedgerEntry, Operation, Proposal
from engines.money import amounts, approve, choices, limits, sheet
from engines.money.buy import cancel as take_back
from engines.money.checks import coverage
from engines.money.choices import Choice
from engines.money.models import Evidence, Outcome
from engines.money.reconcile import OwnWord, is_to_settle, own_word, resolve
from engines.operations.moves import Decider, Moved
from engines.operations.request import Busy
from engines.operations.verbs import blocker
from engines.paid_clock import BANDS, tone
from engines.restored import restored_at
from engines.views.decide import Decision, deciding, go, on_cloud_time, reason_form
from engines.views.fleet import automation_silence
from portal import clock
from portal.accounts.access import may
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.query import links, page_of
from portal.vault.models import Connection

PAGE = 25
ENGINES = 50  # shown, unless all are asked for
CHECKS = 50
LOOKED_BACK = timedelta(days=31)
NOT_BOUGHT = timedelta(days=1)  # so long it is shown
LAST = datetime.max.replace(tzinfo=UTC)
LATE = timedelta(minutes=5)  # after that, an unknown answer is said aloud


@dataclass(frozen=True)
class Row:
    """A cloud engine of the page."""

    engine: Engine
    ends: datetime | None  # None where the API reports none
    price: int | None  # cents an hour; the same
    tone: str  # of the warning; "" while there is time
    since_start: int | None  # what its machine cost up to now by its hourly price, in microcents
    bought: int  # through the portal
    why_not: str  # nothing can be bought
    operation: Operation | None
    choices: list[Choice] = field(default_factory=list)  # of a row that is shown

    @property
    def hourly(self) -> int:
        """In microcents."""
        return (self.price or 0) * amounts.MICROCENTS_PER_CENT


@require_safe
@vary_on_htmx
def cloud_time(request: PortalRequest) -> HttpResponse:
    now, zone = clock.now(), choices.zone_of(request)
    entries = LedgerEntry.objects.of(request.team)
    page, bad_cursor = page_of(request, entries, ("-at", "id"), PAGE)
    rows = engine_rows(request, now)
    shown = rows if "all" in request.GET else rows[:ENGINES]
    context = {
        "rows": [offered(row, now, zone) for row in shown],
        "more": len(rows) - len(shown),
        "warnings": warnings(rows, now),
        "zone": zone,
        "page": links(page, request.GET),
        "bad_cursor": bad_cursor,
        "proposals": proposals(request, now),
        "not_bought": not_bought(request, now),
        "unclear": unclear(request, now),
        "checks": checks(request),
        "coverage": coverage(request.team, now),
        "by_reading": by_reading(request, now),
        "checked": DayCheck.objects.of(request.team).order_by("-read_at").first(),
        "freeze": limits.freeze_of(request.team),
        "tiles": tiles(request, now),
        "may_ceiling": may(request.membership.role, "cloud-time-ceiling"),
        "may_act": may(request.membership.role, "engine-extend"),
        "may_limit": may(request.membership.role, "cloud-time-limits"),
        "connections": Connection.objects.of(request.team),
        "silence": automation_silence(now),
        "restored": restored_at(request.team, now),
    }
    fragment = request.htmx and request.htmx.target == "cloud-time"
    return render(request, "cloud_time/_page.html" if fragment else "cloud_time/page.html", context)


def engine_rows(request: PortalRequest, now: datetime) -> list[Row]:
    """Return the cloud engines, what ends first on top; last, those of which the API reports no end or no price."""
    engines = Engine.objects.of(request.team).exclude(cloud="").exclude(status="deleted").select_related("connection")
    open_now = Operation.objects.of(request.team).filter(state__in=OPEN)
    busy = {operation.engine_id: operation for operation in open_now if blocker(Verb.EXTEND, [operation])}
    sums = LedgerEntry.objects.of(request.team).values("engine_uid").annotate(sum=Sum("cost"))
    bought = {each["engine_uid"]: each["sum"] for each in sums}
    rows = [row_of(engine, bought.get(engine.uid, 0), busy.get(engine.pk), now) for engine in engines]
    return sorted(rows, key=lambda row: (not (row.ends and row.price), row.ends or LAST, row.engine.name))


def row_of(engine: Engine, bought: int, operation: Operation | None, now: datetime) -> Row:
    instance = engine.wire.get("instance")
    ends = amounts.end(instance)
    return Row(
        engine,
        ends,
        amounts.price_of(instance),
        tone(ends, now) if ends else "",
        amounts.run_cost(engine, now),
        bought,
        amounts.unsellable(engine, lambda: now),
        operation,
    )


def offered(row: Row, now: datetime, zone: tzinfo) -> Row:
    """Return the row with what can be bought: for hundreds of engines, that takes longer than all the rest."""
    paid = amounts.paid_time(row.engine)
    return replace(row, choices=choices.choices(paid, now, zone)) if paid else row


def warnings(rows: list[Row], now: datetime) -> list[dict[str, Any]]:
    """Return one warning for what is past its end, and one for each band that has engines in it."""
    named = defaultdict(list)
    for row in rows:
        if row.ends and row.tone and row.engine.status not in amounts.OVER:
            named["over" if row.ends <= now else row.tone].append(row.engine)
    words = {"over": "Paid time is over", **{colour: f"Ends within {within}" for _, colour, within in BANDS}}
    return [
        {"tone": "bad" if name == "over" else name, "words": said, "engines": named[name]}
        for name, said in words.items()
        if named[name]
    ]


def tiles(request: PortalRequest, now: datetime) -> list[tuple[str, str, str]]:
    """Return label, amount and limit of what was spent today and this month."""
    set_limits, team = limits.limits_of(request.team), request.team
    today = now.replace(hour=0, minute=0, second=0, microsecond=0)
    sums = [
        ("Team, today", limits.spent(team, today), set_limits.team_day),
        ("Team, this month", limits.spent(team, today.replace(day=1)), set_limits.team_month),
        ("You, today", limits.spent(team, today, user_id=request.user.pk), set_limits.user_day),
    ]
    return [(label, amounts.dollars(spent), amounts.dollars(limit)) for label, spent, limit in sums]


def proposals(request: PortalRequest, now: datetime) -> list[dict[str, Any]]:
    rows = Proposal.objects.of(request.team).filter(state=Proposal.State.WAITING, expires_at__gt=now).order_by("at")
    return [
        {
            "proposal": each,
            "quote": approve.wanted(each),
            "own": each.requested_by_id == request.user.pk,
        }
        for each in rows.select_related("engine", "requested_by")
    ]


def not_bought(request: PortalRequest, now: datetime) -> list[Proposal]:
    """Return what was rejected of late, or not approved in time: who asked for it reads here why."""
    rejected = Q(state=Proposal.State.REJECTED, decided_at__gt=now - NOT_BOUGHT)
    late = Q(state=Proposal.State.WAITING, expires_at__lte=now, expires_at__gt=now - NOT_BOUGHT)
    rows = Proposal.objects.of(request.team).filter(rejected | late)
    return list(rows.select_related("engine", "requested_by", "decided_by").order_by("-at")[:PAGE])


def unclear(request: PortalRequest, now: datetime) -> list[Operation]:
    """Return the purchases that only a person can settle, and those that are unknown for long."""
    rows = Operation.objects.of(request.team).filter(verb__in=MONEY).select_related("engine", "extension")
    waiting = Q(state=State.NEEDS_ATTENTION) | Q(state=State.UNKNOWN, moved_at__lt=now - LATE)
    return list(rows.filter(waiting | Q(extension__outcome=Outcome.DISCREPANCY)).order_by("requested_at"))


def checks(request: PortalRequest) -> list[DayCheck]:
    rows = DayCheck.objects.of(request.team).exclude(moved_hours=F("ledger_hours"))
    return list(rows.select_related("engine").order_by("-day", "engine__name")[:CHECKS])


def by_reading(request: PortalRequest, now: datetime) -> list[LedgerEntry]:
    """Return what was booked of late because a reading showed it: hours bought elsewhere would look like that."""
    rows = LedgerEntry.objects.of(request.team).filter(evidence=Evidence.READING, at__gt=now - LOOKED_BACK)
    return list(rows.order_by("-at", "pk")[:CHECKS])


@require_POST
def sheet_of(request: PortalRequest) -> HttpResponse:
    """The whole ledger as CSV, the oldest entry first. The export itself is audited."""
    record(
        team=request.team,
        actor=request.user,
        action="cloudtime.exported",
        target=request.team,
        origin=Origin.of(request),
    )
    entries = LedgerEntry.objects.of(request.team).order_by("at", "pk")
    # The mark of UTF-8 in front: without it, a spreadsheet reads names in the encoding of its country.
    response = HttpResponse("\ufeff" + "".join(sheet.lines(entries)), content_type="text/csv; charset=utf-8")
    response["Content-Disposition"] = f'attachment; filename="cloud-time-{request.team.slug}.csv"'
    return response


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def decide(request: PortalRequest, pk: str, step: str) -> HttpResponse:
    """Approve or reject a purchase that waits for a second person."""
    rows = Proposal.objects.of(request.team).select_related("engine", "requested_by", "key")
    proposal = get_object_or_404(rows, pk=pk)

    def carry_out(by: Decider) -> HttpResponse:
        try:
            if step == "approve":
                operation = approve.approve(proposal, request.POST.get("digest", ""), by=by, now=clock.now())
                return go(request, reverse("operation", args=[operation.pk]))
            approve.reject(proposal, by=by, now=clock.now())
            messages.success(request, "Rejected. Nothing was bought.")
        except (approve.NotApproved, limits.Frozen, limits.OverLimit, Busy) as refused:
            messages.warning(request, f"Not approved. {refused}")
        return go(request, reverse("cloud-time"))

    asked = approving(request, proposal) if step == "approve" else rejecting(request, proposal)
    return deciding(request, asked, reason_form(request), carry_out)


def approving(request: PortalRequest, proposal: Proposal) -> Decision:
    cost = amounts.dollars(approve.wanted(proposal).cost)
    refused = approve.why_not(proposal, proposal.digest, request.user, clock.now())
    return on_cloud_time(
        title=f"Approve {cost}",
        button=f"Approve {cost}",
        consequences=("It is bought with the key of who asked, once price and limits are looked at again.",),
        why_not=refused if request.method != "POST" else "",
        weighs_much=True,
        kept={"digest": request.POST.get("digest", proposal.digest)},
        **about(request, proposal),
    )


def rejecting(request: PortalRequest, proposal: Proposal) -> Decision:
    decided = proposal.state != Proposal.State.WAITING and request.method != "POST"
    verb = "Withdraw" if proposal.requested_by_id == request.user.pk else "Reject"
    return on_cloud_time(
        title=f"{verb} {amounts.dollars(approve.wanted(proposal).cost)}",
        button=f"{verb} it",
        icon="x",
        consequences=("Nothing is bought.",),
        why_not=f"It is {proposal.get_state_display().lower()}." if decided else "",
        **about(request, proposal),
    )


def about(request: PortalRequest, proposal: Proposal) -> dict[str, Any]:
    """Return what a dialog shows of a purchase that waits."""
    facts = {"proposal": proposal, "quote": approve.wanted(proposal), "zone": choices.zone_of(request)}
    return {"about": f"Asked by {proposal.requested_by}", "details": "cloud_time/_proposal.html", "facts": facts}


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def settle(request: PortalRequest, pk: str) -> HttpResponse:
    """Say of an unclear purchase whether it was charged, or of a difference what became of it, and how one knows."""
    found, applied = operation_for(request, pk), request.POST.get("applied", request.GET.get("applied"))
    if applied not in ("yes", "no"):
        raise Http404
    url = reverse("operation", args=[found.pk])

    def carry_out(by: Decider) -> HttpResponse:
        try:
            resolve(found, applied=applied == "yes", by=by)
        except OwnWord as refused:
            messages.warning(request, str(refused))
        except (Moved, ValueError):
            messages.warning(request, "It has moved on meanwhile; nothing was done. This is how it stands now.")
        return go(request, url)

    words, consequence = said_of(found, applied)
    asked = Decision(
        title=f"{words}: {found}",
        button=words,
        place=str(found),
        back=url,
        about=f"Asked by {found.requested_name}: {found.reason}",
        consequences=(consequence,),
        why_not=not_to_settle(request, found) if request.method != "POST" else "",
        weighs_much=True,
        kept={"applied": applied},
    )
    return deciding(request, asked, EvidenceForm(request.POST if request.method == "POST" else None), carry_out)


def said_of(found: Operation, applied: str) -> tuple[str, str]:
    """Return what a person says who settles it so, and what comes of that."""
    if found.state != State.NEEDS_ATTENTION:
        return "It is settled", "What is booked stays as it is. The question is closed."
    if applied == "yes":
        return "It was charged", "It is booked in the ledger, and your word is the evidence."
    words = "Nothing is booked, and it may be asked for again: if it was charged after all, it would be paid twice."
    return "It was not charged", words


def not_to_settle(request: PortalRequest, found: Operation) -> str:
    if not is_to_settle(found):
        return f"It stands at “{found.get_state_display()}”, where there is nothing to settle."
    return own_word(found, request.user)


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def cancel(request: PortalRequest, pk: str) -> HttpResponse:
    """Take a purchase back that was not sent yet."""
    found = operation_for(request, pk)
    url = reverse("operation", args=[found.pk])

    def carry_out(by: Decider) -> HttpResponse:
        try:
            take_back(found, by=by)
        except (Moved, ValueError):
            messages.warning(request, "It has moved on meanwhile; nothing was done. This is how it stands now.")
        return go(request, url)

    late = found.verb not in MONEY or found.state not in UNSENT
    asked = Decision(
        title=f"Cancel: {found}",
        button="Cancel it",
        place=str(found),
        back=url,
        icon="ban",
        about=f"Asked by {found.requested_name}: {found.reason}",
        consequences=("It is not sent, and nothing is charged.",),
        why_not=f"It stands at “{found.get_state_display()}”." if late and request.method != "POST" else "",
    )
    return deciding(request, asked, reason_form(request), carry_out)
