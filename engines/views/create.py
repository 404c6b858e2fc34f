"""New engines. On a host of one's own: a command with a key of its own, shown once, and a page that waits for it."""

from dataclasses import replace
from typing import Any

from django.http import Http404, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_http_methods, require_safe

from engines.access import client_for, key_of
from engines.api import errors
from engines.api.advice import went_wrong
from engines.api.client import MadeKey
from engines.creating.forms import HostForm, issue
from engines.creating.installing import command
from engines.enums import EngineStatus
from engines.models import Engine
from portal import clock
from portal.accounts.confirmed import must_confirm
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest, vary_on_htmx
from portal.vault.keys import Sealed, current_keys, flag
from portal.vault.models import Connection, StoredKey

SCOPES = ("engines:write",)  # all that an engine needs: to register, and to be connected
SECONDS = 10.0
NO_KEY = "You have no key for this API yet. Add one on the Keys page: the engine's own key is made with it."


@require_http_methods(["GET", "HEAD", "POST"])
def new(request: PortalRequest) -> HttpResponse:
    connections = Connection.objects.of(request.team).order_by("pk")
    about: dict[str, Any] = {"team": request.team, "user": request.user, "connections": connections}
    if request.method != "POST":
        return asking(request, HostForm(initial={"ticket": issue(request.team, request.user)}, **about))
    form = HostForm(request.POST, **about)
    if not form.is_valid():
        return asking(request, renewed(form, request, about), status=422)
    if must_confirm(request):
        return asking(request, form, status=409, confirm_refused=True)
    key = key_of(request, form.cleaned_data["connection"])
    if key is None:
        form.add_error(None, NO_KEY)
        return asking(request, form, status=409)
    return shown(request, form, key)


def renewed(form: HostForm, request: PortalRequest, about: dict[str, Any]) -> HostForm:
    """The same words with a fresh ticket, where the old one is of no use any more."""
    if "ticket" not in form.errors:
        return form
    data = form.data.copy()  # type: ignore[attr-defined]  # a QueryDict
    data["ticket"] = issue(request.team, request.user)
    words = form.errors["ticket"].as_data()
    form = HostForm(data, **about)
    form.add_error(None, words)
    return form


def asking(request: PortalRequest, form: HostForm, status: int = 200, **extra: Any) -> HttpResponse:
    connections = Connection.objects.of(request.team)
    missing = not current_keys(request.team).filter(user=request.user).exists()
    context = {"form": form, "connections": connections, "key_missing": missing, "must_confirm": must_confirm(request)}
    context |= extra
    return render(request, "creating/new.html", context, status=status)


def shown(request: PortalRequest, form: HostForm, key: StoredKey) -> HttpResponse:
    """Make the engine's key and show it in its command: on this page, and never again."""
    connection, name = key.connection, form.cleaned_data["name"]
    context: dict[str, Any] = {"name": name, "connection": connection, "command": None, "problem": "", "wrong": None}
    try:
        with client_for(key, timeout=SECONDS) as client:
            context["command"] = command(client, connection.base_url, name)
            label = f"engine {name}"
            StoredKey.objects.of(request.team).filter(pk=key.pk).update(last_used_at=clock.now())
            tell(request, key, "enginekey.asked", form, label)
            try:
                context["made"] = made = client.make_key(label, SCOPES, once=str(form.cleaned_data["ticket"]))
            except errors.ApiError as error:
                outcome, context["problem"] = why_none(error, label)
                wrong = went_wrong(errors.answer_of(error))
                if wrong and outcome == "unknown":  # nobody is told to try again what may have happened
                    wrong = replace(wrong, advice="")
                context["wrong"] = wrong
                tell(request, key, "enginekey.made", form, label, outcome=outcome, note=str(error))
                if error.status == 401:
                    flag(key, str(error), errors.answer_of(error))
            else:
                tell(request, key, "enginekey.made", form, label, made=made)
    except Sealed as error:
        context["problem"] = str(error)
    return render(request, "creating/command.html", context)


def tell(
    request: PortalRequest,
    key: StoredKey,
    action: str,
    form: HostForm,
    label: str,
    made: MadeKey | None = None,
    **facts: Any,
) -> None:
    """Write into the audit log which key was asked for or made; what it says is not in there."""
    record(
        team=request.team,
        actor=request.user,
        action=action,
        target=key.connection,
        origin=Origin.of(request),
        reason=form.cleaned_data["reason"],
        used=str(key),
        label=label,
        scopes=list(SCOPES),
        made_id=made.id if made else "",
        **facts,
    )


def why_none(error: errors.ApiError, label: str) -> tuple[str, str]:
    """Return the audit's outcome, and what to do without a key, in words."""
    by_hand = "Make a key with the scope engines:write where you manage the API's keys, and put it into the command."
    match error:
        case errors.Refused(code="shown_once"):
            return "refused", (
                f"This form was sent before, and its key was shown then. If nobody has it, revoke “{label}” where you "
                "manage the API's keys, and open this page anew."
            )
        case errors.Refused(status=404 | 405):
            return "refused", f"This API makes no keys on request. {by_hand}"
        case errors.KeyRejected() | errors.Refused() | errors.NotSent() | errors.ApiBusy(status=429):
            return "refused", f"{error} No key was made. {by_hand}"
    return "unknown", (
        f"{error} Whether a key was made is not known. Look for “{label}” where you manage the API's keys, revoke it "
        "if it is there, and open this page anew."
    )


@require_safe
@vary_on_htmx
def waiting(request: PortalRequest) -> HttpResponse:
    """Say whether the engine of that name has shown up."""
    pk, name = request.GET.get("connection", ""), request.GET.get("name", "")
    if not pk.isdecimal() or len(pk) > 9 or "\0" in name:
        raise Http404
    connection = get_object_or_404(Connection.objects.of(request.team), pk=pk)
    rows = Engine.objects.of(request.team).filter(connection=connection, name=name).exclude(status="deleted")
    found = rows.order_by("-created_at", "-pk").first()
    context = {
        "name": name,
        "connection": connection,
        "engine": found,
        "is_there": found is not None and found.status == EngineStatus.RUNNING,
    }
    fragment = request.htmx and request.htmx.target == "waiting"
    return render(request, "creating/_waiting.html" if fragment else "creating/waiting.html", context)
