"""A person's own keys: entered, checked against the API, sealed, and never shown again."""

from typing import Any

from django.contrib import messages
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from engines.access import READS, WRITES
from engines.api import errors
from engines.api.client import EnginesClient
from engines.forms import KeyForm
from portal.accounts.roles import Role
from portal.audit.origin import Origin
from portal.http import PortalRequest
from portal.logs import request_id
from portal.vault.keys import Secret, store
from portal.vault.models import Connection, StoredKey


@require_http_methods(["GET", "HEAD", "POST"])
def keys(request: PortalRequest) -> HttpResponse:
    connections = list(Connection.objects.of(request.team))
    own = {key.connection_id: key for key in own_keys(request)}
    forms = {connection: fresh_form(connection, own.get(connection.pk)) for connection in connections}
    status = 200
    if request.method == "POST":
        asked = [one for one in connections if str(one.pk) == request.POST.get("connection")]
        for connection in asked:
            forms[connection] = KeyForm(request.POST, prefix=f"c{connection.pk}")
            if keep(request, connection, forms[connection], own.get(connection.pk)):
                return redirect("keys")
        if not asked:
            messages.error(request, "Your team has no such connection any more. Nothing was stored.")
        status = 422
    others = StoredKey.objects.of(request.team).exclude(user=request.user).select_related("connection", "user")
    context = {
        "keys": [{"key": key, "abilities": abilities(key)} for key in own.values()],
        "forms": [{"connection": one, "form": form, "key": own.get(one.pk)} for one, form in forms.items()],
        "others": others if request.membership.role == Role.ADMIN else [],
        "may_write": request.membership.role != Role.AUDITOR,
    }
    return render(request, "keys/list.html", context, status=status)


def own_keys(request: PortalRequest) -> QuerySet[StoredKey]:
    return StoredKey.objects.of(request.team).filter(user=request.user).select_related("connection")


def fresh_form(connection: Connection, key: StoredKey | None) -> KeyForm:
    return KeyForm(prefix=f"c{connection.pk}", initial={"label": key.label} if key else {})


def keep(request: PortalRequest, connection: Connection, form: KeyForm, earlier: StoredKey | None) -> bool:
    """Check the entered key and store it; say whether that went well. The form has the errors if not."""
    if not form.is_valid():
        return False
    secret = Secret(form.cleaned_data["secret"])
    try:
        scopes = scopes_of(connection, secret)
    except errors.ApiError as error:
        form.add_error("secret", f"{error} The key was not stored." + (f" {earlier} stays." if earlier else ""))
        return False
    label = form.cleaned_data["label"]
    origin = Origin.of(request)
    with transaction.atomic():
        store(user=request.user, connection=connection, secret=secret, label=label, scopes=scopes, origin=origin)
        Connection.objects.of(request.team).filter(pk=connection.pk).update(refresh_due_at=None)
    done = f"has replaced {earlier}, which is gone" if earlier else f"was added for {connection}"
    messages.success(request, f"“{label}” was checked and {done}. It is stored encrypted: nobody can see it again.")
    return True


def scopes_of(connection: Connection, secret: Secret) -> list[str]:
    """Ask the API what the key may do. Raises ApiError if it refuses the key or does not answer.

    An API that does not say (no list of scopes) has let the read pass: the rest shows when it is used.
    """
    with EnginesClient(base_url=connection.base_url, key=secret, request_id=request_id.get()) as client:
        found: Any = client.me()
        client.list(limit=1)
    scopes = (found.get("key") or found.get("api_key") or {}).get("scopes", found.get("scopes"))
    return [str(scope) for scope in scopes] if scopes else ["*"]


def abilities(key: StoredKey) -> list[dict[str, Any]]:
    """Return what the key can be used for, as far as its scopes say."""
    scopes = set(key.scopes)
    wanted = [("See engines", READS), ("Drain engines", WRITES)]
    return [
        {"label": label, "allowed": bool(scopes & set(some)), "why_not": f"needs {some[0]}"} for label, some in wanted
    ]
