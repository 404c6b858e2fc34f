"""Stopping all spending, and how much may be spent."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.http import HttpResponse
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from engines.money import limits
from engines.money.forms import LimitsForm
from engines.money.models import Ceiling, Limits
from engines.operations.moves import Decider
from engines.views.decide import deciding, go, on_cloud_time, reason_form
from portal import clock
from portal.accounts.access import may
from portal.accounts.models import Team
from portal.audit.log import record
from portal.http import PortalRequest, vary_on_htmx
from portal.live.bus import publish


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
def freeze(request: PortalRequest) -> HttpResponse:
    """Stop all spending of the team from now on, or let it go on. The freeze of everybody is not the team's."""
    held = limits.freeze_of(request.team)
    # The one that was shown: a form of before must not undo what somebody has stopped since.
    lift = request.POST.get("lift", "") if request.method == "POST" else str(held.pk) if held and held.team_id else ""

    def carry_out(by: Decider) -> HttpResponse:
        if lift:
            if not limits.thaw(request.team, by, lift):
                messages.warning(request, "It stays frozen: this is another freeze than the one that you were shown.")
        else:
            limits.freeze(request.team, by, clock.now())
        return go(request, reverse("cloud-time"))

    if lift:
        asked = on_cloud_time(
            title="Let spending go on",
            button="Let spending go on",
            about=str(held or ""),
            weighs_much=True,  # stopping is for anybody, at once
            kept={"lift": lift},
        )
    else:
        asked = on_cloud_time(
            title="Freeze spending",
            button=f"Freeze all spending of {request.team}",
            icon="lock",
            consequences=("Nothing is bought any more, not even what is confirmed already and not sent yet.",),
        )
    return deciding(request, asked, reason_form(request), carry_out)


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
@transaction.atomic
def set_limits(request: PortalRequest) -> HttpResponse:
    """Set the limits: an admin to anything, Billing up to the ceiling."""
    hold(request)
    held = bounds(request)
    words = ""
    if held:
        up_to = "up to the ceiling of each limit" if held["ceiling"] else "lower, and none higher"
        words = f"You may set them {up_to}: an Admin decides that."
    form = limits_form(request, limits.limits_of(request.team), **held)
    kept = seen(request, limits.limits_of(request.team))
    asked = on_cloud_time(title="Limits", button="Save the limits", about=words, weighs_much=True, kept=kept)
    return deciding(request, asked, form, lambda by: amend(request, form, by, Limits, "cloudtime.limits"))


@require_http_methods(["GET", "HEAD", "POST"])
@vary_on_htmx
@transaction.atomic
def set_ceiling(request: PortalRequest) -> HttpResponse:
    """Set how far Billing may raise each limit."""
    hold(request)
    ceiling = limits.ceiling_of(request.team)
    form = limits_form(request, ceiling or limits.limits_of(request.team))
    words = "How far Billing may set each limit."
    if ceiling is None:
        words += " None is set: Billing may lower limits, and raise none."
    kept = seen(request, ceiling)
    asked = on_cloud_time(
        title="Ceiling of the limits", button="Save the ceiling", about=words, weighs_much=True, kept=kept
    )
    return deciding(request, asked, form, lambda by: amend(request, form, by, Ceiling, "cloudtime.ceiling"))


def hold(request: PortalRequest) -> None:
    """Have the ceiling stand still while limits are held to it."""
    if request.method == "POST":
        Team.objects.select_for_update(no_key=True).get(pk=request.team.pk)


def limits_form(request: PortalRequest, shown: Limits | Ceiling, **held: Any) -> LimitsForm:
    return LimitsForm(request.POST, **held) if request.method == "POST" else LimitsForm.showing(shown, **held)


def bounds(request: PortalRequest) -> dict[str, Any]:
    """Return what LimitsForm needs to hold this person to the ceiling; nothing for an admin."""
    if may(request.membership.role, "cloud-time-ceiling"):
        return {}
    return {"current": limits.limits_of(request.team), "ceiling": limits.ceiling_of(request.team)}


def seen(request: PortalRequest, row: Limits | Ceiling | None) -> dict[str, str]:
    """Return what the form was filled from, as a hidden field."""
    return {"seen": request.POST.get("seen", marks(row))}


def marks(row: Limits | Ceiling | None) -> str:
    return " ".join(shown(row).values()) if row else "none"


def amend(
    request: PortalRequest, form: LimitsForm, by: Decider, kind: type[Limits] | type[Ceiling], action: str
) -> HttpResponse:
    earlier = kind.objects.of(request.team).first() or (Limits(team=request.team) if kind is Limits else None)
    before = shown(earlier) if earlier else {}
    # A form of before must not undo what somebody has lowered since; sent twice, it has just done what it says.
    if marks(earlier) not in (request.POST.get("seen", marks(earlier)), marks(kind(**form.amounts()))):
        messages.warning(request, "Somebody has changed them since you opened this. Nothing was saved: look again.")
        return go(request, reverse("cloud-time"))
    after = shown(kind.objects.of(request.team).update_or_create(team=request.team, defaults=form.amounts())[0])
    facts: dict[str, Any] = {"reason": by.reason, "before": before, "after": after}
    record(team=request.team, actor=by.user, action=action, target=request.team, origin=by.origin, **facts)
    publish(request.team.pk, "cloudtime")
    messages.success(request, "Saved. It holds from now on.")
    return go(request, reverse("cloud-time"))


def shown(row: Any) -> dict[str, str]:
    return {name: str(LimitsForm.showing(row).initial[name]) for name in LimitsForm.AMOUNTS}
