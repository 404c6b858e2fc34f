"""Who calls, and whether their key may do this."""

from typing import cast

from django.http import HttpRequest
from ninja.security import HttpBearer

from engines.controlplane import keys, problems, ratelimits
from engines.controlplane.models import ApiKey, Team


class Bearer(HttpBearer):
    """Lets a request pass whose key is valid and has `scope`; "" asks for no scope. Raises Problem 401 or 403."""

    def __init__(self, scope: str = "") -> None:
        super().__init__()
        self.scope = scope

    def __call__(self, request: HttpRequest) -> ApiKey:
        key = who(request.headers.get("Authorization", ""), request.META.get("REMOTE_ADDR", ""))
        kind = ratelimits.kind_of(request.method or "", request.path_info)
        request.allowance = ratelimits.take(key.pk, kind)  # type: ignore[attr-defined]  # for the answer's headers
        return may(key, self.scope)

    def authenticate(self, request: HttpRequest, token: str) -> ApiKey:
        return check(f"Bearer {token}", self.scope)


def check(header: str, scope: str, address: str = "") -> ApiKey:
    """Return the key in an Authorization header. Raises Problem 401, 403, or 429 as `who` does."""
    return may(who(header, address), scope)


def who(header: str, address: str = "") -> ApiKey:
    """Return the key in an Authorization header. Raises Problem 401, or 429 if `address` sent too many that are none.

    A key that is valid passes whatever others at its address send.
    """
    kind, _, text = header.partition(" ")
    if kind.lower() != "bearer" or not text.strip():
        ratelimits.take_failure(address)
        raise problems.unauthorized("This needs a key: send `Authorization: Bearer inf_…`.")
    key = keys.find(text.strip())
    if key is None:
        ratelimits.take_failure(address)
        raise problems.unauthorized("This key is not valid. It may have been revoked or have expired.")
    return key


def may(key: ApiKey, scope: str) -> ApiKey:
    """Return the key if it has the scope. Raises Problem 403."""
    if scope and not keys.grants(key.scopes, scope):
        raise problems.insufficient_scope(scope)
    return key


def key_of(request: HttpRequest) -> ApiKey:
    return cast(ApiKey, request.auth)  # type: ignore[attr-defined]  # set by ninja


def team_of(request: HttpRequest) -> Team:
    return key_of(request).team
