"""Where a team's keys are sent: an admin's to add, change and remove."""

from collections.abc import Callable
from functools import wraps

from django.contrib import messages
from django.db import transaction
from django.db.models import Count, Q
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_safe

from engines.enums import OPEN
from engines.forms import ConnectionForm
from engines.models import Engine, Operation
from portal.accounts.confirmed import recently_confirmed
from portal.accounts.models import Team
from portal.audit.origin import Origin
from portal.http import PortalRequest
from portal.vault import connections as vault
from portal.vault.models import Connection, StoredKey


@require_safe
def connections(request: PortalRequest) -> HttpResponse:
    current = Count("keys", filter=Q(keys__retired_at__isnull=True), distinct=True)
    rows = Connection.objects.of(request.team).annotate(key_count=current).order_by("name", "pk")
    return render(request, "connections/list.html", {"connections": rows})


@recently_confirmed
@require_http_methods(["GET", "HEAD", "POST"])
def add(request: PortalRequest) -> HttpResponse:
    form = ConnectionForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        name, url = form.cleaned_data["name"], form.cleaned_data["address"]
        try:
            made = vault.add(request.team, name, url, by=request.user, origin=Origin.of(request))
        except vault.Taken as error:
            form.add_error("address", str(error))
        else:
            messages.success(request, f"{made} is added. Everybody enters a key of their own for it here.")
            return redirect("keys")
    status = 422 if request.method == "POST" else 200
    return render(request, "connections/new.html", {"form": form}, status=status)


def of_own_team(view: Callable[[PortalRequest, Connection], HttpResponse]) -> Callable[..., HttpResponse]:
    """Give the view the team's connection; answer 404 for another team's before anything else."""
    confirmed = recently_confirmed(view)

    @wraps(view)
    def guarded(request: PortalRequest, connection: int) -> HttpResponse:
        return confirmed(request, get_object_or_404(Connection.objects.of(request.team), pk=connection))

    return guarded


@of_own_team
@require_http_methods(["GET", "HEAD", "POST"])
def change(request: PortalRequest, connection: Connection) -> HttpResponse:
    shown = {"name": connection.name, "address": connection.base_url}
    form = ConnectionForm(request.POST or None, initial=shown, current=connection.base_url)
    if request.method == "POST" and form.is_valid() and save(request, connection, form):
        return redirect("connections")
    context = {"form": form, "connection": connection, **consequences(connection)}
    return render(request, "connections/change.html", context, status=422 if request.method == "POST" else 200)


@transaction.atomic
def save(request: PortalRequest, connection: Connection, form: ConnectionForm) -> bool:
    """Save what was entered; say whether that went well. The form has the errors if not."""
    name, url = form.cleaned_data["name"], form.cleaned_data["address"]
    if url != connection.base_url and (open_now := held(connection)["open"]):
        words = f"{open_now} operations on its engines are not finished. Change the address when they are."
        form.add_error("address", words)
        return False
    try:
        dropped = vault.change(connection, name, url, by=request.user, origin=Origin.of(request))
    except vault.Taken as error:
        form.add_error("address", str(error))
        return False
    words = f"{dropped} keys were dropped: everybody enters a new one." if dropped else ""
    messages.success(request, f"{name} is saved. {words}")
    return True


@of_own_team
@require_http_methods(["GET", "HEAD", "POST"])
@transaction.atomic
def remove(request: PortalRequest, connection: Connection) -> HttpResponse:
    gone = held(connection) if request.method == "POST" else consequences(connection)
    if request.method == "POST" and not gone["open"]:
        vault.remove(connection, by=request.user, origin=Origin.of(request), engines=gone["engines"])
        messages.success(request, f"{connection.name} is removed, and {gone['keys']} keys with it.")
        return redirect("connections")
    context = {"connection": connection, **gone}
    return render(request, "connections/remove.html", context, status=409 if request.method == "POST" else 200)


def held(connection: Connection) -> dict[str, int]:
    """As `consequences`, and nothing more is bought there until the transaction ends."""
    Team.objects.select_for_update(no_key=True).get(pk=connection.team_id)
    return consequences(connection)


def consequences(connection: Connection) -> dict[str, int]:
    """Return how much hangs on the connection: on its engines, and on those that are ordered there."""
    there = Q(engine__connection=connection) | Q(new_at=connection)
    operations = Operation.objects.of(connection.team).filter(there)
    return {
        "keys": StoredKey.objects.of(connection.team).filter(connection=connection).count(),
        "engines": Engine.objects.of(connection.team).filter(connection=connection).count(),
        "operations": operations.count(),
        "open": operations.filter(state__in=OPEN).count(),
    }
