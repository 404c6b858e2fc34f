"""Single sign-on: an OpenID Connect provider says who somebody is. Set up by OIDC_*; without these there is none of it.

A person is known by the provider (`issuer`) and its name for them (`subject`), never by an e-mail address: whoever may
write addresses there could else take over accounts here. An account is linked by its owner, or made by an invitation.
"""

import logging
import time
from dataclasses import dataclass
from enum import StrEnum
from functools import lru_cache
from typing import Any

from authlib.integrations.base_client import OAuthError
from authlib.integrations.django_client import OAuth
from django.conf import settings
from django.http import HttpRequest
from django.urls import reverse
from joserfc.errors import JoseError
from requests import RequestException

log = logging.getLogger(__name__)

SECONDS = 10.0  # for the provider to answer
LONGEST = 255  # characters of a subject, as OpenID Connect Core 1.0 has it
LEEWAY = 60  # seconds by which the provider's clock may differ


class Refused(Exception):
    """The provider's answer lets nobody in. `str()` says why."""


class Intent(StrEnum):
    """What somebody went to the provider for."""

    SIGN_IN = "sign in"
    LINK = "link"
    CONFIRM = "confirm"


@dataclass(frozen=True)
class Person:
    """Who the provider says it is."""

    issuer: str
    subject: str
    email: str  # "" if the provider does not vouch for it
    name: str
    asked_at: float  # when it last asked for a proof, in seconds since the epoch; 0 if it does not say


def is_configured() -> bool:
    return bool(settings.OIDC_SERVER_URL)


def start(request: HttpRequest, intent: Intent, **kept: Any) -> str:
    """Return the provider's address to go to. `kept` is there again when it sends the browser back. Raises Refused."""
    where = settings.PORTAL_URL + reverse("sso-callback") if settings.PORTAL_URL else _here(request)
    asked = {"prompt": "login", "max_age": "0"} if intent == Intent.CONFIRM else {}
    client = _client()
    try:
        _issuer(client)
        begun = client.create_authorization_url(where, **asked)
    except (OAuthError, RequestException, RuntimeError, ValueError) as error:
        raise _not_understood(error) from error
    client.save_authorize_data(request, redirect_uri=where, intent=intent.value, **kept, **begun)
    return str(begun["url"])


def kept(request: HttpRequest) -> dict[str, Any]:
    """Return what `start` kept in this browser's session; nothing if it did not begin here, or is over."""
    client = _client()
    found = client.framework.get_state_data(request.session, request.GET.get("state", ""))
    return found or {}


def finish(request: HttpRequest) -> Person:
    """Fetch who it is, once: state, PKCE, nonce, signature, issuer, audience and time are checked. Raises Refused."""
    client = _client()
    try:
        issuer = _issuer(client)
        options = {
            "iss": {"essential": True, "value": issuer},
            "aud": {"essential": True, "value": settings.OIDC_CLIENT_ID},
            "sub": {"essential": True},
        }
        claims = client.authorize_access_token(request, claims_options=options, leeway=LEEWAY).get("userinfo")
    except (OAuthError, JoseError, RequestException, RuntimeError, ValueError, KeyError) as error:
        raise _not_understood(error) from error
    if not claims:
        raise Refused(f"{settings.OIDC_NAME} did not say who you are.")
    subject, asked_at = str(claims["sub"]), claims.get("auth_time")
    if len(subject) > LONGEST or not subject.isprintable():
        raise Refused(f"{settings.OIDC_NAME} calls you by a name that the portal cannot keep: ask who runs it.")
    email = claims.get("email", "") if claims.get("email_verified") is True else ""
    return Person(
        issuer=issuer,
        subject=subject,
        email=str(email).lower(),
        name=str(claims.get("name", "")).replace("\0", "")[:100],
        asked_at=asked_at if isinstance(asked_at, int | float) else 0,
    )


def proved_at(person: Person) -> float:
    """Return when the provider last asked for a proof, by the portal's clock; 0 if it does not say, or cannot be."""
    now = time.time()
    return min(person.asked_at, now) if person.asked_at <= now + LEEWAY else 0


def _issuer(client: Any) -> str:
    """Return the provider's name, which must be the configured address (OpenID Connect Discovery 1.0, 4.3)."""
    issuer = str(client.load_server_metadata().get("issuer", ""))
    if issuer.rstrip("/") != settings.OIDC_SERVER_URL:
        raise ValueError(f"it calls itself {issuer!r}, not {settings.OIDC_SERVER_URL!r}")
    return issuer


def _here(request: HttpRequest) -> str:
    return request.build_absolute_uri(reverse("sso-callback"))


def _not_understood(error: Exception) -> Refused:
    log.warning("single sign-on failed: %s: %s", type(error).__name__, error)
    return Refused(f"{settings.OIDC_NAME} could not confirm who you are. Try again; the log of the portal knows more.")


def _client() -> Any:
    return _registered(settings.OIDC_SERVER_URL, settings.OIDC_CLIENT_ID, settings.OIDC_CLIENT_SECRET)


@lru_cache(maxsize=1)
def _registered(url: str, client_id: str, secret: str) -> Any:
    """What the provider publishes is fetched at the first sign-in and kept for the life of the process."""
    return OAuth().register(
        "sso",
        client_id=client_id,
        client_secret=secret or None,
        server_metadata_url=f"{url}/.well-known/openid-configuration",
        client_kwargs={
            "scope": "openid email profile",
            "code_challenge_method": "S256",
            "default_timeout": SECONDS,
        },
    )
