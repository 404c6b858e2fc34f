"""A person's own keys: entered, checked against the API, sealed, and never shown again."""

from collections.abc import Callable
from functools import wraps
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from engines import keys as use
from engines.access import client_for, client_to
from engines.api import errors
from engines.api.advice import said_there, went_wrong
from engines.forms import KeyForm
from engines.keys import Examined, abilities, examine
from portal.accounts.access import may
from portal.accounts.confirmed import must_confirm, recently_confirmed
from portal.accounts.roles import Role
from portal.audit.log import record
from portal.audit.origin import Origin
from portal.http import PortalRequest
from portal.vault.keys import Sealed, Secret, checked, flag, remove, store
from portal.vault.models import Connection, StoredKey


@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: PortalRequest) -> HttpResponse:
    connections = list(Connection.objects.of(request.team).order_by("name", "pk"))
    own = {key.connection_id: key for key in own_keys(request) if key.retired_at is None}
    forms = {connection: fresh_form(connection, own.get(connection.pk)) for connection in connections}
    status = 200
    if request.method == "POST":
        asked = [one for one in connections if str(one.pk) == request.POST.get("connection")]
        for connection in asked:
            forms[connection] = KeyForm(request.POST, prefix=f"c{connection.pk}")
            if must_confirm(request):
                forms[connection].add_error(
                    None, "Nothing was stored: confirm that it is you, then enter the key again."
                )
            elif keep(request, connection, forms[connection], own.get(connection.pk)):
                return redirect("keys")
        if not asked:
            messages.error(request, "Your team has no such connection any more. Nothing was stored.")
        status = 422
    others = StoredKey.objects.of(request.team).exclude(user=request.user).select_related("connection", "user")
    context = {
        "keys": [entry(key) for key in own_keys(request)],
        "forms": [{"connection": one, "form": form, "key": own.get(one.pk)} for one, form in forms.items()],
        "others": others if request.membership.role == Role.ADMIN else [],
        "may_connect": may(request.membership.role, "connection-new"),
        "may_write": request.membership.role != Role.AUDITOR,
        "must_confirm": must_confirm(request),
    }
    return render(request, "keys/list.html", context, status=status)


def own_keys(request: PortalRequest) -> QuerySet[StoredKey]:
    rows = StoredKey.objects.of(request.team).filter(user=request.user).select_related("connection", "team")
    return rows.order_by("connection__name", "connection", "-retired_at", "created_at")


def entry(key: StoredKey) -> dict[str, Any]:
    return {
        "key": key,
        "abilities": abilities(key),
        "last_use": use.last_use(key),
        "open": use.open_with(key),
        "reads": key.retired_at is None and use.reads_for_team(key),
    }


def fresh_form(connection: Connection, key: StoredKey | None) -> KeyForm:
    return KeyForm(prefix=f"c{connection.pk}", initial={"label": key.label} if key else {})


def keep(request: PortalRequest, connection: Connection, form: KeyForm, earlier: StoredKey | None) -> bool:
    """Check the entered key and store it; say whether that went well. The form has the errors if not."""
    if not form.is_valid():
        return False
    secret = Secret(form.cleaned_data["secret"])
    try:
        with client_to(connection, secret) as client:
            found = examine(client)
    except errors.ApiError as error:
        facts: dict[str, Any] = {"origin": Origin.of(request), "outcome": "refused", "reason": str(error)}
        record(team=request.team, actor=request.user, action="key.not_stored", target=connection, **facts)
        form.add_error("secret", "The key was not stored." + (f" {earlier} stays." if earlier else ""))
        form.answer = errors.answer_of(error)
        return False
    rotates = earlier is not None and request.POST.get("how") == "rotate"
    save(request, connection, secret, form.cleaned_data["label"], found, rotates)
    done = f"was added for {connection}"
    if earlier:
        done = f"has replaced {earlier}, which is gone"
    if rotates:
        done = f"is used from now on; {earlier} stays until what was asked with it is finished"
    words = f"“{form.cleaned_data['label']}” was checked and {done}. It is stored encrypted: nobody can see it again."
    messages.success(request, words)
    return True


@transaction.atomic
def save(
    request: PortalRequest, connection: Connection, secret: Secret, label: str, found: Examined, rotates: bool
) -> None:
    store(
        user=request.user,
        connection=connection,
        secret=secret,
        label=label,
        scopes=found.scopes,
        refused_reads=found.refused_reads,
        keep_earlier=rotates,
        origin=Origin.of(request),
    )
    Connection.objects.of(request.team).filter(pk=connection.pk).update(refresh_due_at=None)


def key_for(request: PortalRequest, pk: UUID) -> StoredKey:
    """Return the person's own key, or any of the team's to an admin; else raise Http404."""
    rows = StoredKey.objects.of(request.team).filter(pk=pk)
    if request.membership.role != Role.ADMIN:
        rows = rows.filter(user=request.user)
    found = rows.select_related("connection", "user", "team").first()
    if found is None:
        raise Http404
    return found


@require_POST
def test(request: PortalRequest, key: UUID) -> HttpResponse:
    """Ask the API anew what the person's key may do."""
    row = key_for(request, key)
    if row.user_id != request.user.pk:
        raise Http404  # nobody acts with somebody else's key, not even to try it
    try:
        with client_for(row) as client:
            found = examine(client)
    except (errors.KeyRejected, Sealed) as error:
        flag(row, str(error), errors.answer_of(error))
        messages.error(request, said_there(str(error), "below"))
    except errors.ApiError as error:
        StoredKey.objects.of(request.team).filter(pk=row.pk).update(last_answer=errors.answer_of(error))
        messages.warning(request, f"{error} Nothing is known about the key that was not known before.")
    else:
        checked(row, found.scopes, found.refused_reads, by=request.user, origin=Origin.of(request))
        messages.success(request, f"The API takes {row}. What it can do is as shown here.")
    return redirect("keys")


def known_key_first(view: Callable[[PortalRequest, UUID], HttpResponse]) -> Callable[..., HttpResponse]:
    """Answer 404 for a key that is not there for this person before anything else."""

    @wraps(view)
    def guarded(request: PortalRequest, key: UUID) -> HttpResponse:
        key_for(request, key)
        return view(request, key)

    return guarded


@known_key_first
@recently_confirmed
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: PortalRequest, key: UUID) -> HttpResponse:
    """Take a key out of the vault and, if its owner says so, have the API refuse it too."""
    row = key_for(request, key)
    mine = row.user_id == request.user.pk
    trouble: Exception | None = None
    if request.method == "POST":
        trouble = end(request, row, at_api=mine and request.POST.get("where") == "api")
        if trouble is None:
            return redirect("keys")
    context = {
        "key": row,
        "mine": mine,
        "open": use.open_with(row),
        "reads": row.retired_at is None and use.reads_for_team(row),
        "at_api": mine and use.may_revoke_at_api(row),
        "wrong": went_wrong(errors.answer_of(trouble)) if trouble else None,
    }
    return render(request, "keys/revoke.html", context, status=409 if request.method == "POST" else 200)


def end(request: PortalRequest, row: StoredKey, *, at_api: bool) -> Exception | None:
    """End the key; return what was in the way if it is still here."""
    origin = Origin.of(request)
    try:
        if at_api:
            use.revoke_at_api(row, by=request.user, origin=origin)
    except (errors.ApiError, Sealed) as error:
        return error
    name = str(row)
    remove(row, by=request.user, origin=origin)
    where = "The API refuses it from now on." if at_api else "The API still takes it, until it is revoked there."
    messages.success(request, f"{name} is removed. {where}")
    return None
